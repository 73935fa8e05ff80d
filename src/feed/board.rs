//! What changes among all jobs of a namespace, for those who watch many at once.

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

/// Jobs that may have changed between two looks; with more, who watches looks at all again.
const MAX_CHANGED: usize = 10_000;

/// Jobs whose newest state is remembered, so that an older one that comes later is not told.
const MAX_SEEN: usize = 20_000;

/// The newest state of what changed; `None` where a job is gone.
pub type Changed = HashMap<JobKey, Option<Arc<Job>>>;

/// All boards of a server.
#[derive(Default)]
pub struct Boards {
    /// How many there are, so that nothing is done for none.
    count: AtomicUsize,
    numbers: AtomicU64,
    all: Mutex<HashMap<u64, Weak<Board>>>,
    fresh: Mutex<Fresh>,
    /// When each job was made, and the newest revision that was noted of it.
    seen: Mutex<Option<LruCache<JobKey, (Timestamp, i64)>>>,
}

#[derive(Default)]
struct Fresh {
    changed: Changed,
    overflowed: bool,
}

/// One stream's view of a namespace: what changed since it looked.
pub struct Board {
    namespace: NamespaceId,
    news: Mutex<Fresh>,
    stir: Notify,
}

/// What a board has when it is looked at.
pub enum Look {
    /// These jobs.
    Changed(Changed),
    /// Too many: look at all.
    All,
}

impl Boards {
    /// Puts up a board.
    pub fn put_up(&self, namespace: NamespaceId) -> Arc<Board> {
        let board = Arc::new(Board { namespace, news: Mutex::default(), stir: Notify::new() });
        let mut all = self.all.lock();
        all.retain(|_, board| board.strong_count() > 0);
        if all.is_empty() {
            // What was noted for those before it is none of its business, and nothing was noted since.
            *self.fresh.lock() = Fresh::default();
            *self.seen.lock() = None;
        }
        all.insert(self.numbers.fetch_add(1, Ordering::Relaxed), Arc::downgrade(&board));
        self.count.store(all.len(), Ordering::Release);
        board
    }

    /// Notes the newest state of a job, or that it is gone. True if somebody may want to hear of it.
    pub fn note(&self, key: JobKey, job: Option<&Arc<Job>>) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        if job.is_some_and(|job| !self.is_news(job)) {
            return false;
        }
        self.fresh.lock().note(key, job.cloned());
        true
    }

    /// The newest revision that was noted of a job; 0 if none is remembered.
    pub fn seen(&self, key: &JobKey) -> i64 {
        let seen = self.seen.lock();
        seen.as_ref().and_then(|seen| seen.peek(key)).map_or(0, |(_, revision)| *revision)
    }

    /// Lanes and looks can be out of order: what is older than what was noted is no news.
    fn is_news(&self, job: &Job) -> bool {
        let mut seen = self.seen.lock();
        let seen = seen.get_or_insert_with(|| LruCache::new(NonZeroUsize::new(MAX_SEEN).unwrap_or(NonZeroUsize::MIN)));
        let state = (job.meta.create_time, job.revision);
        let is_news = seen.get(&job.key).is_none_or(|known| *known < state);
        if is_news {
            seen.put(job.key, state);
        }
        is_news
    }

    /// Notes that anything may have changed. True if somebody may want to hear of it.
    pub fn note_loss(&self) -> bool {
        if self.is_empty() {
            return false;
        }
        self.fresh.lock().overflowed = true;
        true
    }

    /// Whether somebody looks at all jobs of a namespace.
    pub fn has(&self, namespace: NamespaceId) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.all.lock().values().any(|board| is_of(board, namespace))
    }

    /// Whether there are boards at all.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Tells every board what was noted since the last time.
    pub fn announce(&self) {
        if self.is_empty() {
            return;
        }
        let fresh = std::mem::take(&mut *self.fresh.lock());
        if fresh.changed.is_empty() && !fresh.overflowed {
            return;
        }
        let mut all = self.all.lock();
        all.retain(|_, board| board.strong_count() > 0);
        self.count.store(all.len(), Ordering::Release);
        for board in all.values().filter_map(Weak::upgrade) {
            board.tell(&fresh);
        }
    }
}

fn is_of(board: &Weak<Board>, namespace: NamespaceId) -> bool {
    board.upgrade().is_some_and(|board| board.namespace == namespace)
}

impl Fresh {
    fn note(&mut self, key: JobKey, job: Option<Arc<Job>>) {
        if self.overflowed {
            return;
        }
        self.changed.insert(key, job);
        if self.changed.len() > MAX_CHANGED {
            self.changed.clear();
            self.overflowed = true;
        }
    }
}

impl Board {
    fn tell(&self, fresh: &Fresh) {
        let mut news = self.news.lock();
        news.overflowed |= fresh.overflowed;
        for (key, job) in fresh.changed.iter().filter(|(key, _)| key.namespace == self.namespace) {
            news.note(*key, job.clone());
        }
        let has_news = news.overflowed || !news.changed.is_empty();
        drop(news);
        if has_news {
            self.stir.notify_one();
        }
    }

    /// Waits until something changed, and takes it.
    pub async fn look(&self) -> Look {
        loop {
            {
                let mut news = self.news.lock();
                if std::mem::take(&mut news.overflowed) {
                    news.changed.clear();
                    return Look::All;
                }
                if !news.changed.is_empty() {
                    return Look::Changed(std::mem::take(&mut news.changed));
                }
            }
            self.stir.notified().await;
        }
    }
}
