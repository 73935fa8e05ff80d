//! Leader lease: of the servers of one database, the one that holds it runs the singleton background jobs.
//!
//! The lease is a row with an end, which the leader extends while it works. A server that stops releases it; that of a server which was
//! killed ends after [`DURATION`]. Nothing depends on there being one leader only: of two servers that do the same work, one is refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use uuid::Uuid;

use crate::error::Result;
use crate::store::Store;

/// How long the lease lasts unless it is extended.
const DURATION: Duration = Duration::from_secs(3);
/// How long the last answer of the database is used without asking again.
const ANSWER_VALID_FOR: Duration = Duration::from_secs(1);
/// Timeout of the release when the server stops.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// Name of the lease in the database.
const ROLE: &str = "background";

/// The leader lease as seen by this server.
pub struct LeaderLease {
    store: Store,
    server: Uuid,
    answer: Mutex<Option<LeaderAnswer>>,
    /// The last answer, for figures.
    is_leader: AtomicBool,
}

#[derive(Clone, Copy)]
struct LeaderAnswer {
    is_leader: bool,
    asked: Instant,
}

impl LeaderLease {
    /// Does not ask the database yet.
    pub fn new(store: Store) -> Self {
        Self { store, server: Uuid::new_v4(), answer: Mutex::default(), is_leader: AtomicBool::new(false) }
    }

    /// Acquires the lease if it is free, or extends it. Returns whether this server is the leader.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn acquire(&self) -> Result<bool> {
        let mut answer = self.answer.lock().await;
        if let Some(answer) = answer.filter(|answer| answer.asked.elapsed() < ANSWER_VALID_FOR) {
            return Ok(answer.is_leader);
        }
        let asked = Instant::now();
        *answer = None;
        self.is_leader.store(false, Ordering::Relaxed);
        let is_leader = self.store.acquire_leader_lease(ROLE, self.server, DURATION).await?;
        self.is_leader.store(is_leader, Ordering::Relaxed);
        *answer = Some(LeaderAnswer { is_leader, asked });
        Ok(is_leader)
    }

    /// Whether this server was the leader when it last asked.
    pub fn is_leader(&self) -> bool {
        self.is_leader.load(Ordering::Relaxed)
    }

    /// Releases the lease, so that another server can acquire it at once.
    pub async fn release(&self) {
        let mut answer = self.answer.lock().await;
        if answer.take().is_some_and(|answer| !answer.is_leader) {
            return;
        }
        match tokio::time::timeout(RELEASE_TIMEOUT, self.store.release_leader_lease(ROLE, self.server)).await {
            Ok(Ok(())) => {}
            // It ends by itself.
            Ok(Err(error)) => tracing::debug!(%error, "the leader lease was not released"),
            Err(_) => tracing::debug!("the leader lease was not released in time"),
        }
    }
}
