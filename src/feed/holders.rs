//! Who holds leases of a job here, to be told when the job is cancelled, fails or is paused.
//!
//! **Invariants.** What is held costs one entry of a map, and a commit looks into it only if it changes the state of a job. Nothing rests
//! on it: a holder hears the same with its next heartbeat.

use std::mem::discriminant;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::id::JobKey;
use crate::domain::job::Job;

/// Jobs of which a session holds leases and whose state may have changed.
#[derive(Default)]
struct Heard {
    /// Changed by a commit of this server.
    changed: HashSet<JobKey>,
    /// Written by another server in some way.
    written: HashSet<JobKey>,
}

/// One session that holds leases, of any number of jobs.
#[derive(Default)]
pub struct Ear {
    heard: Mutex<Heard>,
    stir: Notify,
}

impl Ear {
    /// Waits until a job may have changed.
    pub async fn stirred(&self) {
        self.stir.notified().await;
    }

    /// Notes jobs whose state may have changed.
    pub fn note(&self, jobs: HashSet<JobKey>) {
        self.heard.lock().changed.extend(jobs);
    }

    /// The jobs whose state was changed by a commit of this server, each once.
    pub fn take_changed(&self) -> HashSet<JobKey> {
        std::mem::take(&mut self.heard.lock().changed)
    }

    /// The jobs that another server wrote, each once.
    pub fn take_written(&self) -> HashSet<JobKey> {
        std::mem::take(&mut self.heard.lock().written)
    }

    /// Whether another server wrote some.
    pub fn has_written(&self) -> bool {
        !self.heard.lock().written.is_empty()
    }
}

/// The sessions that hold leases of a job, each with how many.
type Ears = Vec<(Arc<Ear>, usize)>;

/// The sessions that hold leases, by job.
#[derive(Default)]
pub struct Holders(Mutex<HashMap<JobKey, Ears>>);

impl Holders {
    /// A session holds one more lease of a job.
    pub fn hold(&self, key: JobKey, ear: &Arc<Ear>) {
        let mut by_job = self.0.lock();
        let ears = by_job.entry(key).or_default();
        match ears.iter_mut().find(|(found, _)| Arc::ptr_eq(found, ear)) {
            Some((_, leases)) => *leases += 1,
            None => ears.push((ear.clone(), 1)),
        }
    }

    /// A session holds one lease of a job less.
    pub fn let_go(&self, key: JobKey, ear: &Arc<Ear>) {
        let mut by_job = self.0.lock();
        let Some(ears) = by_job.get_mut(&key) else { return };
        if let Some((_, leases)) = ears.iter_mut().find(|(found, _)| Arc::ptr_eq(found, ear)) {
            *leases -= 1;
        }
        ears.retain(|(_, leases)| *leases > 0);
        if ears.is_empty() {
            by_job.remove(&key);
        }
    }

    /// A commit of this server has written a job.
    pub(super) fn note_commit(&self, base: Option<&Arc<Job>>, job: &Job) {
        if base.is_none_or(|base| discriminant(&base.state) != discriminant(&job.state)) {
            self.tell(job.key, |heard| heard.changed.insert(job.key));
        }
    }

    /// Another server has written a job.
    pub(super) fn note_written(&self, key: JobKey) {
        self.tell(key, |heard| heard.written.insert(key));
    }

    fn tell(&self, key: JobKey, note: impl Fn(&mut Heard) -> bool) {
        let by_job = self.0.lock();
        for (ear, _) in by_job.get(&key).into_iter().flatten() {
            if note(&mut ear.heard.lock()) {
                ear.stir.notify_one();
            }
        }
    }
}
