//! Connections to Postgres: running statements on them, and errors of the database.

use std::fmt;

use deadpool_postgres::ClientWrapper;
use postgres_types::ToSql;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Row, Statement};

pub use super::target::Target;
use crate::error::Error;
use crate::figures::Sparse;

/// An error of the driver, which holds the database's own error if there is one.
pub type DbError = tokio_postgres::Error;
/// What a statement returned, or why it did not.
pub type DbResult<T> = std::result::Result<T, DbError>;
/// A connection with its prepared statements.
pub type Client = ClientWrapper;
/// A transaction on a connection, which shares the prepared statements.
pub type Transaction<'a> = deadpool_postgres::Transaction<'a>;

/// A connection or a transaction, on which statements are run.
pub trait Run: Sync {
    /// Prepares a statement, once per connection.
    fn prepare_once(&self, sql: &'static str) -> impl Future<Output = DbResult<Statement>> + Send;

    /// Prepares a statement that the caller keeps.
    fn prepare_new(&self, sql: &str) -> impl Future<Output = DbResult<Statement>> + Send;

    /// Runs a prepared statement and collects its rows.
    fn collect(
        &self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = DbResult<Vec<Row>>> + Send;

    /// Prepares a statement once per connection, runs it and collects its rows. Boxed, because the future is large and most callers seldom
    /// reach it.
    fn rows(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = DbResult<Vec<Row>>> + Send {
        Box::pin(async move { self.collect(&self.prepare_once(sql).await?, params).await })
    }
}

macro_rules! run {
    ($type:ty) => {
        impl Run for $type {
            async fn prepare_once(&self, sql: &'static str) -> DbResult<Statement> {
                self.prepare_cached(sql).await
            }

            async fn prepare_new(&self, sql: &str) -> DbResult<Statement> {
                self.prepare(sql).await
            }

            async fn collect(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> DbResult<Vec<Row>> {
                self.query(statement, params).await
            }
        }
    };
}

run!(ClientWrapper);
run!(Transaction<'_>);

/// Session settings of connections that write groups.
///
/// Generic plans, because planning each group costs more than running it. No sequential scans, because a generic
/// plan made on an empty table would keep one. Hash joins stay on.
pub(in crate::store) const WRITER_SETUP: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off; \
    SET idle_in_transaction_session_timeout = '2s'; SET timezone = 'UTC'";

/// Session settings of pooled connections.
pub(in crate::store) const READER_SETUP: &str = "SET timezone = 'UTC'; SET jit = off";

/// What an error of a statement means for a group that was surely not committed by it.
#[derive(Debug)]
pub enum Fault {
    /// Another writer committed first; a decision on newer state may succeed.
    Conflict,
    /// Another session held a lock on a row or a table for longer than a statement waits.
    Blocked,
    /// Postgres refused the content of a row.
    InvalidData(String),
    /// A retry at once would fail too.
    Failed(Error),
}

impl Fault {
    /// The fault of an error that the database returned, or that came before anything was sent to be committed.
    pub fn of(error: &DbError) -> Self {
        match error.code().map(|code| code.code().to_owned()).as_deref() {
            Some("55P03") => Self::Blocked,
            // Another transaction inserted the same key; serialization failures and deadlocks are handled alike.
            Some("23505" | "40001" | "40P01") => Self::Conflict,
            // Invalid content: data, constraints, a row that would be written twice (21000), or was by a trigger or function (27000).
            Some(code) if ["21", "22", "23", "27"].iter().any(|class| code.starts_with(class)) => {
                Self::InvalidData(format!("{error:?}"))
            }
            Some(_) | None => Self::Failed(unavailable(error)),
        }
    }
}

/// Whether a row or a table was locked for longer than the statement waits.
pub fn is_lock_timeout(error: &DbError) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// Whether Postgres ended the session with this error, as it does when it panics. Its SQLSTATE then names a cause, such as a full disk, and does
/// not say whether the statement was committed.
pub fn ends_session(error: &DbError) -> bool {
    error.as_db_error().is_some_and(|error| match error.parsed_severity() {
        Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
        // Poolers leave out the field that is never translated.
        None => matches!(error.severity(), "FATAL" | "PANIC"),
    })
}

/// The error that the caller of a statement that wrote nothing gets.
pub fn unavailable(error: &DbError) -> Error {
    let Some(code) = error.code() else {
        warn(error, "the database connection failed");
        return Error::StoreUnavailable;
    };
    match &code.code()[..2] {
        _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
            warn(error, "the database takes no writes");
            Error::StoreReadOnly
        }
        _ if ends_session(error) => refusing(error),
        // Going away, out of resources, operator intervention, a broken disk, or a transaction that was ended.
        "08" | "53" | "57" | "58" | "25" => refusing(error),
        "40" | "55" => Error::Conflict,
        _ => Error::bug(format!("the database refused a statement: {error:?}")),
    }
}

fn refusing(error: &DbError) -> Error {
    warn(error, "the database refuses");
    Error::StoreUnavailable
}

/// Logs a failed statement, at most one line in three seconds, for many fail at once while the database is unavailable.
fn warn(error: &DbError, what: &'static str) {
    static LINES: Sparse = Sparse::of(3);
    if let Some(suppressed) = LINES.pass() {
        tracing::warn!(error = %Explained(error), suppressed, "{what}");
    }
}

/// An error with its causes in one line, for logs. By itself the driver says only `db error` for every error that Postgres returned.
pub struct Explained<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        while let Some(error) = next {
            next = error.source();
            match error.downcast_ref::<tokio_postgres::error::DbError>() {
                Some(error) => explain(error, f)?,
                None if next.is_some_and(<dyn std::error::Error>::is::<tokio_postgres::error::DbError>) => {}
                None => write!(f, "{error}{}", if next.is_some() { ": " } else { "" })?,
            }
        }
        Ok(())
    }
}

/// Writes severity, message, SQLSTATE, detail and hint of an error that Postgres returned.
fn explain(error: &tokio_postgres::error::DbError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}: {} (SQLSTATE {}", error.severity(), error.message(), error.code().code())?;
    for (name, text) in [("detail", error.detail()), ("hint", error.hint())] {
        if let Some(text) = text {
            write!(f, "; {name}: {}", text.replace('\n', " "))?;
        }
    }
    f.write_str(")")
}
