//! Who wants to hear of records or resources that change: lanes note which did, and wake those who follow them.
//!
//! **Invariants.** A follower holds the keys that changed since it looked, each once, and no more; one that does not look costs
//! nothing else. What another server commits is found by a look at all that are followed, many at once, and noted here too.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::time::Timestamp;

/// Of what is not there.
const NOWHERE: At = (0, Timestamp(0));

/// All who follow something of one kind on this server.
pub struct Followers<K> {
    /// How many there are, so that nothing is done for none.
    count: AtomicUsize,
    numbers: AtomicU64,
    by_key: Mutex<HashMap<K, Followed<K>>>,
}

/// The version of something and when it was made, as they were noted last; zero for one that is not there.
pub type At = (i64, Timestamp);

/// What somebody follows.
struct Followed<K> {
    /// As it was noted last; nothing is known in the beginning.
    at: Option<At>,
    ears: HashMap<u64, Arc<Ear<K>>>,
}

struct Ear<K> {
    changed: Mutex<HashSet<K>>,
    stir: Notify,
}

/// One who follows some, until it is dropped.
pub struct Following<K: Eq + Hash + Clone> {
    followers: Arc<Followers<K>>,
    keys: Vec<K>,
    number: u64,
    ear: Arc<Ear<K>>,
}

impl<K> Default for Followers<K> {
    fn default() -> Self {
        Self { count: AtomicUsize::new(0), numbers: AtomicU64::new(0), by_key: Mutex::default() }
    }
}

impl<K: Eq + Hash + Clone> Followers<K> {
    /// Begins to follow some.
    pub fn follow(self: &Arc<Self>, keys: Vec<K>) -> Following<K> {
        let ear = Arc::new(Ear { changed: Mutex::default(), stir: Notify::new() });
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut by_key = self.by_key.lock();
        for key in &keys {
            let new = || Followed { at: None, ears: HashMap::default() };
            by_key.entry(key.clone()).or_insert_with(new).ears.insert(number, ear.clone());
        }
        self.count.fetch_add(1, Ordering::Release);
        Following { followers: self.clone(), keys, number, ear }
    }

    /// Notes at which version something is, or that it is gone.
    pub fn note(&self, key: &K, at: Option<At>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut by_key = self.by_key.lock();
        let Some(followed) = by_key.get_mut(key) else { return };
        let at = Some(at.unwrap_or(NOWHERE));
        if std::mem::replace(&mut followed.at, at) == at {
            return;
        }
        for ear in followed.ears.values() {
            if ear.changed.lock().insert(key.clone()) {
                ear.stir.notify_one();
            }
        }
    }

    /// All that are followed, with what is known of each.
    pub fn followed(&self) -> Vec<(K, At)> {
        self.by_key.lock().iter().map(|(key, followed)| (key.clone(), followed.at.unwrap_or(NOWHERE))).collect()
    }
}

impl<K: Eq + Hash + Clone> Following<K> {
    /// Waits until some of them changed, and takes which.
    pub async fn changed(&self) -> HashSet<K> {
        loop {
            let changed = std::mem::take(&mut *self.ear.changed.lock());
            if !changed.is_empty() {
                return changed;
            }
            self.ear.stir.notified().await;
        }
    }

    /// Whether something that was seen in memory is what was noted of it last, or newer. A lane that read it before can put an older
    /// state there, also of what is gone by now.
    pub fn is_current(&self, key: &K, (version, made): At) -> bool {
        let noted = self.followers.by_key.lock().get(key).and_then(|followed| followed.at);
        noted.is_none_or(|(noted, then)| made == then && version >= noted)
    }
}

impl<K: Eq + Hash + Clone> Drop for Following<K> {
    fn drop(&mut self) {
        let mut by_key = self.followers.by_key.lock();
        for key in &self.keys {
            if let Some(followed) = by_key.get_mut(key) {
                followed.ears.remove(&self.number);
                if followed.ears.is_empty() {
                    by_key.remove(key);
                }
            }
        }
        self.followers.count.fetch_sub(1, Ordering::Release);
    }
}
