//! What this server knows of others that write or lock what it writes: other servers, and sessions that are no server.
//!
//! Keys have a [`ContentionLevel`], tables are locked or not. Lanes note here what their commits run into, and ask here before the next group. All marks
//! expire by themselves. Only speed rests on them: each commit proves the versions that it stands on (optimistic concurrency control, Kung
//! and Robinson 1981).

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use foldhash::HashMap;
use tokio::time::Instant;

use crate::domain::job::Job;
use crate::error::Error;
use crate::operation::overlay::{Key, match_key};
use crate::store::aggregate::Stored;
use crate::store::commit::CommitMode;
use crate::store::held::Tables;

/// Time after its mark in which a key is at least [`ContentionLevel::Foreign`].
const FOREIGN_FOR: Duration = Duration::from_secs(10);
/// Time after its mark in which a key is [`ContentionLevel::Hot`]; then it is [`ContentionLevel::Foreign`].
const HOT_FOR: Duration = Duration::from_secs(1);
/// Time after its last mark in which a key is [`ContentionLevel::Blocked`]. Longer than an operation waits for a blocked row.
const BLOCKED_FOR: Duration = Duration::from_secs(10);
/// Time after another writer was noticed in which groups are committed [`CommitMode::PerComponent`].
const WRITERS_FOR: Duration = Duration::from_secs(10);
/// Marked keys at most. More are not marked until marks have expired; their operations need a round more.
const MAX_KEYS: usize = 50_000;

/// How much a key is contended. A higher level includes the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContentionLevel {
    /// Another server wrote it: its state is read before each decision, not taken from the cache.
    Foreign,
    /// Another server wrote it between the read for a decision and the commit: its operations go to the locking lane, which locks rows first.
    Hot,
    /// Another session holds its row for longer than a lane waits: the locking lane tries each operation apart from the others, without waiting.
    Blocked,
}

/// Contention as one server sees it, shared by its lanes.
#[derive(Default)]
pub struct Contention {
    marks: Mutex<Marks>,
    /// Tables that other sessions held when it was last looked, a bit of [`Tables`] each.
    tables: AtomicU16,
    /// Time by which a simulation is ahead of the clock.
    #[cfg(test)]
    ahead: Mutex<Duration>,
}

#[derive(Default)]
struct Marks {
    keys: HashMap<Key, Mark>,
    /// When the last key was marked at each level, so that nothing is looked up while no mark can be left.
    latest: [Option<Instant>; ContentionLevel::ALL.len()],
    /// When another writer was last noticed.
    other_writer: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    level: ContentionLevel,
    since: Instant,
}

/// What other sessions hold of the rows and tables that an operation needs.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blocked {
    /// A bit of [`Tables`] for each.
    tables: u16,
    /// In the order of keys, without repeats.
    rows: Vec<Key>,
}

impl Blocked {
    /// Whether a table is held.
    pub fn has_tables(&self) -> bool {
        self.tables > 0
    }

    /// The roots whose rows are held, in the order of keys.
    pub fn rows(&self) -> &[Key] {
        &self.rows
    }

    /// Whether a row is held.
    pub fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }
}

impl Contention {
    /// Raises keys to a level, or keeps them there for longer.
    pub fn mark<'a>(&self, level: ContentionLevel, keys: impl IntoIterator<Item = &'a Key>) {
        let now = self.now();
        self.marks.lock().mark(level, keys, now);
    }

    /// Whether a key can be at a level; false is usual, and saves looking keys up.
    pub fn has_any(&self, level: ContentionLevel) -> bool {
        let now = self.now();
        self.marks.lock().has_any(level, now)
    }

    /// Whether one of some keys is at a level.
    pub fn is_at<'a>(&self, level: ContentionLevel, keys: impl IntoIterator<Item = &'a Key>) -> bool {
        let (now, marks) = (self.now(), self.marks.lock());
        keys.into_iter().any(|key| marks.level(key, now) >= Some(level))
    }

    /// Those of some keys' rows and tables that other sessions hold.
    pub fn blocked<'a>(&self, keys: impl Iterator<Item = &'a Key> + Clone) -> Blocked {
        let tables = self.blocked_tables(keys.clone());
        let (now, marks) = (self.now(), self.marks.lock());
        let mut rows: Vec<Key> =
            keys.filter(|key| marks.level(key, now) == Some(ContentionLevel::Blocked)).cloned().collect();
        drop(marks);
        rows.sort_unstable();
        rows.dedup();
        Blocked { tables, rows }
    }

    /// Notes that the rows of some keys could be locked: those that were blocked no longer are.
    pub fn unblock<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let now = self.now();
        self.marks.lock().unblock(keys, now);
    }

    /// Notes that another server or session wrote or held rows, of which it is not known which.
    pub fn note_other_writer(&self) {
        let now = self.now();
        self.marks.lock().other_writer = Some(now);
    }

    /// The commit mode for groups whose rows are not locked before they are decided. While no other writer was noticed lately, all or nothing
    /// saves a pass over the rows; otherwise components that stood on stale state must not take their neighbours with them.
    pub fn commit_mode(&self) -> CommitMode {
        let (now, noticed) = (self.now(), self.marks.lock().other_writer);
        match noticed {
            Some(noticed) if now.saturating_duration_since(noticed) < WRITERS_FOR => CommitMode::PerComponent,
            Some(_) | None => CommitMode::AllOrNothing,
        }
    }

    /// Notes which tables other sessions hold. They stay noted until it is looked again, which the locking lane does while operations wait for
    /// them there.
    pub fn set_tables(&self, tables: &[Tables]) {
        self.tables.store(tables.iter().fold(0, |bits, tables| bits | *tables as u16), Ordering::Relaxed);
    }

    /// Notes that a group was written, so that no other session holds the table that every group is written to.
    pub fn note_write(&self) {
        if self.stops_all_writes() {
            self.tables.fetch_and(!(Tables::WriteGroups as u16), Ordering::Relaxed);
        }
    }

    /// The error for operations that met a lock or another writer in each round.
    pub fn error(&self) -> Error {
        if self.stops_all_writes() { Error::StoreReadOnly } else { Error::Conflict }
    }

    /// Whether another session holds the table that every group is written to.
    fn stops_all_writes(&self) -> bool {
        self.tables.load(Ordering::Relaxed) & Tables::WriteGroups as u16 != 0
    }

    /// Whether another session holds a table; false is usual.
    pub fn has_blocked_tables(&self) -> bool {
        self.tables.load(Ordering::Relaxed) != 0
    }

    /// Whether another session holds a table that one of some keys needs.
    pub fn needs_blocked_table<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> bool {
        self.blocked_tables(keys) != 0
    }

    fn blocked_tables<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> u16 {
        match self.tables.load(Ordering::Relaxed) {
            0 => 0,
            blocked => blocked & keys.fold(0, |bits, key| bits | tables_of(key)),
        }
    }

    #[cfg(not(test))]
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[cfg(test)]
    fn now(&self) -> Instant {
        Instant::now() + *self.ahead.lock()
    }

    /// Lets time pass in a simulation.
    #[cfg(test)]
    pub fn advance(&self, by: Duration) {
        *self.ahead.lock() += by;
    }
}

impl ContentionLevel {
    const ALL: [ContentionLevel; 3] = [Self::Foreign, Self::Hot, Self::Blocked];

    /// Time after a mark of this level in which the key is at it.
    const fn lasts(self) -> Duration {
        match self {
            Self::Foreign => FOREIGN_FOR,
            Self::Hot => HOT_FOR,
            Self::Blocked => BLOCKED_FOR,
        }
    }
}

impl Mark {
    /// The level at a moment. None: the mark has expired.
    fn level(self, now: Instant) -> Option<ContentionLevel> {
        let age = now.saturating_duration_since(self.since);
        [self.level, ContentionLevel::Foreign].into_iter().find(|level| age < level.lasts())
    }
}

impl Marks {
    fn mark<'a>(&mut self, level: ContentionLevel, keys: impl IntoIterator<Item = &'a Key>, now: Instant) {
        if self.keys.len() >= MAX_KEYS {
            self.keys.retain(|_, mark| mark.level(now).is_some());
        }
        for key in keys {
            if key.is_root() {
                self.other_writer = Some(now);
            }
            if self.keys.len() >= MAX_KEYS {
                continue;
            }
            let mark = self.keys.entry(key.clone()).or_insert(Mark { level, since: now });
            if mark.level(now) <= Some(level) {
                *mark = Mark { level, since: now };
            }
            self.latest[level as usize] = Some(now);
        }
    }

    fn level(&self, key: &Key, now: Instant) -> Option<ContentionLevel> {
        self.keys.get(key)?.level(now)
    }

    fn has_any(&mut self, level: ContentionLevel, now: Instant) -> bool {
        let is_left = |at: ContentionLevel| {
            // A mark of a higher level is one of the lowest at its end.
            let lasts = if level == ContentionLevel::Foreign { FOREIGN_FOR.max(at.lasts()) } else { at.lasts() };
            self.latest[at as usize].is_some_and(|latest| now.saturating_duration_since(latest) < lasts)
        };
        let is_any_left = ContentionLevel::ALL.into_iter().filter(|at| *at >= level).any(is_left);
        if level == ContentionLevel::Foreign && !is_any_left && !self.keys.is_empty() {
            self.keys = HashMap::default();
        }
        is_any_left
    }

    fn unblock<'a>(&mut self, keys: impl IntoIterator<Item = &'a Key>, now: Instant) {
        if !self.has_any(ContentionLevel::Blocked, now) {
            return;
        }
        for key in keys {
            if let Some(mark) = self.keys.get_mut(key)
                && mark.level == ContentionLevel::Blocked
            {
                // Whoever held it has probably written it.
                mark.level = ContentionLevel::Foreign;
            }
        }
    }
}

/// The tables that operations on a key need, a bit of [`Tables`] each.
fn tables_of(key: &Key) -> u16 {
    match_key!(key, A, _ => A::TABLES as u16,
        Key::Lease(_) => Job::TABLES as u16,
        Key::Request(_) => Tables::Requests as u16,
        Key::Namespace(_) => Tables::Namespaces as u16,
        Key::AuditLog => Tables::AuditLog as u16,
        // Whether a namespace is empty depends on all that can be in it.
        Key::NamespaceName(_) => {
            Tables::Namespaces as u16
                | Tables::Jobs as u16
                | Tables::Records as u16
                | Tables::Resources as u16
                | Tables::Timelines as u16
        }
    )
}

#[cfg(test)]
mod tests;
