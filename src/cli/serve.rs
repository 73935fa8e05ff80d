//! `interlock serve`: a server over an existing Postgres.

use clap::Args;

use super::flags::DatabaseFlag;
use super::run_server::{Ports, ServerStart, StdinFlag, run_server};
use super::text::announce;
use crate::config::{Config, Overrides};
use crate::telemetry;

/// Run a server over an existing Postgres.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    database: DatabaseFlag,
    #[command(flatten)]
    stdin: StdinFlag,
    #[command(flatten)]
    settings: Overrides,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.settings, self.database.database_url.as_ref())?;
        let traces = telemetry::start_with_traces(&config)?;
        let database_url = config.require_database_url()?.clone();
        let ports = Ports::take(&config, false).await?;
        let (config, database_url) = (&config, database_url.expose());
        let until_stdin_closes = self.stdin.until_stdin_closes;
        let start = ServerStart { config, database_url, ports, tls: None, traces, namespace: None, until_stdin_closes };
        run_server(start, |listening| {
            announce(format!("listening on {}", listening.calls));
            if let Some(metrics) = listening.metrics {
                announce(format!("metrics on http://{metrics}/metrics"));
            }
        })
        .await
    }
}
