//! Background jobs: what is due by the clock, and the clean-up that no call does.
//!
//! A job runs once in each of its intervals, and a run is bounded. Of several servers only the leader runs singleton jobs. What jobs change
//! are operations like any other, so two leaders at once do no harm: what one of them has done is refused to the other.
//!
//! Layout: `job` is what all of them are; `due` are leases, delayed starts, backoffs and timeouts; `permits`, `lines` and `step_back` look after
//! resources and stored times; `timelines` deletes sessions; `housekeeping` deletes what is no longer needed; `figures` reads what metrics show; `leader_lease` says which server is the leader.

mod due;
mod figures;
mod housekeeping;
mod job;
mod leader_lease;
mod lines;
mod permits;
mod step_back;
pub mod timelines;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::error::Result;
use job::BackgroundJob;
use leader_lease::LeaderLease;

/// Settings of the background jobs.
#[derive(Clone, Debug)]
pub struct TaskSettings {
    /// How long leases and permits from before a start or an outage of the database are spared, so that living holders renew first.
    pub reap_grace: Duration,
    /// Days for which history is kept.
    pub history_days: i32,
}

/// Counts of one background job since the server started.
#[derive(Clone, Debug)]
pub struct BackgroundJobFigures {
    /// Name of the job.
    pub name: &'static str,
    pub runs: u64,
    /// Number of runs that failed.
    pub failures: u64,
    /// Number of items that the runs dealt with.
    pub items: u64,
    /// Start of the last run. None: it has not run yet.
    pub last_run: Option<Timestamp>,
}

#[derive(Default)]
struct RunCounters {
    runs: AtomicU64,
    failures: AtomicU64,
    items: AtomicU64,
    last_run: AtomicI64,
}

/// The background jobs of a server.
pub struct BackgroundJobs {
    counters: Vec<(&'static str, Arc<RunCounters>)>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    leader_lease: Arc<LeaderLease>,
}

impl BackgroundJobs {
    /// Starts all jobs. They end when `shutdown` is cancelled.
    pub fn start(engine: &Engine, settings: TaskSettings, shutdown: &CancellationToken) -> Self {
        engine.shared().grace.begin(settings.reap_grace);
        let leader_lease = Arc::new(LeaderLease::new(engine.shared().store.clone()));
        let mut jobs = Self { counters: Vec::new(), tasks: Mutex::default(), leader_lease };
        jobs.add(due::Reaper::new(engine.clone()), engine, shutdown);
        jobs.add(due::Scheduler::new(engine.clone()), engine, shutdown);
        jobs.add(permits::ServerPresence::new(engine.clone()), engine, shutdown);
        jobs.add(permits::PermitReaper::new(engine.clone()), engine, shutdown);
        jobs.add(permits::ForgottenPermits::new(engine.clone()), engine, shutdown);
        jobs.add(lines::StageLines::new(engine.clone()), engine, shutdown);
        jobs.add(permits::IdleResources::new(engine.clone()), engine, shutdown);
        jobs.add(step_back::StepBack::new(engine.clone()), engine, shutdown);
        jobs.add(housekeeping::IdleConnections::new(engine.clone()), engine, shutdown);
        jobs.add(housekeeping::RequestCleaner::new(engine.clone()), engine, shutdown);
        jobs.add(housekeeping::EndedKeyCleaner::new(engine.clone()), engine, shutdown);
        jobs.add(housekeeping::NamespaceCleaner::new(engine.clone()), engine, shutdown);
        jobs.add(housekeeping::Partitions::new(engine.clone(), settings.history_days), engine, shutdown);
        jobs.add(timelines::SessionCleaner::new(engine.clone()), engine, shutdown);
        jobs.add(figures::ReadyQueues::new(engine.clone()), engine, shutdown);
        jobs.add(figures::FigureReads::new(engine.clone()), engine, shutdown);
        jobs
    }

    /// Whether this server was the leader when it last asked.
    pub fn is_leader(&self) -> bool {
        self.leader_lease.is_leader()
    }

    fn add<J: BackgroundJob>(&mut self, mut job: J, engine: &Engine, shutdown: &CancellationToken) {
        let counters = Arc::new(RunCounters::default());
        self.counters.push((J::NAME, counters.clone()));
        let (engine, leader_lease, shutdown) = (engine.clone(), self.leader_lease.clone(), shutdown.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(J::EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                while counters.count(run_once(&mut job, &leader_lease).await, engine.now(), J::NAME) >= J::FULL
                    && !shutdown.is_cancelled()
                {}
            }
        });
        self.tasks.lock().push(task);
    }

    /// The counts of each job.
    pub fn snapshot(&self) -> Vec<BackgroundJobFigures> {
        self.counters.iter().map(|(name, counters)| counters.figures(name)).collect()
    }

    /// Waits until all jobs have ended, which they do after `shutdown` is cancelled.
    pub async fn ended(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            let _ended = task.await;
        }
        self.leader_lease.release().await;
    }
}

/// Runs a job once, unless it is a singleton and another server is the leader.
async fn run_once<J: BackgroundJob>(job: &mut J, leader_lease: &LeaderLease) -> Result<usize> {
    if J::SINGLETON && !leader_lease.acquire().await.inspect_err(|_| job.interrupted())? {
        return Ok(0);
    }
    job.run().await
}

impl RunCounters {
    fn count(&self, outcome: Result<usize>, now: Timestamp, name: &'static str) -> usize {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.last_run.store(now.0, Ordering::Relaxed);
        match outcome {
            Ok(items) => {
                self.items.fetch_add(items as u64, Ordering::Relaxed);
                items
            }
            Err(error) => {
                // The next run tries again.
                tracing::debug!(%error, name, "a background job failed");
                self.failures.fetch_add(1, Ordering::Relaxed);
                0
            }
        }
    }

    fn figures(&self, name: &'static str) -> BackgroundJobFigures {
        let last_run = self.last_run.load(Ordering::Relaxed);
        BackgroundJobFigures {
            name,
            runs: self.runs.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            items: self.items.load(Ordering::Relaxed),
            last_run: (last_run > 0).then_some(Timestamp(last_run)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn runs_are_counted_whether_they_fail_or_not() {
        let counters = RunCounters::default();
        assert_eq!(counters.figures("job").last_run, None);
        assert_eq!(counters.count(Ok(3), Timestamp(5), "job"), 3);
        assert_eq!(
            counters.count(Err(Error::StoreUnavailable), Timestamp(7), "job"),
            0,
            "a failed run is not repeated at once"
        );
        let figures = counters.figures("job");
        assert_eq!((figures.runs, figures.failures, figures.items), (2, 1, 3));
        assert_eq!(figures.last_run, Some(Timestamp(7)));
    }
}
