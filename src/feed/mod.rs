//! What happens after a commit, and only then: who waits is told.
//!
//! The hub holds no queue: a waiter gets the newest state, or a hint to look for itself. A lost hint costs time, never
//! truth, for everybody who waits also looks again by himself.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};

use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::job::{Changes, Job};

/// A queue of a namespace.
pub type QueueKey = (NamespaceId, Name);

/// Tells waiters of this server about commits.
#[derive(Default)]
pub struct Hub {
    jobs: Mutex<HashMap<JobKey, watch::Sender<Option<Arc<Job>>>>>,
    ready: Mutex<HashSet<QueueKey>>,
    ready_hint: Notify,
}

/// Follows one job; when the last follower of a job goes, nothing of it is kept.
pub struct Following {
    hub: Arc<Hub>,
    key: JobKey,
    /// Taken away under the hub's lock, so that the last one to go sees that it is the last.
    receiver: Option<watch::Receiver<Option<Arc<Job>>>>,
}

impl Hub {
    /// Tells of a committed job and the stages of it that changed.
    pub fn publish(&self, job: &Arc<Job>, changes: &Changes) {
        if let Some(sender) = lock(&self.jobs).get(&job.key) {
            sender.send_if_modified(|last| {
                let newer = last.as_ref().is_none_or(|last| last.revision < job.revision);
                if newer {
                    *last = Some(job.clone());
                }
                newer
            });
        }
        let ready: Vec<QueueKey> = changes
            .stages
            .iter()
            .filter_map(|no| job.stages.get(*no))
            .filter(|stage| job.is_leasable(stage))
            .map(|stage| (job.key.namespace, stage.spec.queue.clone()))
            .collect();
        if !ready.is_empty() {
            lock(&self.ready).extend(ready);
            self.ready_hint.notify_one();
        }
    }

    /// Tells that a job is gone: who follows it stops.
    pub fn publish_deletion(&self, key: JobKey) {
        lock(&self.jobs).remove(&key);
    }

    /// Begins to follow a job.
    pub fn follow(self: &Arc<Self>, key: JobKey) -> Following {
        let mut jobs = lock(&self.jobs);
        let receiver = jobs.entry(key).or_insert_with(|| watch::Sender::new(None)).subscribe();
        Following { hub: self.clone(), key, receiver: Some(receiver) }
    }

    /// The jobs that somebody follows, with the newest revision that was told of each.
    pub fn followed(&self) -> Vec<(JobKey, i64)> {
        let revision =
            |sender: &watch::Sender<Option<Arc<Job>>>| sender.borrow().as_ref().map_or(0, |job| job.revision);
        lock(&self.jobs).iter().map(|(key, sender)| (*key, revision(sender))).collect()
    }

    /// Waits until stages became ready here, and says in which queues.
    pub async fn ready(&self) -> HashSet<QueueKey> {
        loop {
            let hint = self.ready_hint.notified();
            let ready = std::mem::take(&mut *lock(&self.ready));
            if !ready.is_empty() {
                return ready;
            }
            hint.await;
        }
    }
}

impl Following {
    /// Waits for a newer state than was seen, and returns it.
    pub async fn changed(&mut self) -> Option<Arc<Job>> {
        let receiver = self.receiver.as_mut()?;
        receiver.changed().await.ok()?;
        receiver.borrow_and_update().clone()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut jobs = lock(&self.hub.jobs);
        self.receiver = None;
        if jobs.get(&self.key).is_some_and(|sender| sender.receiver_count() == 0) {
            jobs.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
