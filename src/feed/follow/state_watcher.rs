//! One watch of keyed state: the states as they are, then their newest versions. Versions between two updates may be left out; the last one
//! never is.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::HashSet;
use tokio::time::sleep;

use super::followers::{Followers, Following};
use super::kinds::OfferedKind;
use super::{FollowedKind, StateKey, StateRead, StateVersion};
use crate::domain::aggregate::Aggregate as _;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::feed::hub::Hub;
use crate::feed::keepalive::KeepaliveTimer;
use crate::feed::open_watch::OpenWatch;
use crate::feed::update_queue::{UpdateQueue, Weighed};
use crate::sending::WatchMemory;
use crate::store::Store;

/// Maximum number of keys in one read.
const KEYS_PER_READ: usize = 10;
/// Size of the states that are queued at once, unless the first alone is larger; that of the largest record.
const QUEUED_BYTES: usize = 1 << 20;
/// Memory reserved for a load: as much, and the encoding of a state.
const LOAD_BYTES: usize = 2 * QUEUED_BYTES;

/// Where a watch of one key goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResumePoint {
    /// The version that the reader has. 0: none.
    pub version: i64,
    /// The create time that the reader has. None: any state of that version counts as the same.
    pub create_time: Option<Timestamp>,
}

/// What was sent last of a key.
enum LastSent<K: FollowedKind> {
    Nothing(ResumePoint),
    Absence,
    Version(StateVersion, K::Summary),
}

/// An update of a watch.
pub enum StateUpdate<K: FollowedKind> {
    /// A state that is new to the reader: the first one of its key, or the key was created again.
    New(Arc<K::State>),
    /// A later version of the state sent last.
    Changed {
        state: Arc<K::State>,
        /// The version sent last.
        previous_version: i64,
        /// The summary of that version.
        previous: K::Summary,
    },
    /// The key does not exist.
    Absent {
        key: StateKey<K>,
        /// The version sent last, or that the reader resumed from. 0: none.
        previous_version: i64,
    },
    /// Nothing changed for the keepalive interval.
    Keepalive,
}

/// A watch of the states under some keys.
pub struct StateWatcher<K: FollowedKind> {
    store: Store,
    following: Following<K>,
    /// Keys that have to be read.
    unread: Vec<StateKey<K>>,
    sent: HashMap<StateKey<K>, LastSent<K>>,
    queued: UpdateQueue<StateUpdate<K>>,
    keepalive: KeepaliveTimer,
    _open: OpenWatch,
}

impl<K: FollowedKind> StateWatcher<K> {
    /// Begins a watch with the states as they are. The keys have to be different from each other.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn begin(
        hub: &Arc<Hub>,
        store: &Store,
        resumed: Vec<(StateKey<K>, ResumePoint)>,
        memory: WatchMemory,
    ) -> Result<Self>
    where
        K: OfferedKind,
    {
        Self::begin_among(K::followers(&hub.followers), hub, store, resumed, memory).await
    }

    pub(super) async fn begin_among(
        followers: &Arc<Followers<K>>,
        hub: &Arc<Hub>,
        store: &Store,
        resumed: Vec<(StateKey<K>, ResumePoint)>,
        memory: WatchMemory,
    ) -> Result<Self> {
        let keys: Vec<StateKey<K>> = resumed.iter().map(|(key, _)| key.clone()).collect();
        let mut watcher = Self {
            store: store.clone(),
            // Before the read, so that no commit after it is missed.
            following: followers.follow(keys.clone()),
            unread: keys,
            sent: resumed.into_iter().map(|(key, from)| (key, LastSent::Nothing(from))).collect(),
            queued: UpdateQueue::new(memory),
            keepalive: KeepaliveTimer::new(hub.settings.keepalive),
            _open: OpenWatch::begin(hub),
        };
        watcher.read_page().await?;
        Ok(watcher)
    }

    /// Waits for the next update.
    ///
    /// # Errors
    /// If the database has to be read and does not answer.
    pub async fn next(&mut self) -> Result<StateUpdate<K>> {
        loop {
            if let Some(update) = self.queued.take() {
                self.keepalive.reset();
                return Ok(update);
            }
            if !self.unread.is_empty() {
                self.read_page().await?;
                continue;
            }
            tokio::select! {
                biased;
                changed = self.following.changed() => self.look(changed).await?,
                () = self.keepalive.elapsed() => self.queued.push_back(StateUpdate::Keepalive),
            }
        }
    }

    /// Queues updates of keys that may have changed.
    async fn look(&mut self, mut changed: HashSet<StateKey<K>>) -> Result<()> {
        if !K::PACE.is_zero() {
            sleep(K::PACE).await;
            changed.extend(self.following.take_changed());
        }
        // The states are not held while this waits for memory: they may be replaced meanwhile.
        let weight = |key| self.following.newest(key).map_or(0, |state| state.weight_bytes());
        let weight: usize = changed.iter().map(weight).sum();
        self.queued.reserve(weight.min(LOAD_BYTES)).await;
        for key in changed {
            match self.following.newest(&key) {
                Some(state) if self.is_of_sent(&key, &state) && self.has_room(&state) => self.queue(&key, state),
                // Deleted, created, not held here, or too much at once.
                Some(_) | None => self.unread.push(key),
            }
        }
        Ok(())
    }

    /// Reads some of the keys that have to be read.
    async fn read_page(&mut self) -> Result<()> {
        let keys: Vec<StateKey<K>> = self.unread.drain(..self.unread.len().min(KEYS_PER_READ)).collect();
        self.queued.reserve(LOAD_BYTES).await;
        let version = |key: &StateKey<K>| match self.sent.get(key) {
            Some(LastSent::Version(version, _)) => *version,
            Some(LastSent::Nothing(_) | LastSent::Absence) | None => StateVersion::NONE,
        };
        let known = keys.iter().map(|key| (key.clone(), version(key))).collect();
        let reads = self.following.read(&self.store, known).await?;
        for (key, read) in keys.into_iter().zip(reads) {
            match read {
                StateRead::Unchanged => {}
                StateRead::Changed(state) if self.has_room(&state) => self.queue(&key, state),
                // It is read again, when the others have been sent.
                StateRead::Changed(_) => self.unread.push(key),
                StateRead::Missing => self.queue_absence(key),
            }
        }
        Ok(())
    }

    /// Whether a state is some version of the one sent last, and not one that was created again under its key.
    fn is_of_sent(&self, key: &StateKey<K>, state: &K::State) -> bool {
        let created = StateVersion::of(state).create_time;
        matches!(self.sent.get(key), Some(LastSent::Version(sent, _)) if sent.create_time == created)
    }

    /// Whether a state can be queued beside those that are.
    fn has_room(&self, state: &K::State) -> bool {
        self.queued.bytes() == 0 || self.queued.bytes() + state.weight_bytes() <= QUEUED_BYTES
    }

    /// Queues a state that was read, or a version of the state sent last.
    fn queue(&mut self, key: &StateKey<K>, state: Arc<K::State>) {
        let version = StateVersion::of(&*state);
        let Some(sent) = self.sent.get_mut(key) else { return };
        if let LastSent::Version(last, _) = sent
            && last.create_time == version.create_time
            && last.version >= version.version
        {
            return;
        }
        let update = match std::mem::replace(sent, LastSent::Version(version, K::summary(&state))) {
            LastSent::Nothing(from) if from.is_at(version) => return,
            LastSent::Version(last, previous) if last.create_time == version.create_time => {
                StateUpdate::Changed { state, previous_version: last.version, previous }
            }
            LastSent::Nothing(_) | LastSent::Absence | LastSent::Version(..) => StateUpdate::New(state),
        };
        self.queued.push_back(update);
    }

    fn queue_absence(&mut self, key: StateKey<K>) {
        let previous_version = match self.sent.insert(key.clone(), LastSent::Absence) {
            Some(LastSent::Absence) => return,
            Some(LastSent::Version(last, _)) => last.version,
            Some(LastSent::Nothing(from)) => from.version,
            None => 0,
        };
        self.queued.push_back(StateUpdate::Absent { key, previous_version });
    }
}

impl<K: FollowedKind> Weighed for StateUpdate<K> {
    fn weight_bytes(&self) -> usize {
        match self {
            Self::New(state) | Self::Changed { state, .. } => state.weight_bytes(),
            Self::Absent { .. } | Self::Keepalive => 0,
        }
    }
}

impl ResumePoint {
    fn is_at(self, version: StateVersion) -> bool {
        self.version == version.version && self.create_time.is_none_or(|created| created == version.create_time)
    }
}
