//! Watches of all jobs of a namespace that match a filter.
//!
//! Layout: this file collects the changes of all jobs for the watches; `watcher` is one watch; `matching` lists the jobs of a filter.

pub(super) mod matching;
pub mod watcher;

use foldhash::HashMap;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use lru::LruCache;
use tokio::sync::Notify;

use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::Job;
use crate::domain::time::Timestamp;

/// Maximum number of changed jobs that a watch has not taken. With more, it lists all jobs again.
const MAX_CHANGED: usize = 10_000;

/// Number of jobs whose newest revision is remembered, so that an older one that is published later is dropped.
const MAX_SEEN: usize = 20_000;

/// The newest state of changed jobs. None: the job was deleted.
pub type ChangedJobs = HashMap<JobKey, Option<Arc<Job>>>;

/// The boards of a server.
#[derive(Default)]
pub struct Boards {
    /// Number of boards. Without any, publishing takes no lock.
    count: AtomicUsize,
    numbers: AtomicU64,
    all: Mutex<HashMap<u64, Weak<Board>>>,
    /// Changes since the last announcement.
    pending: Mutex<PendingChanges>,
    /// Create time and newest published revision by job.
    seen: Mutex<Option<LruCache<JobKey, (Timestamp, i64)>>>,
}

#[derive(Default)]
struct PendingChanges {
    changed: ChangedJobs,
    /// Any job may have changed.
    overflowed: bool,
}

/// The changes in a namespace that one watch has not taken.
pub struct Board {
    namespace: NamespaceId,
    pending: Mutex<PendingChanges>,
    filled: Notify,
}

/// What a watch takes from its board.
pub enum BoardChanges {
    /// The jobs that changed.
    Jobs(ChangedJobs),
    /// Any job may have changed: all have to be listed again.
    All,
}

impl Boards {
    /// Adds the board of a watch. It is removed when the watch drops it.
    pub fn add(&self, namespace: NamespaceId) -> Arc<Board> {
        let board = Arc::new(Board { namespace, pending: Mutex::default(), filled: Notify::new() });
        let mut all = self.all.lock();
        all.retain(|_, board| board.strong_count() > 0);
        if all.is_empty() {
            // Nothing was published since the last board was removed, and what was pending was for that one.
            *self.pending.lock() = PendingChanges::default();
            *self.seen.lock() = None;
        }
        all.insert(self.numbers.fetch_add(1, Ordering::Relaxed), Arc::downgrade(&board));
        self.count.store(all.len(), Ordering::Release);
        board
    }

    /// Notes the newest state of a job. None: it was deleted. Returns whether boards have to be woken by [`Self::announce`].
    pub fn publish(&self, key: JobKey, job: Option<&Arc<Job>>) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        if job.is_some_and(|job| !self.is_newer(job)) {
            return false;
        }
        self.pending.lock().add(key, job.cloned());
        true
    }

    /// The newest published revision of a job. 0: none is remembered.
    pub fn seen(&self, key: &JobKey) -> i64 {
        let seen = self.seen.lock();
        seen.as_ref().and_then(|seen| seen.peek(key)).map_or(0, |(_, revision)| *revision)
    }

    /// Whether a job is newer than what was published of it: lanes and polls publish in any order.
    fn is_newer(&self, job: &Job) -> bool {
        let mut seen = self.seen.lock();
        let seen = seen.get_or_insert_with(|| LruCache::new(NonZeroUsize::new(MAX_SEEN).unwrap_or(NonZeroUsize::MIN)));
        let state = (job.meta.create_time, job.revision);
        let is_newer = seen.get(&job.key).is_none_or(|known| *known < state);
        if is_newer {
            seen.put(job.key, state);
        }
        is_newer
    }

    /// Notes that any job may have changed. Returns whether boards have to be woken by [`Self::announce`].
    pub fn publish_all(&self) -> bool {
        if self.is_empty() {
            return false;
        }
        self.pending.lock().overflowed = true;
        true
    }

    /// Whether a namespace has boards.
    pub fn has(&self, namespace: NamespaceId) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.all.lock().values().any(|board| is_of(board, namespace))
    }

    /// Whether there are no boards.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Moves what was published since the last call to the boards.
    pub fn announce(&self) {
        if self.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut *self.pending.lock());
        if pending.changed.is_empty() && !pending.overflowed {
            return;
        }
        let mut all = self.all.lock();
        all.retain(|_, board| board.strong_count() > 0);
        self.count.store(all.len(), Ordering::Release);
        for board in all.values().filter_map(Weak::upgrade) {
            board.add(&pending);
        }
    }
}

fn is_of(board: &Weak<Board>, namespace: NamespaceId) -> bool {
    board.upgrade().is_some_and(|board| board.namespace == namespace)
}

impl PendingChanges {
    fn add(&mut self, key: JobKey, job: Option<Arc<Job>>) {
        if self.overflowed {
            return;
        }
        self.changed.insert(key, job);
        if self.changed.len() > MAX_CHANGED {
            self.changed.clear();
            self.overflowed = true;
        }
        debug_assert!(self.changed.len() <= MAX_CHANGED, "what is pending is bounded");
    }
}

impl Board {
    fn add(&self, changes: &PendingChanges) {
        let mut pending = self.pending.lock();
        pending.overflowed |= changes.overflowed;
        for (key, job) in changes.changed.iter().filter(|(key, _)| key.namespace == self.namespace) {
            pending.add(*key, job.clone());
        }
        let is_filled = pending.overflowed || !pending.changed.is_empty();
        drop(pending);
        if is_filled {
            self.filled.notify_one();
        }
    }

    /// Waits until jobs have changed, and takes them.
    pub async fn changed(&self) -> BoardChanges {
        loop {
            {
                let mut pending = self.pending.lock();
                if std::mem::take(&mut pending.overflowed) {
                    pending.changed.clear();
                    return BoardChanges::All;
                }
                if !pending.changed.is_empty() {
                    return BoardChanges::Jobs(std::mem::take(&mut pending.changed));
                }
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::operation::tests::bench::Bench;
    use crate::operation::tests::build::{BuildStage, stage};

    fn taken(board: &Board) -> Option<BoardChanges> {
        board.changed().now_or_never()
    }

    #[test]
    fn boards_get_the_newest_state_of_jobs_of_their_namespace() {
        let boards = Boards::default();
        let mut bench = Bench::with(vec![stage("a").direct()]);
        let (key, first) = (bench.job().key, bench.job());
        assert!(!boards.publish(key, Some(&first)), "without a board nothing is published");
        let board = boards.add(key.namespace);
        let other = boards.add(NamespaceId(key.namespace.0 + 1));
        bench.progress("a", Some(0.5), None).expect("progress");
        assert!(boards.publish(key, Some(&bench.job())));
        assert!(!boards.publish(key, Some(&first)), "an older state is dropped");
        assert_eq!(boards.seen(&key), bench.job().revision);
        assert!(taken(&board).is_none(), "nothing was announced");
        boards.announce();
        match taken(&board) {
            Some(BoardChanges::Jobs(changed)) => {
                let revisions: Vec<_> = changed.values().flatten().map(|job| job.revision).collect();
                assert_eq!(revisions, [bench.job().revision]);
            }
            Some(BoardChanges::All) | None => panic!("one job changed"),
        }
        assert!(taken(&board).is_none() && taken(&other).is_none());
        assert!(boards.publish(key, None));
        boards.announce();
        assert!(matches!(taken(&board), Some(BoardChanges::Jobs(changed)) if changed[&key].is_none()));
        drop((board, other));
        boards.announce();
        boards.publish_all();
        boards.announce();
        assert!(boards.is_empty() && !boards.has(key.namespace));
    }

    #[test]
    fn a_board_with_too_many_changes_lists_all_jobs_again() {
        let boards = Boards::default();
        let board = boards.add(NamespaceId(1));
        for _ in 0..=MAX_CHANGED {
            assert!(boards.publish(JobKey { namespace: NamespaceId(1), uid: uuid::Uuid::new_v4() }, None));
        }
        boards.announce();
        assert!(matches!(taken(&board), Some(BoardChanges::All)));
        assert!(taken(&board).is_none());
    }
}
