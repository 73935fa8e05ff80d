//! Migrations of the schema: numbered, forward only, one server at a time.

use std::time::Duration;

use super::connection::{DbError, Explained, Target};
use super::no_connection::NoConnection;
use crate::error::Error;
use crate::failpoint;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The advisory lock under which servers migrate. An arbitrary number that no other program uses.
const LOCK: i64 = 0x696E_7465_726C_6F63;

/// How long a server waits for another that is migrating.
const WAIT: Duration = Duration::from_secs(300);

/// Why the schema is not up to date, in all detail, for the operator who starts the server.
#[derive(Debug, thiserror::Error)]
pub enum NotMigrated {
    /// No connection to the database was made.
    #[error(transparent)]
    NoConnection(#[from] NoConnection),
    /// Another server migrated for longer than 300 s.
    #[error("{}", Explained(.0))]
    NoTurn(DbError),
    /// The database has a migration that this program does not know.
    #[error("the schema is newer than this program, it has migration {0}: start a newer program")]
    TooNew(String),
    /// A migration failed, and was rolled back.
    #[error("{}", Explained(.0))]
    Migration(refinery::Error),
    /// The partitions of history could not be created.
    #[error(transparent)]
    Partitions(#[from] Error),
}

impl NotMigrated {
    fn of(error: refinery::Error) -> Self {
        match error.kind() {
            refinery::error::Kind::MissingVersion(migration) => Self::TooNew(migration.to_string()),
            _ => Self::Migration(error),
        }
    }
}

/// Applies missing migrations and creates the partitions of history. Returns the names of the applied migrations. A second run changes nothing.
pub async fn migrate(target: &Target) -> Result<Vec<String>, NotMigrated> {
    let setup = format!("SET lock_timeout = {}; SET timezone = 'UTC'", WAIT.as_millis());
    let mut client = target.connect(&setup).await?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(NotMigrated::NoTurn)?;
    failpoint::hit("before_migration");
    let report = embedded::migrations::runner().run_async(&mut *client).await.map_err(NotMigrated::of)?;
    let applied = report.applied_migrations().iter().map(ToString::to_string).collect();
    failpoint::hit("after_migration");
    crate::store::job::partitions::ensure(&client).await?;
    // The lock is released when the connection closes.
    Ok(applied)
}

/// The number of the newest migration.
pub fn newest() -> i32 {
    let runner = embedded::migrations::runner();
    let numbers = runner.get_migrations().iter().map(|migration| migration.version());
    numbers.max().unwrap_or_default()
}

/// Migrates an empty database to an earlier version, for tests of the migrations that follow.
#[cfg(any(test, feature = "failpoints"))]
#[allow(clippy::expect_used, reason = "only tests call it")]
pub async fn migrate_to(target: &Target, version: u32) {
    let mut client = target.connect("SET timezone = 'UTC'").await.expect("Postgres listens");
    let version = refinery::Target::Version(version.try_into().expect("not so many"));
    embedded::migrations::runner().set_target(version).run_async(&mut *client).await.expect("the migrations run");
}
