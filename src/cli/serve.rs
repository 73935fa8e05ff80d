//! `interlock serve`: a server over an existing Postgres.

use clap::Args;

use super::{Database, run_server};
use crate::config::{Config, Overrides};
use crate::telemetry;

/// Run a server over an existing Postgres.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    settings: Overrides,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.settings, self.database.database_url.as_ref())?;
        let traces = telemetry::start_with_traces(&config)?;
        let database_url = config.require_database_url()?.clone();
        run_server(&config, database_url.expose(), None, traces, |listening| {
            println!("listening on {}", listening.calls);
            if let Some(metrics) = listening.metrics {
                println!("metrics on http://{metrics}/metrics");
            }
        })
        .await
    }
}
