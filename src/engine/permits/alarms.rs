//! Moments at which something happens to a resource by itself that somebody waits for.

use std::collections::BTreeSet;

use foldhash::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::permit::ResourceKey;
use crate::domain::time::Timestamp;

/// One alarm per resource; there are as many as resources that somebody waits for.
#[derive(Default)]
pub struct Alarms {
    inner: Mutex<Inner>,
    stir: Notify,
}

#[derive(Default)]
struct Inner {
    by_key: HashMap<ResourceKey, Timestamp>,
    by_time: BTreeSet<(Timestamp, ResourceKey)>,
}

impl Alarms {
    /// Sets the alarm of a resource anew, or none.
    pub fn set(&self, key: ResourceKey, at: Option<Timestamp>) {
        let mut inner = self.inner.lock();
        let before = match at {
            Some(at) => inner.by_key.insert(key, at),
            None => inner.by_key.remove(&key),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            inner.by_time.remove(&(before, key));
        }
        let Some(at) = at else { return };
        inner.by_time.insert((at, key));
        let is_first = inner.by_time.first() == Some(&(at, key));
        drop(inner);
        if is_first {
            self.stir.notify_one();
        }
    }

    /// The first alarm.
    pub fn first(&self) -> Option<Timestamp> {
        self.inner.lock().by_time.first().map(|(at, _)| *at)
    }

    /// Takes the alarms that are due, so many at most.
    pub fn take_due(&self, now: Timestamp, most: usize) -> Vec<ResourceKey> {
        let mut inner = self.inner.lock();
        let mut due = Vec::new();
        while due.len() < most
            && let Some((at, key)) = inner.by_time.first().copied()
            && at <= now
        {
            inner.by_time.pop_first();
            inner.by_key.remove(&key);
            due.push(key);
        }
        due
    }

    /// Waits until another alarm is the first.
    pub async fn stirred(&self) {
        self.stir.notified().await;
    }
}
