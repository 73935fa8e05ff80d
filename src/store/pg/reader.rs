//! A pooled connection that returns to the pool only when nothing runs on it any more.
//!
//! A call that is cancelled leaves its statement running, and the next user of the connection would wait for it. So a connection with an abandoned
//! statement gets 100 ms to finish it; then the statement is cancelled and the connection closed. Only reads and updates of background loops run
//! on such connections, which may be cancelled at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use postgres_types::ToSql;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::{Row, Statement};

use super::connection::{DbResult, Explained, Run};
use super::pool::Pooled;

/// How long an abandoned statement may still take.
const FINISH: Duration = Duration::from_millis(100);
/// How long the request to cancel it may take.
const CANCEL: Duration = Duration::from_secs(5);

/// A pooled connection with its place among the concurrent reads.
pub struct Reader {
    /// None: the reader was dropped.
    lent: Option<(Pooled, OwnedSemaphorePermit)>,
    running: Arc<AtomicUsize>,
}

/// A statement or transaction that runs on a connection. Dropped before [`InUse::done`], it was abandoned.
pub struct InUse(Arc<AtomicUsize>);

impl InUse {
    /// Says that it has ended, successfully or not.
    pub fn done(self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Reader {
    /// A reader of a connection of the pool, on which nothing runs.
    pub fn new(client: Pooled, slot: OwnedSemaphorePermit) -> Self {
        Self { lent: Some((client, slot)), running: Arc::default() }
    }

    /// Says that something begins that does not go through [`Run`], such as a transaction.
    pub fn in_use(&self) -> InUse {
        self.running.fetch_add(1, Ordering::AcqRel);
        InUse(self.running.clone())
    }
}

impl Run for Reader {
    async fn prepare_once(&self, sql: &'static str) -> DbResult<Statement> {
        let in_use = self.in_use();
        let prepared = (**self).prepare_once(sql).await;
        in_use.done();
        prepared
    }

    async fn prepare_new(&self, sql: &str) -> DbResult<Statement> {
        let in_use = self.in_use();
        let prepared = (**self).prepare_new(sql).await;
        in_use.done();
        prepared
    }

    async fn collect(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> DbResult<Vec<Row>> {
        let in_use = self.in_use();
        let rows = (**self).collect(statement, params).await;
        in_use.done();
        rows
    }
}

impl std::ops::Deref for Reader {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        match &self.lent {
            Some((client, _)) => client,
            None => unreachable!("it is taken out only when the reader is dropped"),
        }
    }
}

impl std::ops::DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        match &mut self.lent {
            Some((client, _)) => client,
            None => unreachable!("it is taken out only when the reader is dropped"),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some((client, slot)) = self.lent.take() else { return };
        if self.running.load(Ordering::Acquire) == 0 || client.is_closed() {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(finish(client, slot))),
            Err(_) => drop(Pooled::take(client)),
        }
    }
}

/// Waits for an abandoned statement, then cancels it. Statements are answered in order, so the response to an empty one shows that it has ended.
async fn finish(client: Pooled, _turn: OwnedSemaphorePermit) {
    if let Ok(Ok(_)) = tokio::time::timeout(FINISH, client.simple_query("")).await {
        return;
    }
    // Without a pool the server is shutting down.
    let Some(target) = Pooled::pool(&client).map(|pool| pool.manager().target().clone()) else { return };
    let client = Pooled::take(client);
    if let Ok(Err(error)) = tokio::time::timeout(CANCEL, target.cancel(&client)).await {
        tracing::debug!(error = %Explained(&error), "an abandoned statement was not cancelled");
    }
}
