//! Connections to Postgres: how they are made, and how a writer's own connection comes back after a loss.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use postgres_types::ToSql;
use tokio_postgres::{Row, Statement};

use super::commit::Prepared;
pub use super::target::Target;
use crate::error::{Error, Result};

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
    /// Somebody else was faster: it is worth deciding again on newer state.
    Beaten,
    /// The content of some row was refused.
    Poisoned(String),
    /// Trying again at once is no use.
    Failed(Error),
}

impl Fault {
    /// Of an error that the database told, or that came before anything was sent to be committed.
    pub fn of(error: &DbError) -> Self {
        match error.code().map(|code| code.code().to_owned()).as_deref() {
            // Somebody else inserted the same id; serialization, deadlock and lock timeouts are the same to us.
            Some("23505" | "40001" | "40P01" | "55P03") => Self::Beaten,
            Some(code) if code.starts_with("22") || code.starts_with("23") => Self::Poisoned(format!("{error:?}")),
            Some(_) => Self::Failed(unavailable(error)),
            None => Self::Failed(Error::StoreUnavailable),
        }
    }
}

/// Whether somebody held a row for longer than a statement waits.
pub fn is_lock_timeout(error: &DbError) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE)
}

/// The error of a statement that wrote nothing, for the caller.
pub fn unavailable(error: &tokio_postgres::Error) -> Error {
    match error.code() {
        None => {
            tracing::warn!(%error, "the database connection failed");
            Error::StoreUnavailable
        }
        Some(code) => match &code.code()[..2] {
            // Going away, out of resources, operator intervention, or a primary that was demoted.
            "08" | "53" | "57" | "25" => {
                tracing::warn!(%error, code = code.code(), "the database refuses");
                Error::StoreUnavailable
            }
            "40" | "55" => Error::Conflict,
            _ => Error::bug(format!("the database refused a statement: {error:?}")),
        },
    }
}
