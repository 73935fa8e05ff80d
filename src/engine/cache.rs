//! What was last seen committed, bounded in entries and bytes. It is never trusted: every answer proves its versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use lru::LruCache;
use parking_lot::Mutex;

use super::world::Key;
use crate::domain::credential::KeyRing;
use crate::domain::job::Job;
use crate::domain::lease::{LeaseKey, StoredLease};
use crate::domain::namespace::Namespace;
use crate::domain::permit::resource::Resource;
use crate::domain::record::Record;
use crate::domain::request::RequestRecord;
use crate::domain::time::Timestamp;

/// One cached row with what is below it.
#[derive(Clone, Debug)]
pub enum Cached {
    /// A job.
    Job(Arc<Job>),
    /// A record.
    Record(Arc<Record>),
    /// A resource.
    Resource(Arc<Resource>),
    /// A remembered request; it never changes.
    Request(Arc<RequestRecord>),
    /// A namespace.
    Namespace(Arc<Namespace>),
    /// The credentials.
    KeyRing(Arc<KeyRing>),
}

impl Cached {
    fn bytes(&self) -> usize {
        match self {
            Self::Job(job) => job.weight_bytes(),
            Self::Record(record) => record.weight_bytes(),
            Self::Resource(resource) => resource.weight_bytes(),
            Self::Request(record) => 200 + 16 * record.jobs.len() + 8 * record.versions.len(),
            Self::Namespace(namespace) => 200 + namespace.name.len(),
            Self::KeyRing(ring) => ring.weight_bytes(),
        }
    }

    /// Counts up from 1 in what was made at one time.
    fn version(&self) -> i64 {
        match self {
            Self::Job(job) => job.revision,
            Self::Record(record) => record.version,
            Self::Resource(resource) => resource.version,
            Self::Request(record) => record.revision,
            Self::Namespace(namespace) => namespace.version,
            Self::KeyRing(ring) => ring.version,
        }
    }

    /// When it was made, where it can be made again under its key.
    fn made(&self) -> Timestamp {
        match self {
            Self::Job(job) => job.meta.create_time,
            Self::Record(record) => record.create_time,
            Self::Resource(resource) => resource.create_time,
            Self::Request(_) | Self::Namespace(_) | Self::KeyRing(_) => Timestamp(0),
        }
    }
}

/// The least recently used goes first.
pub struct Cache {
    inner: Mutex<Inner>,
    max_bytes: usize,
    max_entries: usize,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

struct Inner {
    entries: LruCache<Key, (Cached, usize), RandomState>,
    bytes: usize,
}

impl Inner {
    fn remove(&mut self, key: &Key) {
        if let Some((_, freed)) = self.entries.pop(key) {
            self.bytes -= freed;
        }
    }
}

/// What the cache holds and did.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // The words say it.
pub struct CacheFigures {
    pub entries: usize,
    pub bytes: usize,
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
}

impl Cache {
    /// An empty cache with its bounds.
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            inner: Mutex::new(Inner { entries: LruCache::unbounded_with_hasher(RandomState::default()), bytes: 0 }),
            max_bytes,
            max_entries,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// What is cached of a key.
    pub fn get(&self, key: &Key) -> Option<Cached> {
        let found = self.lock().entries.get(key).map(|(cached, _)| cached.clone());
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps what was seen committed, unless something newer is cached already. Of two things under one key that were made at different
    /// times nothing says which is the newer one (servers go by clocks of their own), so neither is kept.
    pub fn put(&self, key: Key, cached: Cached) {
        let bytes = cached.bytes();
        let mut inner = self.lock();
        match inner.entries.get_mut(&key) {
            Some((there, _)) if there.made() != cached.made() => return inner.remove(&key),
            Some((there, _)) if there.version() > cached.version() => return,
            Some(entry) => {
                let (_, freed) = std::mem::replace(entry, (cached, bytes));
                inner.bytes -= freed;
            }
            None => {
                inner.entries.put(key, (cached, bytes));
            }
        }
        inner.bytes += bytes;
        while inner.bytes > self.max_bytes || inner.entries.len() > self.max_entries {
            let Some((_, (_, freed))) = inner.entries.pop_lru() else { break };
            inner.bytes -= freed;
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes how long a lease lasts now in what is cached of its job, so that answers about the job show it.
    pub fn renew(&self, key: LeaseKey, lease: &StoredLease) {
        if let Some((Cached::Job(job), _)) = self.lock().entries.peek_mut(&Key::Job(key.job)) {
            Job::renew_lease(job, key.stage_no, lease.secret, lease.expires_at);
        }
    }

    /// Forgets a key.
    pub fn remove(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// What it holds and did.
    pub fn figures(&self) -> CacheFigures {
        let inner = self.lock();
        CacheFigures {
            entries: inner.entries.len(),
            bytes: inner.bytes,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}
