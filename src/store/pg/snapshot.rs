//! Reads of one snapshot, without round trips for its begin and its end.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use postgres_types::{ToSql, Type};
use tokio_postgres::{Row, Statement};

use super::connection::{DbResult, Run};
use super::reader::Reader;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A read-only transaction whose statements see the same state.
///
/// Its begin is sent with the first statement, before it, and its end when it is dropped, without waiting for an answer: Postgres runs what a
/// connection sends in order. Statements that are polled together are sent together too, so a page of one or two statements is one round trip.
pub struct Snapshot<'c> {
    client: &'c Reader,
    begin: String,
    has_begun: AtomicBool,
}

impl<'c> Snapshot<'c> {
    /// A snapshot that is taken by its first statement.
    pub fn of(client: &'c Reader) -> Self {
        Self::beginning(client, BEGIN.to_owned())
    }

    /// As [`Self::of`], under settings of the planner: commands that begin with `SET LOCAL`.
    pub fn under(client: &'c Reader, settings: &str) -> Self {
        Self::beginning(client, format!("{BEGIN}; {settings}"))
    }

    fn beginning(client: &'c Reader, begin: String) -> Self {
        Self { client, begin, has_begun: AtomicBool::new(false) }
    }

    /// Prepares a statement once per connection, whatever the planner knows of the tables later.
    pub async fn prepare_kept(&self, sql: &str, types: &[Type]) -> DbResult<Statement> {
        let in_use = self.client.in_use();
        let prepared = self.client.prepare_typed_cached(sql, types).await;
        in_use.done();
        prepared
    }

    /// Runs a statement that is not kept prepared, and collects its rows.
    pub async fn typed_rows(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> DbResult<Vec<Row>> {
        self.begun(self.client.query_typed(sql, params)).await
    }

    /// Runs commands without rows and parameters.
    pub async fn run(&self, commands: &str) -> DbResult<()> {
        self.begun(self.client.batch_execute(commands)).await
    }

    /// Sends the begin before a statement, if it is the first one: each is sent when it is polled first, and `join` polls in order.
    async fn begun<T>(&self, statement: impl Future<Output = DbResult<T>>) -> DbResult<T> {
        let in_use = self.client.in_use();
        let result = if self.has_begun.swap(true, Ordering::AcqRel) {
            statement.await
        } else {
            let (begun, result) = futures::future::join(self.client.batch_execute(&self.begin), statement).await;
            begun.and(result)
        };
        in_use.done();
        result
    }
}

impl Run for Snapshot<'_> {
    async fn prepare_once(&self, sql: &'static str) -> DbResult<Statement> {
        self.client.prepare_once(sql).await
    }

    async fn prepare_new(&self, sql: &str) -> DbResult<Statement> {
        self.client.prepare_new(sql).await
    }

    async fn collect(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> DbResult<Vec<Row>> {
        self.begun(self.client.collect(statement, params)).await
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        if *self.has_begun.get_mut() {
            // Sent by the first poll. Of a read-only transaction it is the same as a commit.
            drop(self.client.batch_execute("ROLLBACK").now_or_never());
        }
    }
}
