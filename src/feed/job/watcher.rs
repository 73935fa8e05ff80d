//! One watch of a job: a snapshot, or the steps since the revision that it resumes from; then every step up to the end of the job.

use std::sync::Arc;
use std::time::Instant;

use super::follower::TopicFollower;
use super::reads::JobSnapshot;
use super::step::JobStep;
use super::topic::StepsAfter;
use crate::domain::id::{JobKey, Name};
use crate::domain::job::Job;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::feed::hub::Hub;
use crate::feed::keepalive::KeepaliveTimer;
use crate::feed::open_watch::OpenWatch;
use crate::feed::update_queue::{UpdateQueue, Weighed};
use crate::sending::{READ_BYTES, WatchMemory};
use crate::store::Store;

/// An update of a watch of one job.
pub enum JobUpdate {
    /// The job as it is now.
    Snapshot(Arc<JobSnapshot>),
    Step(Arc<JobStep>),
    /// History does not reach back to the last revision; a snapshot follows.
    Gap {
        /// The oldest revision after which nothing is missing.
        oldest: i64,
    },
    /// Nothing changed for the keepalive interval; this is the last revision.
    Keepalive(i64),
}

/// A watch of one job.
pub struct JobWatcher {
    hub: Arc<Hub>,
    store: Store,
    job_id: Name,
    follower: TopicFollower,
    /// The revision sent last.
    cursor: i64,
    /// Create time of the job. None: the job was not read yet.
    create_time: Option<Timestamp>,
    queued: UpdateQueue<JobUpdate>,
    keepalive: KeepaliveTimer,
    is_over: bool,
    began: Instant,
    _open: OpenWatch,
}

impl JobWatcher {
    /// Begins a watch after a revision. 0: with a snapshot.
    ///
    /// # Errors
    /// If there is no such job, its revision is lower, or the database does not answer.
    pub async fn begin(
        hub: &Arc<Hub>,
        store: &Store,
        key: JobKey,
        job_id: Name,
        from: i64,
        memory: WatchMemory,
    ) -> Result<Self> {
        // Before the first read, so that no commit after it is missed.
        let follower = TopicFollower::begin(hub, key);
        let mut watcher = Self {
            hub: hub.clone(),
            store: store.clone(),
            job_id,
            follower,
            cursor: from,
            create_time: None,
            queued: UpdateQueue::new(memory),
            keepalive: KeepaliveTimer::new(hub.settings.keepalive),
            is_over: false,
            began: Instant::now(),
            _open: OpenWatch::begin(hub),
        };
        if from == 0 {
            watcher.queue_snapshot().await?;
        } else {
            watcher.catch_up(true).await?;
        }
        Ok(watcher)
    }

    /// Waits for the next update. None: the job has ended.
    ///
    /// # Errors
    /// If the job was deleted, or steps have to be read and the database does not answer.
    pub async fn next(&mut self) -> Result<Option<JobUpdate>> {
        loop {
            if let Some(update) = self.queued.take() {
                self.keepalive.reset();
                return Ok(Some(update));
            }
            if self.is_over {
                return Ok(None);
            }
            match self.follower.topic.after(self.cursor, self.hub.settings.conflate) {
                StepsAfter::Steps(steps) => {
                    self.queued.reserve(steps.iter().map(|step| step.weight_bytes()).sum()).await;
                    self.note_lag(&steps);
                    self.queue_steps(&steps);
                }
                StepsAfter::Older => self.catch_up(false).await?,
                StepsAfter::Gone => return Err(self.missing()),
                StepsAfter::Nothing => {
                    tokio::select! {
                        biased;
                        () = self.follower.changed() => {}
                        () = self.keepalive.elapsed() => self.queued.push_back(JobUpdate::Keepalive(self.cursor)),
                    }
                }
            }
        }
    }

    /// Records the time from commit to here, of steps that were committed since this watch began.
    fn note_lag(&self, steps: &[Arc<JobStep>]) {
        let now = Instant::now();
        for step in steps.iter().filter(|step| step.known_since >= self.began) {
            self.hub.figures.lag.took(now.duration_since(step.known_since));
        }
    }

    fn queue_steps(&mut self, steps: &[Arc<JobStep>]) {
        for step in steps {
            if step.revision <= self.cursor {
                continue;
            }
            self.queued.push_back(JobUpdate::Step(step.after(self.cursor)));
            self.cursor = step.revision;
            self.hub.figures.steps_sent.inc();
            if step.phase().is_terminal() {
                // A run after it is not part of this watch.
                self.is_over = true;
                return;
            }
        }
    }

    async fn queue_snapshot(&mut self) -> Result<()> {
        self.queued.reserve(READ_BYTES).await;
        let snapshot = self.follower.snapshot(&self.store).await?.ok_or_else(|| self.missing())?;
        self.check_same(&snapshot.job)?;
        self.cursor = snapshot.job.revision;
        self.is_over = snapshot.job.state.is_terminal();
        self.queued.push_back(JobUpdate::Snapshot(snapshot));
        self.hub.figures.snapshots_sent.inc();
        Ok(())
    }

    async fn catch_up(&mut self, at_first: bool) -> Result<()> {
        self.queued.reserve(READ_BYTES).await;
        let page = self.follower.page(&self.store, self.cursor).await?.ok_or_else(|| self.missing())?;
        self.check_same(&page.job)?;
        if page.job.revision < self.cursor {
            // After the beginning, it can only be another job under the same id.
            let (from, actual) = (self.cursor, page.job.revision);
            return Err(if at_first { Refusal::RevisionInFuture { from, actual }.into() } else { self.missing() });
        }
        if let Some(oldest) = page.gap_after(self.cursor) {
            self.queued.push_back(JobUpdate::Gap { oldest });
            self.hub.figures.gaps_sent.inc();
            return self.queue_snapshot().await;
        }
        self.queue_steps(&page.steps);
        // Also if the page has no steps: the watch may have resumed from the last revision.
        self.is_over |= !page.has_more && page.job.revision == self.cursor && page.job.state.is_terminal();
        Ok(())
    }

    /// Checks that a job is the watched one, and not one that was submitted again under its id.
    fn check_same(&mut self, job: &Job) -> Result<()> {
        let create_time = *self.create_time.get_or_insert(job.meta.create_time);
        if create_time == job.meta.create_time && self.follower.topic.is_of(job) { Ok(()) } else { Err(self.missing()) }
    }

    fn missing(&self) -> Error {
        Refusal::JobNotFound { job_id: self.job_id.to_string() }.into()
    }
}

impl Weighed for JobUpdate {
    fn weight_bytes(&self) -> usize {
        match self {
            Self::Snapshot(snapshot) => snapshot.weight_bytes(),
            Self::Step(step) => step.weight_bytes(),
            Self::Gap { .. } | Self::Keepalive(_) => 0,
        }
    }
}
