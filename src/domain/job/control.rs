//! What people and the clock do to a job: update, pause, cancel, retry, and the moments that come by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Edit, Job, JobState};
use crate::domain::event::EventKind;
use crate::domain::failure::{Failure, FailureClass, FailureReport};
use crate::domain::id::{Name, StageNo};
use crate::domain::refusal::Refusal;
use crate::domain::stage::{StagePhase, StageState};

impl Job {
    /// The refusal that names this job and its state.
    pub fn refuses(&self, why: &'static str) -> Refusal {
        Refusal::InvalidTransition {
            what: format!("job {:?}", self.meta.job_id),
            state: self.state.phase().name(),
            why,
        }
    }

    /// Refuses unless `expected`, where given, is the current revision.
    pub fn expect_revision(&self, expected: Option<i64>) -> Result<(), Refusal> {
        match expected {
            Some(expected) if expected != self.revision => {
                Err(Refusal::VersionMismatch { expected, actual: self.revision })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Edit {
    /// Sets labels and priority, those that are given.
    pub fn update(&mut self, labels: Option<Arc<BTreeMap<String, String>>>, priority: Option<i32>) {
        let labels = labels.filter(|labels| *labels != self.job.labels);
        let priority = priority.filter(|priority| *priority != self.job.priority);
        if labels.is_some() || priority.is_some() {
            self.record(EventKind::JobUpdated);
            self.job.labels = labels.unwrap_or(self.job.labels.clone());
            self.job.priority = priority.unwrap_or(self.job.priority);
        }
    }

    /// Notes that the job's context changes, which is stored beside it.
    pub fn context_changed(&mut self) {
        self.record(EventKind::JobUpdated);
    }

    /// Hands out nothing until the job is resumed; holders may finish. The timeout stands still.
    pub fn pause(&mut self) -> Result<(), Refusal> {
        match self.job.state {
            JobState::Paused { .. } => Ok(()),
            JobState::Pending | JobState::Running => {
                self.record(EventKind::JobPaused);
                // Before the start time nothing of it is used up.
                let counts_from = self.job.opens_at.map_or(self.clock, |at| at.max(self.clock));
                let longest = self.job.meta.timeout.unwrap_or(Duration::MAX);
                let timeout_left = self.job.times_out_at.take().map(|at| counts_from.until(at).min(longest));
                self.job.state = JobState::Paused { timeout_left };
                Ok(())
            }
            _ => Err(self.job.refuses("cannot be paused")),
        }
    }

    /// Ends a pause.
    pub fn resume(&mut self) -> Result<(), Refusal> {
        match self.job.state {
            JobState::Pending | JobState::Running => Ok(()),
            JobState::Paused { timeout_left } => {
                self.record(EventKind::JobResumed);
                let counts_from = self.job.opens_at.map_or(self.clock, |at| at.max(self.clock));
                self.job.times_out_at = timeout_left.map(|left| counts_from.after(left));
                let started = self.job.start_time.is_some();
                self.job.state = if started { JobState::Running } else { JobState::Pending };
                Ok(())
            }
            _ => Err(self.job.refuses("cannot be resumed")),
        }
    }

    /// Asks everybody to stop; who holds a stage may go on for `grace`, or as `Job::grace_end` says. None at all ends leases at once.
    pub fn cancel(&mut self, grace: Duration, reason: Option<Name>) -> Result<(), Refusal> {
        match self.job.state {
            JobState::Cancelling { .. } | JobState::Failing { .. } | JobState::Cancelled => return Ok(()),
            JobState::Succeeded | JobState::Failed => return Err(self.job.refuses("has ended")),
            JobState::Pending | JobState::Running | JobState::Paused { .. } => {}
        }
        self.record(EventKind::JobCancelRequested);
        self.job.cancel_reason = reason;
        self.job.state = JobState::Cancelling { deadline: self.job.grace_end(self.clock, grace) };
        self.end_all(|stage| match stage.phase() {
            StagePhase::Blocked | StagePhase::Ready | StagePhase::Backoff => Some(StageState::Cancelled),
            StagePhase::Running if grace.is_zero() => Some(StageState::Cancelled),
            StagePhase::Running
            | StagePhase::Succeeded
            | StagePhase::Failed
            | StagePhase::Cancelled
            | StagePhase::Skipped => None,
        });
        self.finish_if_done();
        Ok(())
    }

    /// Runs an ended job again: what has not succeeded, and with `from_stage` also that stage, all that follow it and all that these added.
    pub fn retry(&mut self, from_stage: Option<&Name>) -> Result<(), Refusal> {
        let allowed = match self.job.state {
            JobState::Failed | JobState::Cancelled => true,
            JobState::Succeeded => from_stage.is_some(),
            _ => false,
        };
        if !allowed {
            let why = if self.job.state == JobState::Succeeded {
                "can only be run again from a named stage"
            } else {
                "can only be run again after it ended"
            };
            return Err(self.job.refuses(why));
        }
        let again = self.to_repeat(from_stage)?;
        self.record(EventKind::JobRetried);
        // Only a stage that completed can have set the result, and it stays true as long as all of those keep their success.
        if again.iter().any(|no| self.job.stages[*no].phase() == StagePhase::Succeeded) {
            self.changes().result = Some(None);
        }
        for &no in &again {
            self.alter(no, |stage| {
                stage.start_over();
                // Its parent will say whether it still wants it.
                if let Some(parent) = stage.parent.as_mut().filter(|parent| again.contains(&parent.no)) {
                    parent.fencing_token = 0;
                }
            });
            self.changes().artifacts.insert(no, None);
        }
        self.begin_run();
        // Stages that keep their success may wait for one that is run again.
        self.job.recount_pending();
        for no in again {
            self.ready_if_free(no);
        }
        // All stages may have succeeded while the job was being cancelled or after its timeout: then nothing is left to do.
        self.finish_if_done();
        Ok(())
    }

    fn begin_run(&mut self) {
        self.job.state = JobState::Pending;
        self.job.run += 1;
        self.job.progress = 0.0;
        self.job.failure = None;
        self.job.cancel_reason = None;
        // A new run of a job that was cancelled early does not start before its time either.
        self.job.opens_at = self.job.meta.delayed_until.filter(|at| *at > self.clock);
        let opens_at = self.job.opens_at.unwrap_or(self.clock);
        self.job.times_out_at = self.job.meta.timeout.map(|timeout| opens_at.after(timeout));
        self.job.start_time = None;
        self.job.end_time = None;
        self.job.expire_time = None;
    }

    fn to_repeat(&self, from_stage: Option<&Name>) -> Result<BTreeSet<StageNo>, Refusal> {
        let unfinished = |phase: StagePhase| phase != StagePhase::Succeeded;
        let mut again: BTreeSet<StageNo> =
            self.job.stages.iter().filter(|stage| unfinished(stage.phase())).map(|stage| stage.no).collect();
        let mut following = Vec::new();
        if let Some(name) = from_stage {
            let no = self.job.graph.find(name).ok_or_else(|| Refusal::StageNotFound {
                job_id: self.job.meta.job_id.to_string(),
                stage_name: name.to_string(),
            })?;
            following.push(no);
        }
        // What follows the named stage saw its old outcome, and what it added was its plan, so both go along.
        let mut seen = BTreeSet::new();
        while let Some(no) = following.pop() {
            if seen.insert(no) {
                following.extend(self.job.graph.dependents(no));
                following.extend(self.job.graph.children(no));
            }
        }
        again.append(&mut seen);
        // What a plan that stands does not have is not run. A parent has a lower number than its children.
        let withdrawn: Vec<StageNo> = again.iter().copied().filter(|no| self.job.stages[*no].is_unplanned()).collect();
        for no in withdrawn {
            if self.job.stages[no].parent.is_some_and(|parent| !again.contains(&parent.no)) {
                again.remove(&no);
            }
        }
        Ok(again)
    }

    /// Does what is due for the job itself: its delayed start, its timeout, the end of a grace period.
    pub fn wake_job(&mut self) {
        let now = self.clock;
        match self.job.state {
            JobState::Failing { deadline } | JobState::Cancelling { deadline } if deadline <= now => {
                self.record(EventKind::GraceEnded);
                self.end_all(|stage| (stage.phase() == StagePhase::Running).then_some(StageState::Cancelled));
                self.finish_if_done();
            }
            JobState::Pending | JobState::Running | JobState::Paused { .. } => {
                if self.job.times_out_at.is_some_and(|at| at <= now) {
                    self.record(EventKind::JobTimedOut);
                    self.fail_job(Arc::new(self.took_too_long()));
                } else if self.job.opens_at.is_some_and(|at| at <= now) {
                    self.record(EventKind::JobStarted);
                    self.job.opens_at = None;
                    let all: Vec<StageNo> = self.job.stages.iter().map(|stage| stage.no).collect();
                    for no in all {
                        self.ready_if_free(no);
                    }
                }
            }
            _ => {}
        }
    }

    fn took_too_long(&self) -> Failure {
        Failure {
            report: FailureReport {
                class: FailureClass::Timeout,
                code: String::new(),
                message: "the job took longer than its timeout".to_owned(),
                retry_after: None,
                details: None,
            },
            stage_name: String::new(),
            attempt: 0,
            max_attempts: 0,
            budget: None,
            retry_wait: None,
            failure_time: self.now,
        }
    }

    /// Does what is due for one stage: the end of its backoff, or of its attempt's time. `jitter` is in `[0, 1)`.
    pub fn wake_stage(&mut self, no: StageNo, jitter: f64) {
        let due = self.job.stages.get(no).and_then(|stage| stage.wakes_at()).is_some_and(|at| at <= self.clock);
        match self.job.stages.get(no).map(|stage| stage.phase()) {
            Some(StagePhase::Backoff) if due => {
                self.record(EventKind::BackoffEnded);
                self.enter(no, StageState::Ready);
            }
            Some(StagePhase::Running) if due => self.time_out(no, jitter),
            _ => {}
        }
    }
}
