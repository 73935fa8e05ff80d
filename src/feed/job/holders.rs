//! The Work streams that hold leases of a job on this server. They learn at once that the job is cancelled, fails or is paused.
//!
//! **Invariants.** A held lease costs one entry of a map, and a commit looks into the map only if it changes the state of a job. A notice that is
//! lost does no harm: the next heartbeat of the holder is answered with the same.

use parking_lot::Mutex;
use std::mem::discriminant;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use tokio::sync::Notify;

use crate::domain::id::JobKey;
use crate::domain::job::{Job, JobState};

/// Jobs whose state may have changed, among those of which a session holds leases.
#[derive(Default)]
struct ChangedStates {
    /// Changed by a commit of this server.
    changed: HashSet<JobKey>,
    /// Written by another server; their state may be the same.
    written: HashSet<JobKey>,
}

/// The notices of one session that holds leases, of any number of jobs.
#[derive(Default)]
pub struct HolderInbox {
    changes: Mutex<ChangedStates>,
    filled: Notify,
}

impl HolderInbox {
    /// Waits until jobs may have changed.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Adds jobs whose state may have changed.
    pub fn add(&self, jobs: HashSet<JobKey>) {
        self.changes.lock().changed.extend(jobs);
    }

    /// Takes the jobs whose state was changed by a commit of this server.
    pub fn take_changed(&self) -> HashSet<JobKey> {
        std::mem::take(&mut self.changes.lock().changed)
    }

    /// Takes the jobs that another server wrote.
    pub fn take_written(&self) -> HashSet<JobKey> {
        std::mem::take(&mut self.changes.lock().written)
    }

    /// Whether another server wrote jobs.
    pub fn has_written(&self) -> bool {
        !self.changes.lock().written.is_empty()
    }
}

/// The sessions that hold leases of a job, each with the number of leases.
type SessionsOfJob = Vec<(Arc<HolderInbox>, usize)>;

/// The sessions that hold leases, by job.
#[derive(Default)]
pub struct LeaseHolders(Mutex<HashMap<JobKey, SessionsOfJob>>);

impl LeaseHolders {
    /// Counts one more lease that a session holds of a job.
    pub fn add(&self, key: JobKey, inbox: &Arc<HolderInbox>) {
        let mut by_job = self.0.lock();
        let sessions = by_job.entry(key).or_default();
        match sessions.iter_mut().find(|(found, _)| Arc::ptr_eq(found, inbox)) {
            Some((_, leases)) => *leases += 1,
            None => sessions.push((inbox.clone(), 1)),
        }
    }

    /// Counts one lease less that a session holds of a job.
    pub fn remove(&self, key: JobKey, inbox: &Arc<HolderInbox>) {
        let mut by_job = self.0.lock();
        let Some(sessions) = by_job.get_mut(&key) else { return };
        if let Some((_, leases)) = sessions.iter_mut().find(|(found, _)| Arc::ptr_eq(found, inbox)) {
            *leases -= 1;
        }
        sessions.retain(|(_, leases)| *leases > 0);
        if sessions.is_empty() {
            by_job.remove(&key);
        }
    }

    /// Notifies the sessions of a job that a commit of this server has written. Success is not reported: every lease of the job has ended with an
    /// outcome then, mostly one that the session itself has sent.
    pub(in crate::feed) fn note_commit(&self, base: Option<&Arc<Job>>, job: &Job) {
        let is_changed = base.is_none_or(|base| discriminant(&base.state) != discriminant(&job.state));
        if is_changed && job.state != JobState::Succeeded {
            self.notify(job.key, |changes| changes.changed.insert(job.key));
        }
    }

    /// Notifies the sessions of a job that another server has written.
    pub(in crate::feed) fn note_written(&self, key: JobKey) {
        self.notify(key, |changes| changes.written.insert(key));
    }

    fn notify(&self, key: JobKey, add: impl Fn(&mut ChangedStates) -> bool) {
        let by_job = self.0.lock();
        for (inbox, _) in by_job.get(&key).into_iter().flatten() {
            if add(&mut inbox.changes.lock()) {
                inbox.filled.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::operation::tests::bench::Bench;
    use crate::operation::tests::build::{BuildStage, stage};

    #[test]
    fn sessions_are_notified_of_changed_states_while_they_hold_a_lease_of_the_job() {
        let (holders, session) = (LeaseHolders::default(), Arc::new(HolderInbox::default()));
        let mut bench = Bench::with(vec![stage("a").direct()]);
        let key = bench.job().key;
        holders.add(key, &session);
        holders.add(key, &session);
        let pending = bench.job();
        bench.pause().expect("paused");
        holders.note_commit(Some(&pending), &pending);
        assert!(session.filled().now_or_never().is_none(), "the state is the same");
        holders.note_commit(Some(&pending), &bench.job());
        assert!(session.filled().now_or_never().is_some());
        assert_eq!(session.take_changed().into_iter().collect::<Vec<_>>(), [key]);
        holders.remove(key, &session);
        holders.note_written(key);
        assert!(session.has_written() && session.take_written().contains(&key));
        assert!(!session.has_written() && session.take_changed().is_empty());
        holders.remove(key, &session);
        holders.note_written(key);
        assert!(!session.has_written(), "the last lease was returned");
    }
}
