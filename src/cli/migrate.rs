//! `interlock migrate`: brings the schema up to date and exits.

use clap::Args;

use super::flags::DatabaseFlag;
use super::text::say;
use crate::config::{Config, Overrides};
use crate::{app, telemetry};

/// Bring the schema of a database up to date, and end.
#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseFlag,
    #[command(flatten)]
    settings: Overrides,
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.settings, self.database.database_url.as_ref())?;
        telemetry::start(&config.log, config.log_format)?;
        app::migrate(config.require_database_url()?.expose()).await?;
        Ok(say("the schema is up to date")?)
    }
}
