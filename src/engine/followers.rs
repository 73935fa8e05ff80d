//! Who wants to hear of records that change: lanes note which did, and wake those who follow them.
//!
//! **Invariants.** A follower holds the keys that changed since it looked, each once, and no more; one that does not look costs
//! nothing else. What another server commits is found by a look at all that are followed, many at once, and noted here too.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::domain::record::{Record, RecordKey};
use crate::domain::time::Timestamp;

/// Of a record that is not there.
const NOWHERE: At = (0, Timestamp(0));

/// All who follow records on this server.
#[derive(Default)]
pub struct Followers {
    /// How many there are, so that nothing is done for none.
    count: AtomicUsize,
    numbers: AtomicU64,
    by_key: Mutex<HashMap<RecordKey, Followed>>,
}

/// The version of a record and when it was made, as they were noted last; zero for one that is not there.
pub type At = (i64, Timestamp);

/// A record that somebody follows.
struct Followed {
    at: At,
    ears: HashMap<u64, Arc<Ear>>,
}

#[derive(Default)]
struct Ear {
    changed: Mutex<HashSet<RecordKey>>,
    stir: Notify,
}

/// One who follows some records, until it is dropped.
pub struct Following {
    followers: Arc<Followers>,
    keys: Vec<RecordKey>,
    number: u64,
    ear: Arc<Ear>,
}

impl Followers {
    /// Begins to follow records.
    pub fn follow(self: &Arc<Self>, keys: Vec<RecordKey>) -> Following {
        let (number, ear) = (self.numbers.fetch_add(1, Ordering::Relaxed), Arc::new(Ear::default()));
        let mut by_key = lock(&self.by_key);
        for key in &keys {
            let new = || Followed { at: NOWHERE, ears: HashMap::new() };
            by_key.entry(key.clone()).or_insert_with(new).ears.insert(number, ear.clone());
        }
        self.count.fetch_add(1, Ordering::Release);
        Following { followers: self.clone(), keys, number, ear }
    }

    /// Notes that a record was changed or deleted.
    pub fn note(&self, key: &RecordKey, record: Option<&Record>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut by_key = lock(&self.by_key);
        let Some(followed) = by_key.get_mut(key) else { return };
        let at = record.map_or(NOWHERE, |record| (record.version, record.create_time));
        if std::mem::replace(&mut followed.at, at) == at {
            return;
        }
        for ear in followed.ears.values() {
            if lock(&ear.changed).insert(key.clone()) {
                ear.stir.notify_one();
            }
        }
    }

    /// All that are followed, with what is known of each.
    pub fn followed(&self) -> Vec<(RecordKey, At)> {
        lock(&self.by_key).iter().map(|(key, followed)| (key.clone(), followed.at)).collect()
    }
}

impl Following {
    /// Waits until some of the records changed, and takes which.
    pub async fn changed(&self) -> HashSet<RecordKey> {
        loop {
            let changed = std::mem::take(&mut *lock(&self.ear.changed));
            if !changed.is_empty() {
                return changed;
            }
            self.ear.stir.notified().await;
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut by_key = lock(&self.followers.by_key);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
