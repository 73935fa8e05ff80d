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

    /// Prepares a statement that was put together, once per connection.
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

#[cfg(test)]
mod tests {
    use super::super::connection::Target;
    use super::super::pool::{PoolSettings, ReadPool};
    use super::*;
    use crate::config::Config;
    use crate::store::tests::database;

    const STATE: &str = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), \
        current_setting('enable_sort'), txid_current_snapshot()::text";

    /// A pool of one connection.
    fn pool(url: &str) -> ReadPool {
        let settings = PoolSettings { max_connections: 1, min_connections: 1, ..(&Config::default()).into() };
        ReadPool::new(&Target::parse(url).expect("our own URL"), settings).expect("a pool")
    }

    fn state(rows: &[Row]) -> [String; 4] {
        [0, 1, 2, 3].map(|column| rows[0].get(column))
    }

    #[tokio::test]
    async fn statements_see_one_state_under_its_settings_and_leave_none_behind() {
        let database = database().await;
        let (reads, writes) = (pool(database.url()), pool(database.url()));
        let writer = writes.get().await.expect("a connection");
        let client = reads.get().await.expect("a connection");
        for is_known in [false, true] {
            let snapshot = Snapshot::under(&client, "SET LOCAL enable_sort = off");
            // Together: the second may not be sent before the begin, also if the first has to be prepared.
            let (first, second) = futures::join!(snapshot.rows(STATE, &[]), snapshot.typed_rows(STATE, &[]));
            let (first, second) = (state(&first.expect("a row")), state(&second.expect("a row")));
            writer.batch_execute("CREATE TABLE IF NOT EXISTS noise (); SELECT txid_current()").await.expect("a write");
            let third = state(&snapshot.rows(STATE, &[]).await.expect("a row"));
            assert_eq!(first[..3], ["repeatable read", "on", "off"], "{is_known}");
            assert!(first == second && second == third, "{first:?} {second:?} {third:?}");
            drop(snapshot);
            let after = state(&client.rows(STATE, &[]).await.expect("a row"));
            assert_eq!(after[..3], ["read committed", "off", "on"], "{is_known}");
            assert_ne!(after[3], first[3]);
        }
    }

    #[tokio::test]
    async fn a_snapshot_that_fails_or_is_given_up_leaves_the_connection_as_it_was() {
        let database = database().await;
        let reads = pool(database.url());
        let client = reads.get().await.expect("a connection");
        let snapshot = Snapshot::of(&client);
        let failed = futures::join!(snapshot.typed_rows("SELECT 1 / 0", &[]), snapshot.typed_rows("SELECT 1", &[]));
        assert!(failed.0.is_err() && failed.1.is_err(), "the second is of the same transaction");
        drop(snapshot);
        assert_eq!(state(&client.rows(STATE, &[]).await.expect("a row"))[0], "read committed");
        // Given up while it runs.
        let snapshot = Snapshot::of(&client);
        assert!(snapshot.typed_rows("SELECT pg_sleep(0.01)", &[]).now_or_never().is_none());
        drop(snapshot);
        drop(client);
        let client = reads.get().await.expect("the connection, or another one");
        assert_eq!(state(&client.rows(STATE, &[]).await.expect("a row"))[0], "read committed");
        // One that was never used sends nothing.
        drop(Snapshot::of(&client));
        assert_eq!(state(&client.rows(STATE, &[]).await.expect("a row"))[1], "off");
    }
}
