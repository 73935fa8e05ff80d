//! `interlock migrate`

use clap::Args;

use super::Database;
use crate::config::{Config, Layer};
use crate::{app, telemetry};

/// Bring the schema of a database up to date, and end.
#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    settings: Layer,
}

impl Migrate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.settings, self.database.database_url.as_ref())?;
        telemetry::start(&config.log, config.log_format)?;
        app::migrate(config.require_database_url()?.expose()).await?;
        println!("the schema is up to date");
        Ok(())
    }
}
