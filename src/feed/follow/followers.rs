//! The keys of one kind that are followed on this server, each with its newest published version and the watches that follow it.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::{HashMap, HashSet};
use tokio::sync::Notify;

use super::{FollowedKind, StateKey, StateRead, StateVersion};
use crate::domain::aggregate::Aggregate;
use crate::error::Result;
use crate::feed::batch::Batch;
use crate::store::Store;

/// Bytes of published states that are held for watches, for each kind. Beyond that, watches read what was published from the database.
const MAX_HELD_BYTES: usize = 64 << 20;
/// Keys in one read for watches: as many as one watch of records may have.
const KEYS_PER_READ: usize = 100;

/// Reads that watches share: of a key, for watches that have the same version of it.
type StateReads<K> = Batch<(StateKey<K>, StateVersion), StateRead<<K as FollowedKind>::State>>;

/// All watches of one kind on this server.
pub struct Followers<K: FollowedKind> {
    /// Number of watches. Without any, publishing takes no lock.
    watches: AtomicUsize,
    table: Mutex<KeyTable<K>>,
    reads: Arc<StateReads<K>>,
}

struct KeyTable<K: FollowedKind> {
    followed: HashMap<StateKey<K>, Followed<K>>,
    /// Keys whose watches have not been woken since a change was published.
    changed: HashSet<StateKey<K>>,
    /// Approximate size of the states in `followed`.
    held_bytes: usize,
    next_number: u64,
}

struct Followed<K: FollowedKind> {
    newest: Newest<K::State>,
    /// The watches by number.
    mailboxes: HashMap<u64, Arc<Mailbox<StateKey<K>>>>,
}

/// What is known of a followed key.
enum Newest<S> {
    /// Nothing yet, or two states with different create times, neither of which is known to be the newer one: clocks of servers differ.
    Unknown,
    /// The key does not exist.
    Absent,
    /// The version, and the state where there was room to hold it.
    Version(StateVersion, Option<Arc<S>>),
}

/// Changed keys that a watch has not taken yet.
struct Mailbox<Key> {
    changed: Mutex<HashSet<Key>>,
    filled: Notify,
}

/// Follows keys for one watch until it is dropped.
pub(super) struct Following<K: FollowedKind> {
    followers: Arc<Followers<K>>,
    keys: Vec<StateKey<K>>,
    number: u64,
    mailbox: Arc<Mailbox<StateKey<K>>>,
}

impl<K: FollowedKind> Default for Followers<K> {
    fn default() -> Self {
        let table =
            KeyTable { followed: HashMap::default(), changed: HashSet::default(), held_bytes: 0, next_number: 0 };
        Self { watches: AtomicUsize::new(0), table: Mutex::new(table), reads: Arc::new(Batch::new(KEYS_PER_READ)) }
    }
}

impl<K: FollowedKind> Followers<K> {
    /// Begins to follow keys.
    pub(super) fn follow(self: &Arc<Self>, keys: Vec<StateKey<K>>) -> Following<K> {
        let mailbox = Arc::new(Mailbox { changed: Mutex::default(), filled: Notify::new() });
        let mut table = self.table.lock();
        let number = table.next_number;
        table.next_number += 1;
        for key in &keys {
            let new = || Followed { newest: Newest::Unknown, mailboxes: HashMap::default() };
            table.followed.entry(key.clone()).or_insert_with(new).mailboxes.insert(number, mailbox.clone());
        }
        self.watches.fetch_add(1, Ordering::Release);
        drop(table);
        Following { followers: self.clone(), keys, number, mailbox }
    }

    /// Notes a committed state (None: the key was deleted), in any order. Returns whether watches have to be woken by [`Self::announce`].
    pub fn publish(&self, key: &StateKey<K>, state: Option<&Arc<K::State>>) -> bool {
        self.watches.load(Ordering::Acquire) > 0 && self.table.lock().publish(key, state)
    }

    /// Tells the watches which of their keys changed since the last call. Returns how many watches were woken.
    pub fn announce(&self) -> usize {
        let mut changed = Vec::new();
        {
            let mut table = self.table.lock();
            let table = &mut *table;
            for key in table.changed.drain() {
                if let Some(followed) = table.followed.get(&key) {
                    changed.push((key, followed.mailboxes.values().cloned().collect::<Vec<_>>()));
                }
            }
        }
        // Without the lock of the table, for which lanes wait.
        let mut woken = 0;
        for (key, mailboxes) in changed {
            for mailbox in &mailboxes {
                if mailbox.changed.lock().insert(key.clone()) {
                    mailbox.filled.notify_one();
                    woken += 1;
                }
            }
        }
        woken
    }

    /// All followed keys, each with its newest known version.
    pub fn known(&self) -> Vec<(StateKey<K>, StateVersion)> {
        self.table.lock().followed.iter().map(|(key, followed)| (key.clone(), followed.newest.version())).collect()
    }

    /// Reads states from the database, in the order of `known`. Watches that ask for the same key at the same version share a read.
    ///
    /// # Errors
    /// If the database does not answer.
    pub(super) async fn read(
        &self,
        store: &Store,
        known: Vec<(StateKey<K>, StateVersion)>,
    ) -> Result<Vec<StateRead<K::State>>> {
        let store = store.clone();
        let read = move |known: Vec<(StateKey<K>, StateVersion)>| {
            let store = store.clone();
            async move {
                let reads = K::read(store, known.clone()).await?;
                Ok(known.into_iter().zip(reads).collect())
            }
        };
        let reads = self.reads.ask_all(known.clone(), read).await?;
        let reads: Vec<_> = reads.into_iter().map(|read| read.unwrap_or(StateRead::Missing)).collect();
        let mut is_news = false;
        {
            let mut table = self.table.lock();
            for ((key, known), read) in known.iter().zip(&reads) {
                is_news |= table.observe(key, *known, read);
            }
        }
        if is_news {
            self.announce();
        }
        Ok(reads)
    }
}

impl<K: FollowedKind> KeyTable<K> {
    fn publish(&mut self, key: &StateKey<K>, state: Option<&Arc<K::State>>) -> bool {
        let Some(followed) = self.followed.get(key) else { return false };
        let next = state.map(|state| StateVersion::of(&**state));
        let is_new = match (&followed.newest, next) {
            (Newest::Absent, None) => return false,
            (Newest::Version(known, _), Some(next)) if known.create_time == next.create_time => {
                if next.version < known.version {
                    return false;
                }
                next.version > known.version
            }
            (Newest::Version(..), Some(_)) => {
                self.set(key, Newest::Unknown);
                return self.changed.insert(key.clone());
            }
            _ => true,
        };
        self.set(key, Newest::of(state));
        is_new && self.changed.insert(key.clone())
    }

    /// Notes what a watch has read of a key of which nothing is known, or only that it did not exist. In the latter case it was created again without a
    /// publication, which is news to all watches. Returns whether they have to be woken.
    fn observe(&mut self, key: &StateKey<K>, known: StateVersion, read: &StateRead<K::State>) -> bool {
        let Some(followed) = self.followed.get(key) else { return false };
        let was_absent = matches!(followed.newest, Newest::Absent);
        let newest = match (&followed.newest, read) {
            (Newest::Version(..), _) | (Newest::Absent, StateRead::Missing) => return false,
            (Newest::Unknown, StateRead::Missing) => Newest::Absent,
            (Newest::Unknown | Newest::Absent, StateRead::Unchanged) => Newest::Version(known, None),
            (Newest::Unknown, StateRead::Changed(state)) => Newest::of(Some(state)),
            // The read may be older than the deletion, so other watches read for themselves.
            (Newest::Absent, StateRead::Changed(state)) => Newest::Version(StateVersion::of(&**state), None),
        };
        self.set(key, newest);
        was_absent && self.changed.insert(key.clone())
    }

    fn set(&mut self, key: &StateKey<K>, mut newest: Newest<K::State>) {
        let Some(followed) = self.followed.get_mut(key) else { return };
        self.held_bytes -= followed.newest.held_bytes();
        let bytes = newest.held_bytes();
        if self.held_bytes + bytes <= MAX_HELD_BYTES {
            self.held_bytes += bytes;
        } else if let Newest::Version(_, state) = &mut newest {
            *state = None;
        }
        followed.newest = newest;
    }

    fn unfollow(&mut self, keys: &[StateKey<K>], number: u64) {
        for key in keys {
            let Some(followed) = self.followed.get_mut(key) else { continue };
            followed.mailboxes.remove(&number);
            if followed.mailboxes.is_empty() {
                self.held_bytes -= followed.newest.held_bytes();
                self.followed.remove(key);
                self.changed.remove(key);
            }
        }
    }
}

impl<S: Aggregate> Newest<S> {
    fn of(state: Option<&Arc<S>>) -> Self {
        state.map_or(Self::Absent, |state| Self::Version(StateVersion::of(&**state), Some(state.clone())))
    }

    fn version(&self) -> StateVersion {
        match self {
            Self::Unknown | Self::Absent => StateVersion::NONE,
            Self::Version(version, _) => *version,
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Version(_, Some(state)) => state.weight_bytes(),
            Self::Version(_, None) | Self::Unknown | Self::Absent => 0,
        }
    }
}

impl<K: FollowedKind> Following<K> {
    /// Waits until some of the keys may have changed, and takes them.
    pub async fn changed(&self) -> HashSet<StateKey<K>> {
        loop {
            let changed = std::mem::take(&mut *self.mailbox.changed.lock());
            if !changed.is_empty() {
                return changed;
            }
            self.mailbox.filled.notified().await;
        }
    }

    /// Takes the keys that may have changed since [`Self::changed`] returned.
    pub fn take_changed(&self) -> HashSet<StateKey<K>> {
        std::mem::take(&mut *self.mailbox.changed.lock())
    }

    /// The newest published state of a key. None: it is not held here, or the key does not exist.
    pub fn newest(&self, key: &StateKey<K>) -> Option<Arc<K::State>> {
        match &self.followers.table.lock().followed.get(key)?.newest {
            Newest::Version(_, state) => state.clone(),
            Newest::Unknown | Newest::Absent => None,
        }
    }

    /// Reads states from the database; see [`Followers::read`].
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn read(
        &self,
        store: &Store,
        known: Vec<(StateKey<K>, StateVersion)>,
    ) -> Result<Vec<StateRead<K::State>>> {
        self.followers.read(store, known).await
    }
}

impl<K: FollowedKind> Drop for Following<K> {
    fn drop(&mut self) {
        self.followers.table.lock().unfollow(&self.keys, self.number);
        self.followers.watches.fetch_sub(1, Ordering::Release);
    }
}
