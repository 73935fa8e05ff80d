//! The flag for a database, which several commands have.

use clap::Args;

use crate::config::DatabaseUrl;

/// The database of the command.
#[derive(Debug, Args)]
pub struct DatabaseFlag {
    /// Postgres database, as a URL or as `key=value` pairs. Of several hosts the primary is used. Prefer the environment variable: other users of
    /// the machine can see flags.
    #[arg(long, env = "INTERLOCK_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<DatabaseUrl>,
}
