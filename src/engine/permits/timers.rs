//! Moments at which something becomes due at a resource by the clock alone: a permit expires, a rate or a breaker lets the next through.

use parking_lot::Mutex;
use std::collections::BTreeSet;

use foldhash::HashMap;
use tokio::sync::Notify;

use crate::domain::permit::ResourceKey;
use crate::domain::time::Timestamp;

/// At most one timer for each resource, and only where something waits.
#[derive(Default)]
pub struct Timers {
    inner: Mutex<Inner>,
    first_changed: Notify,
}

#[derive(Default)]
struct Inner {
    by_key: HashMap<ResourceKey, Timestamp>,
    by_time: BTreeSet<(Timestamp, ResourceKey)>,
}

impl Timers {
    /// Replaces the timer of a resource. None: it has none.
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
        if let Some(at) = at {
            inner.by_time.insert((at, key));
        }
        inner.check();
        let is_first = inner.by_time.first().is_some_and(|(_, first)| at.is_some() && *first == key);
        drop(inner);
        if is_first {
            self.first_changed.notify_one();
        }
    }

    /// When the first timer is due. None: there is none.
    pub fn first(&self) -> Option<Timestamp> {
        self.inner.lock().by_time.first().map(|(at, _)| *at)
    }

    /// Removes timers that are due at `now`, the earliest first, at most `most`. Returns their resources.
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
        inner.check();
        due
    }

    /// Waits until [`Self::set`] makes another timer the first.
    pub async fn first_changed(&self) {
        self.first_changed.notified().await;
    }
}

impl Inner {
    fn check(&self) {
        debug_assert_eq!(self.by_key.len(), self.by_time.len(), "each timer is known by key and by time");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::id::NamespaceId;

    fn key(name: &str) -> ResourceKey {
        ResourceKey::of(NamespaceId(1), name)
    }

    #[test]
    fn timers_are_taken_when_due_in_the_order_of_time() {
        let timers = Timers::default();
        for (name, at) in [("a", 30), ("b", 10), ("c", 20), ("d", 40)] {
            timers.set(key(name), Some(Timestamp(at)));
        }
        assert_eq!(timers.first(), Some(Timestamp(10)));
        assert!(timers.take_due(Timestamp(9), 10).is_empty());
        assert_eq!(timers.take_due(Timestamp(30), 2), [key("b"), key("c")]);
        assert_eq!(timers.take_due(Timestamp(30), 2), [key("a")]);
        timers.set(key("d"), None);
        assert_eq!(timers.first(), None);
        assert!(timers.take_due(Timestamp(i64::MAX), 10).is_empty());
    }

    #[test]
    fn a_timer_that_is_set_again_is_due_at_the_new_time_alone() {
        let timers = Timers::default();
        timers.set(key("a"), Some(Timestamp(10)));
        timers.set(key("a"), Some(Timestamp(50)));
        assert!(timers.take_due(Timestamp(49), 10).is_empty());
        timers.set(key("a"), Some(Timestamp(20)));
        assert_eq!(timers.take_due(Timestamp(20), 10), [key("a")]);
        timers.set(key("a"), None);
        assert_eq!(timers.first(), None);
    }

    #[tokio::test]
    async fn only_a_new_first_timer_wakes_the_loop() {
        let timers = Timers::default();
        let woken = async || tokio::time::timeout(Duration::ZERO, timers.first_changed()).await.is_ok();
        timers.set(key("a"), Some(Timestamp(10)));
        assert!(woken().await);
        timers.set(key("b"), Some(Timestamp(20)));
        assert!(!woken().await, "the loop waits for an earlier one");
        timers.set(key("c"), Some(Timestamp(5)));
        assert!(woken().await);
        timers.set(key("c"), None);
        assert!(!woken().await, "one that is gone makes the loop wake too early, not too late");
    }
}
