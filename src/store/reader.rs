//! A pooled connection that comes back only when nothing runs on it any more.
//!
//! A call that ends early leaves its statement running, and whoever got the connection next would wait for that one first. So a
//! connection that was broken off is given a moment to finish; after that the statement is cancelled and the connection closed.
//! What runs there are reads and updates of background loops, which may be cancelled at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use postgres_types::ToSql;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::{Row, Statement};

use super::connection::{DbResult, Explained, Run};
use super::pool::Pooled;

/// How long a broken off statement may still take.
const FINISH: Duration = Duration::from_millis(100);
/// How long asking Postgres to cancel it may take.
const CANCEL: Duration = Duration::from_secs(5);

/// A pooled connection with its turn among the reads.
pub struct Reader {
    /// There until it is dropped.
    lent: Option<(Pooled, OwnedSemaphorePermit)>,
    running: Arc<AtomicUsize>,
}

/// Something that runs on a connection; dropped before [`InUse::done`], it was broken off.
pub struct InUse(Arc<AtomicUsize>);

impl InUse {
    /// It has come to its end, good or bad.
    pub fn done(self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Reader {
    /// Lends a connection.
    pub fn new(client: Pooled, turn: OwnedSemaphorePermit) -> Self {
        Self { lent: Some((client, turn)), running: Arc::default() }
    }

    /// Says that something begins that is run past [`Run`], such as a transaction.
    pub fn in_use(&self) -> InUse {
        self.running.fetch_add(1, Ordering::AcqRel);
        InUse(self.running.clone())
    }
}

impl Run for Reader {
    async fn once(&self, sql: &'static str) -> DbResult<Statement> {
        let in_use = self.in_use();
        let prepared = (**self).once(sql).await;
        in_use.done();
        prepared
    }

    async fn anew(&self, sql: &str) -> DbResult<Statement> {
        let in_use = self.in_use();
        let prepared = (**self).anew(sql).await;
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
        let Some((client, turn)) = self.lent.take() else { return };
        if self.running.load(Ordering::Acquire) == 0 || client.is_closed() {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(finish(client, turn))),
            Err(_) => drop(Pooled::take(client)),
        }
    }
}

/// Lets what was broken off come to its end, or ends it. Statements are answered in order, so an empty one behind it tells.
async fn finish(client: Pooled, _turn: OwnedSemaphorePermit) {
    if let Ok(Ok(_)) = tokio::time::timeout(FINISH, client.simple_query("")).await {
        return;
    }
    // Without a pool the server is ending.
    let Some(target) = Pooled::pool(&client).map(|pool| pool.manager().target().clone()) else { return };
    let client = Pooled::take(client);
    if let Ok(Err(error)) = tokio::time::timeout(CANCEL, target.cancel(&client)).await {
        tracing::debug!(error = %Explained(&error), "a broken off statement was not cancelled");
    }
}
