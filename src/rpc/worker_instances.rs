//! Workers that run at the same time under one `worker_id`, by the `instance_id` that each start of a worker makes up.
//!
//! **Invariants.** An instance is reported as shared only if another one is known to have run at the same time: it has a call here now, or has
//! called since the instance itself first did. So a worker that is restarted is not. Memory is bounded: what is forgotten is at worst reported again.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use lru::LruCache;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::domain::id::{Name, NamespaceId};

/// Workers that are remembered; the one that has not called for the longest time is forgotten.
const MAX_WORKERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is more than none");
/// Instances of one worker that are remembered.
const MAX_INSTANCES: usize = 4;

type WorkerKey = (NamespaceId, Name);

/// The instances of workers that have called this server.
pub struct WorkerInstances(Mutex<LruCache<WorkerKey, Vec<Instance>>>);

struct Instance {
    id: Uuid,
    /// When its first and its last call began.
    first: Instant,
    last: Instant,
    /// Calls that have not ended.
    calls: usize,
    /// Whether it was notified that its `worker_id` is shared.
    is_notified: bool,
}

/// A call of an instance, which runs until this is dropped.
pub struct InstanceCall {
    instances: Arc<WorkerInstances>,
    worker: WorkerKey,
    id: Uuid,
}

impl Default for WorkerInstances {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_WORKERS)))
    }
}

impl WorkerInstances {
    /// Notes that a call of an instance begins. Returns the call, and whether the instance has to be notified that another one has the same
    /// `worker_id`; it is notified once.
    pub fn begin(
        self: &Arc<Self>,
        namespace: NamespaceId,
        worker_id: &Name,
        id: Uuid,
        now: Instant,
    ) -> (InstanceCall, bool) {
        let worker = (namespace, worker_id.clone());
        let mut workers = self.0.lock();
        let instances = workers.get_or_insert_mut(worker.clone(), Vec::new);
        let mut this = match instances.iter().position(|known| known.id == id) {
            Some(place) => instances.swap_remove(place),
            None => Instance { id, first: now, last: now, calls: 0, is_notified: false },
        };
        (this.last, this.calls) = (now, this.calls + 1);
        let is_shared = instances.iter().any(|other| other.calls > 0 || other.last > this.first);
        let notify = is_shared && !this.is_notified;
        this.is_notified |= notify;
        if instances.len() == MAX_INSTANCES {
            // One without a call if there is any, the one that called last longest ago.
            let oldest = (0..instances.len()).min_by_key(|&place| (instances[place].calls > 0, instances[place].last));
            oldest.map(|place| instances.swap_remove(place));
        }
        instances.push(this);
        drop(workers);
        (InstanceCall { instances: Arc::clone(self), worker, id }, notify)
    }
}

impl Drop for InstanceCall {
    fn drop(&mut self) {
        let mut workers = self.instances.0.lock();
        let known = workers.peek_mut(&self.worker).and_then(|known| known.iter_mut().find(|known| known.id == self.id));
        if let Some(this) = known {
            this.calls = this.calls.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Calls of one worker id, a second apart.
    struct Calls {
        instances: Arc<WorkerInstances>,
        now: Instant,
    }

    impl Calls {
        fn new() -> Self {
            Self { instances: Arc::default(), now: Instant::now() }
        }

        fn begin(&mut self, instance: u128) -> (InstanceCall, bool) {
            self.now += Duration::from_secs(1);
            self.instances.begin(NamespaceId(1), &"w".into(), Uuid::from_u128(instance), self.now)
        }

        /// A call that ends at once; whether its instance was notified.
        fn call(&mut self, instance: u128) -> bool {
            self.begin(instance).1
        }
    }

    #[test]
    fn an_instance_beside_another_is_notified_once() {
        let mut calls = Calls::new();
        let (_waiting, is_notified) = calls.begin(1);
        assert!(!is_notified);
        assert_eq!([calls.call(2), calls.call(2)], [true, false]);
        assert_eq!([calls.call(1), calls.call(1)], [true, false]);
    }

    #[test]
    fn an_instance_without_a_call_is_found_when_it_calls_again() {
        let mut calls = Calls::new();
        assert_eq!([1, 2, 2, 1, 2].map(|instance| calls.call(instance)), [false, false, false, true, true]);
    }

    #[test]
    fn a_restarted_worker_is_notified_nothing() {
        let mut calls = Calls::new();
        for instance in 1..20 {
            let (waiting, is_notified) = calls.begin(instance);
            assert!(!is_notified, "{instance}");
            drop(waiting);
            assert!(!calls.call(instance), "{instance}");
        }
    }

    #[test]
    fn other_namespaces_and_workers_share_nothing() {
        let calls = Calls::new();
        let begin = |namespace, worker: &str, instance| {
            calls.instances.begin(NamespaceId(namespace), &worker.into(), Uuid::from_u128(instance), calls.now)
        };
        let _waiting = begin(1, "w", 1);
        assert_eq!([begin(2, "w", 2).1, begin(1, "v", 3).1, begin(1, "w", 4).1], [false, false, true]);
    }

    #[test]
    fn what_is_remembered_of_a_worker_is_bounded() {
        let mut calls = Calls::new();
        let waiting: Vec<_> = (0..50).map(|instance| calls.begin(instance)).collect();
        let known = |calls: &Calls| calls.instances.0.lock().peek(&(NamespaceId(1), "w".into())).map(Vec::len);
        assert_eq!(known(&calls), Some(MAX_INSTANCES));
        assert!(waiting.iter().skip(1).all(|(_, is_notified)| *is_notified));
        drop(waiting);
        assert!(!calls.call(1), "it was forgotten");
    }
}
