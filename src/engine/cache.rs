//! State that was last seen committed, bounded in entries and bytes. It may be stale: every commit checks the versions it rests on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use lru::LruCache;
use parking_lot::Mutex;

use super::settings::EngineSettings;
use crate::domain::aggregate::{Aggregate, for_each_aggregate};
use crate::domain::job::Job;
use crate::domain::lease::{LeaseKey, StoredLease};
use crate::domain::namespace::Namespace;
use crate::domain::request::RequestRecord;
use crate::domain::session::SessionKey;
use crate::domain::time::Timestamp;
use crate::operation::overlay::Key;

/// Segments may take this part of the bytes of all else, beside them.
const SHARE_OF_SEGMENTS: usize = 4;

/// What can be cached.
pub trait Cacheable: Sized {
    /// As an entry of the cache.
    fn to_cached(this: Arc<Self>) -> Cached;

    /// Out of an entry of the cache. None: the entry is of another type.
    fn of_cached(cached: &Cached) -> Option<&Arc<Self>>;
}

macro_rules! define_cached {
    ($($table:ident: $variant:ident, $aggregate:ty;)*) => {
        /// One entry of the cache.
        #[derive(Clone, Debug)]
        pub enum Cached {
            $(
                #[doc = concat!("An aggregate, ", stringify!($variant), ".")]
                $variant(Arc<$aggregate>),
            )*
            /// A remembered request; it never changes.
            Request(Arc<RequestRecord>),
            Namespace(Arc<Namespace>),
        }

        impl Cached {
            fn weight_bytes(&self) -> usize {
                match self {
                    $(Self::$variant(aggregate) => Aggregate::weight_bytes(&**aggregate),)*
                    Self::Request(record) => 200 + 16 * record.jobs.len() + 8 * record.versions.len(),
                    Self::Namespace(namespace) => 200 + namespace.name.len(),
                }
            }

            /// Counts changes from 1. Of two entries with the same create time the higher one is newer.
            fn version(&self) -> i64 {
                match self {
                    $(Self::$variant(aggregate) => Aggregate::version(&**aggregate),)*
                    Self::Request(record) => record.revision,
                    Self::Namespace(namespace) => namespace.version,
                }
            }

            /// Zero for what cannot be created again under the same key.
            fn create_time(&self) -> Timestamp {
                match self {
                    $(Self::$variant(aggregate) => Aggregate::create_time(&**aggregate),)*
                    Self::Request(_) | Self::Namespace(_) => Timestamp(0),
                }
            }
        }

        $(cacheable!($variant, $aggregate);)*
    };
}

macro_rules! cacheable {
    ($variant:ident, $type:ty) => {
        impl Cacheable for $type {
            fn to_cached(this: Arc<Self>) -> Cached {
                Cached::$variant(this)
            }

            fn of_cached(cached: &Cached) -> Option<&Arc<Self>> {
                match cached {
                    Cached::$variant(this) => Some(this),
                    _ => None,
                }
            }
        }
    };
}

for_each_aggregate!([define_cached]);
cacheable!(Request, RequestRecord);
cacheable!(Namespace, Namespace);

/// Committed state by key: segments of timelines, of which there are many and few are used again, and everything else. Of each the least recently
/// used entry is evicted first.
pub struct Cache {
    rows: Shelf,
    segments: Shelf,
}

/// Entries with bounds and counts of their own.
struct Shelf {
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
    /// Removes an entry; returns whether there was one.
    fn remove(&mut self, key: &Key) -> bool {
        let removed = self.entries.pop(key);
        self.bytes -= removed.as_ref().map_or(0, |(_, freed)| *freed);
        self.check();
        removed.is_some()
    }

    fn check(&self) {
        debug_assert!(self.bytes == 0 || !self.entries.is_empty(), "nothing has no bytes");
    }
}

/// Size of a cache, and counts since the server started.
#[derive(Clone, Copy, Debug)]
pub struct CacheFigures {
    /// Bound of the entries.
    pub max_entries: usize,
    pub entries: usize,
    /// Sum of their weights.
    pub bytes: usize,
    /// Lookups that found an entry.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Entries removed because of a bound.
    pub evictions: u64,
}

impl CacheFigures {
    /// Hits among all lookups, from 0 to 1.
    pub fn hit_rate(&self) -> f64 {
        let all = self.hits.saturating_add(self.misses);
        if all == 0 { 0.0 } else { self.hits as f64 / all as f64 }
    }
}

impl Cache {
    /// An empty cache within the bounds of the settings.
    pub fn of_settings(settings: &EngineSettings) -> Self {
        Self {
            rows: Shelf::new(settings.cache_entries, settings.cache_bytes),
            segments: Shelf::new(settings.segment_cache_entries, settings.cache_bytes / SHARE_OF_SEGMENTS),
        }
    }

    /// The entry of a key. None: there is none.
    pub fn get<T: Cacheable>(&self, key: &Key) -> Option<Arc<T>> {
        let shelf = self.shelf(key);
        let found = shelf.inner.lock().entries.get(key).and_then(|(cached, _)| T::of_cached(cached)).cloned();
        let counter = if found.is_some() { &shelf.hits } else { &shelf.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Whether there is an entry of a key. Counts neither as a use nor in the figures.
    pub fn contains(&self, key: &Key) -> bool {
        self.shelf(key).inner.lock().entries.contains(key)
    }

    /// Puts in what was seen committed, unless a newer version is there. Of two with different create times nothing tells which is the
    /// newer one (servers have clocks of their own), so neither stays.
    pub fn put<T: Cacheable>(&self, key: Key, value: Arc<T>) {
        self.shelf(&key).put(key, T::to_cached(value));
    }

    /// Updates the expiry of a lease in the entry of its job, so that responses about the job show it.
    pub fn renew(&self, key: LeaseKey, lease: &StoredLease) {
        if let Some((Cached::Job(job), _)) = self.rows.inner.lock().entries.peek_mut(&Key::Job(key.job)) {
            Job::renew_lease(job, key.stage_no, lease.secret, lease.expires_at);
        }
    }

    /// Removes the entry of a key.
    pub fn remove(&self, key: &Key) {
        self.shelf(key).inner.lock().remove(key);
    }

    /// Removes the segments of a session; returns how many there were.
    pub fn remove_segments(&self, session: SessionKey) -> usize {
        let mut inner = self.segments.inner.lock();
        let is_of_session = |key: &Key| matches!(key, Key::Segment(segment) if segment.session == session);
        let keys: Vec<Key> =
            inner.entries.iter().map(|(key, _)| key).filter(|key| is_of_session(key)).cloned().collect();
        keys.iter().filter(|key| inner.remove(key)).count()
    }

    /// Figures of everything but segments.
    pub fn figures(&self) -> CacheFigures {
        self.rows.figures()
    }

    /// Figures of the segments of timelines.
    pub fn segment_figures(&self) -> CacheFigures {
        self.segments.figures()
    }

    fn shelf(&self, key: &Key) -> &Shelf {
        if matches!(key, Key::Segment(_)) { &self.segments } else { &self.rows }
    }
}

impl Shelf {
    fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            inner: Mutex::new(Inner { entries: LruCache::unbounded_with_hasher(RandomState::default()), bytes: 0 }),
            max_bytes,
            max_entries,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    fn put(&self, key: Key, cached: Cached) {
        let bytes = cached.weight_bytes();
        let mut inner = self.inner.lock();
        match inner.entries.get_mut(&key) {
            Some((there, _)) if there.create_time() != cached.create_time() => {
                inner.remove(&key);
                return;
            }
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
        inner.check();
    }

    fn figures(&self) -> CacheFigures {
        let inner = self.inner.lock();
        CacheFigures {
            max_entries: self.max_entries,
            entries: inner.entries.len(),
            bytes: inner.bytes,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::NamespaceId;
    use crate::domain::record::{Record, RecordKey};
    use crate::domain::session::segment::{Segment, SegmentBody, SegmentKey, SegmentKind, SegmentStatus};

    /// A cache with these bounds of entries and bytes.
    fn bounded(entries: usize, bytes: usize) -> Cache {
        Cache { rows: Shelf::new(entries, bytes), segments: Shelf::new(entries, bytes) }
    }

    fn record(id: &str, version: i64, create_time: i64) -> (Key, Arc<Record>) {
        let key = RecordKey::new(NamespaceId(1), "films".into(), id.into());
        let record = Record { version, ..Record::new(key.clone(), Timestamp(create_time)) };
        (Key::Record(key), Arc::new(record))
    }

    fn version(cache: &Cache, (key, _): &(Key, Arc<Record>)) -> Option<i64> {
        cache.get::<Record>(key).map(|record| record.version)
    }

    #[test]
    fn the_newer_version_stays() {
        let cache = bounded(10, 1 << 20);
        let (old, new) = (record("a", 1, 5), record("a", 2, 5));
        for one in [&old, &new, &old] {
            cache.put(one.0.clone(), one.1.clone());
        }
        assert_eq!(version(&cache, &new), Some(2));
        assert!(cache.get::<Job>(&new.0).is_none(), "an entry has one type");
    }

    #[test]
    fn of_two_records_created_at_different_times_neither_stays() {
        let cache = bounded(10, 1 << 20);
        let (first, second) = (record("a", 9, 5), record("a", 1, 6));
        cache.put(first.0.clone(), first.1);
        cache.put(second.0.clone(), second.1.clone());
        assert_eq!((version(&cache, &second), cache.figures().bytes), (None, 0));
    }

    #[test]
    fn the_least_recently_used_entry_is_evicted() {
        let cache = bounded(2, 1 << 20);
        let [a, b, c] = ["a", "b", "c"].map(|id| record(id, 1, 5));
        cache.put(a.0.clone(), a.1.clone());
        cache.put(b.0.clone(), b.1.clone());
        assert_eq!(version(&cache, &a), Some(1));
        cache.put(c.0.clone(), c.1.clone());
        assert_eq!([&a, &b, &c].map(|one| version(&cache, one)), [Some(1), None, Some(1)]);
        let figures = cache.figures();
        assert_eq!((figures.entries, figures.evictions), (2, 1));
        let small = bounded(2, 1);
        small.put(a.0.clone(), a.1.clone());
        assert_eq!((version(&small, &a), small.figures().bytes), (None, 0), "it is larger than the cache");
    }
    #[test]
    fn segments_have_bounds_of_their_own_and_are_removed_by_session() {
        let cache = bounded(2, 1 << 20);
        let segment = |session: &str, key: &str| {
            let session = SessionKey::of(NamespaceId(1), session);
            Key::Segment(SegmentKey { session, key: key.into() })
        };
        let put = |key: &Key| {
            let Key::Segment(of) = key else { panic!("{key:?}") };
            cache.put(
                key.clone(),
                Arc::new(Segment {
                    key: of.clone(),
                    arrival: 1,
                    version: 1,
                    kind: SegmentKind::Transcript,
                    status: SegmentStatus::Final,
                    sequence: 0,
                    body: SegmentBody::default(),
                    create_time: Timestamp(1),
                    update_time: Timestamp(1),
                    delete_time: None,
                }),
            );
        };
        let row = record("a", 1, 5);
        cache.put(row.0.clone(), row.1.clone());
        let [a, b, c] = [segment("s", "a"), segment("t", "b"), segment("s", "c")];
        [&a, &b, &c].into_iter().for_each(put);
        assert_eq!((cache.segment_figures().entries, cache.segment_figures().evictions), (2, 1));
        assert_eq!(version(&cache, &row), Some(1), "segments evict nothing else");
        assert!(cache.get::<Segment>(&a).is_none() && cache.get::<Segment>(&b).is_some());
        assert!((cache.segment_figures().hit_rate() - 0.5).abs() < 1e-9);
        let session = SessionKey::of(NamespaceId(1), "s");
        assert_eq!([cache.remove_segments(session), cache.remove_segments(session)], [1, 0]);
        assert_eq!(cache.segment_figures().entries, 1);
    }
}
