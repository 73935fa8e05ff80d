//! What happens after a commit: watches and waiting calls are woken, on this server and on others.
//!
//! Layout: `job` are watches of one job, which send every step; `board` are watches of all jobs that match a filter; `follow` are watches of
//! records and resources, which send the newest version. All of them follow keys, get what lanes publish after a commit, are woken together, and
//! share their reads: `shared_read` is one read of the same thing, `batch` one read of many things. `peers` are the other servers: hints and
//! polls. `keepalive` and `open_watch` are what all streams have. `hub` is where commits come in.
//!
//! **Invariants.** A watch holds a revision and what it is about to send, a page at most, so a slow one costs
//! little, and that is charged to the budget of `sending`; it never waits for its client with a lock or a connection. Hints may be lost: that costs time, never a change, because a poll
//! finds all that is followed. Lanes only put into the hub; waking, encoding and sending is done by other tasks.

mod batch;
pub mod board;
pub mod follow;
mod hub;
pub mod job;
mod keepalive;
mod open_watch;
mod peers;
mod shared_read;
mod update_queue;

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use follow::start_polls;
pub use hub::{FeedSettings, Hub};
pub use keepalive::KeepaliveTimer;
use peers::Peers;
pub use update_queue::{UpdateQueue, Weighed};

/// The tasks of the feed.
pub struct Feed {
    end: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Feed {
    /// Starts the tasks that wake watches, exchange hints and poll for commits of other servers.
    pub fn start(hub: &Arc<Hub>, store: &Store) -> Self {
        let end = CancellationToken::new();
        let peers = Arc::new(Peers::new(hub.clone(), store.clone()));
        let mut tasks = vec![tokio::spawn(hub.clone().announce(end.clone()))];
        if hub.settings.listen {
            let (peers, end) = (peers.clone(), end.clone());
            tasks.push(tokio::spawn(async move { peers.exchange_hints(end).await }));
        }
        let ends = end.clone();
        tasks.push(tokio::spawn(async move { peers.follow(ends).await }));
        tasks.extend(start_polls(hub, store, &end));
        Self { end, tasks }
    }

    /// Ends the tasks, and waits for them.
    pub async fn stop(self) {
        self.end.cancel();
        for task in self.tasks {
            let _ended = task.await;
        }
    }
}
