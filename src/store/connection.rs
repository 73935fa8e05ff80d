//! Connections to Postgres: how they are made, and how a writer's own connection comes back after a loss.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use postgres_types::ToSql;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Row, Statement};

use super::commit::Prepared;
pub use super::target::Target;
use crate::error::{Error, Result};
use crate::figures::Sparse;

/// An error of the driver.
pub type DbError = tokio_postgres::Error;
/// A result of the driver.
pub type DbResult<T> = std::result::Result<T, DbError>;
/// A connection with its prepared statements.
pub type Client = ClientWrapper;
/// A transaction on one.
pub type Transaction<'a> = deadpool_postgres::Transaction<'a>;

/// Who can run a statement of ours: a connection, or a transaction on one.
pub trait Run: Sync {
    /// Prepares a statement, once per connection.
    fn once(&self, sql: &'static str) -> impl Future<Output = DbResult<Statement>> + Send;

    /// Prepares a statement that the caller keeps.
    fn anew(&self, sql: &str) -> impl Future<Output = DbResult<Statement>> + Send;

    /// Runs a prepared statement and collects its rows.
    fn collect(
        &self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = DbResult<Vec<Row>>> + Send;

    /// Runs a statement of ours. In a box of its own: a call that seldom asks the database should not carry along, and move about, all
    /// the room that asking takes.
    fn rows(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = DbResult<Vec<Row>>> + Send {
        Box::pin(async move { self.collect(&self.once(sql).await?, params).await })
    }
}

macro_rules! run {
    ($type:ty) => {
        impl Run for $type {
            async fn once(&self, sql: &'static str) -> DbResult<Statement> {
                self.prepare_cached(sql).await
            }

            async fn anew(&self, sql: &str) -> DbResult<Statement> {
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
/// Generic plans, because planning a group anew each time costs more than running it. No sequential scans, because a generic
/// plan made on an empty table would keep one. Hash joins stay on.
pub(super) const WRITER_SETUP: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off; \
    SET idle_in_transaction_session_timeout = '2s'; SET timezone = 'UTC'";

/// Session settings of pooled connections.
pub(super) const READER_SETUP: &str = "SET timezone = 'UTC'; SET jit = off";

/// The connection of one writer lane, and what it has prepared.
pub struct Lane {
    target: Target,
    lock_wait: Duration,
    open: Option<Open>,
}

/// A live connection.
pub struct Open {
    /// The connection.
    pub client: ClientWrapper,
    /// Its commit statements.
    pub prepared: Prepared,
}

impl Lane {
    /// A lane that connects when it is first used. `lock_wait` is how long its statements wait for a row that somebody else has locked.
    pub fn new(target: Target, lock_wait: Duration) -> Self {
        Self { target, lock_wait, open: None }
    }

    /// The connection, made anew if it was lost.
    pub async fn open(&mut self) -> Result<&mut Open> {
        if self.open.as_ref().is_none_or(|open| open.client.is_closed()) {
            let setup = format!("{WRITER_SETUP}; SET lock_timeout = {}", self.lock_wait.as_millis());
            let client = self.target.connect(&setup).await?;
            self.open = Some(Open { client, prepared: Prepared::default() });
        }
        self.open.as_mut().ok_or(Error::StoreUnavailable)
    }

    /// Gives up the connection; whatever state it was in is not reused.
    pub fn discard(&mut self) {
        self.open = None;
    }
}

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
    /// Of an error that the database told, or that came before anything was sent to be committed.
    pub fn of(error: &DbError) -> Self {
        match error.code().map(|code| code.code().to_owned()).as_deref() {
            Some("55P03") => Self::Blocked,
            // Somebody else inserted the same id; serialization failures and deadlocks are the same to us.
            Some("23505" | "40001" | "40P01") => Self::Conflict,
            // Of the content: data, constraints, a row that would be written twice (21000), or was by a trigger or function (27000).
            Some(code) if ["21", "22", "23", "27"].iter().any(|class| code.starts_with(class)) => {
                Self::InvalidData(format!("{error:?}"))
            }
            Some(_) | None => Self::Failed(unavailable(error)),
        }
    }
}

/// Whether a row or a table was held for longer than a statement waits.
pub fn is_lock_timeout(error: &DbError) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// Whether Postgres ended the session with this error, as it does when it panics. What a statement did before is then not known by its
/// SQLSTATE, which names the cause: a full disk, a file that cannot be opened.
pub fn ends_session(error: &DbError) -> bool {
    error.as_db_error().is_some_and(|error| match error.parsed_severity() {
        Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
        // Poolers leave out the field that is never translated.
        None => matches!(error.severity(), "FATAL" | "PANIC"),
    })
}

/// The error of a statement that wrote nothing, for the caller.
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

/// One line in a while for all statements that fail, of which there are many at once while the database is away.
fn warn(error: &DbError, what: &'static str) {
    static LINES: Sparse = Sparse::of(3);
    if let Some(suppressed) = LINES.pass() {
        tracing::warn!(error = %Explained(error), suppressed, "{what}");
    }
}

/// An error with all that caused it, in one line, for logs: by itself the driver says `db error` of all that Postgres said.
pub struct Explained<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        while let Some(error) = next {
            next = error.source();
            match error.downcast_ref::<tokio_postgres::error::DbError>() {
                Some(told) => explain(told, f)?,
                None if next.is_some_and(<dyn std::error::Error>::is::<tokio_postgres::error::DbError>) => {}
                None => write!(f, "{error}{}", if next.is_some() { ": " } else { "" })?,
            }
        }
        Ok(())
    }
}

/// What Postgres said of an error.
fn explain(told: &tokio_postgres::error::DbError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}: {} (SQLSTATE {}", told.severity(), told.message(), told.code().code())?;
    for (name, text) in [("detail", told.detail()), ("hint", told.hint())] {
        if let Some(text) = text {
            write!(f, "; {name}: {}", text.replace('\n', " "))?;
        }
    }
    f.write_str(")")
}
