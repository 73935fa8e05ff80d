//! Transitions by callers and by the clock: update, pause, resume, cancel, retry, and timers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::tx::JobTx;
use super::{Job, JobState};
use crate::domain::event::EventKind;
use crate::domain::failure::{Failure, FailureClass, FailureReport};
use crate::domain::id::{Name, StageNo};
use crate::domain::refusal::Refusal;
use crate::domain::stage::{StagePhase, StageState};

impl Job {
    /// Makes the refusal that names this job and its state.
    pub fn refusal(&self, why: &'static str) -> Refusal {
        Refusal::InvalidTransition {
            what: format!("job {:?}", self.meta.job_id),
            state: self.state.phase().name(),
            why,
        }
    }
}

impl JobTx {
    /// Sets labels and priority. `None`: unchanged.
    pub fn update(&mut self, labels: Option<Arc<BTreeMap<String, String>>>, priority: Option<i32>) {
        let labels = labels.filter(|labels| *labels != self.job.labels);
        let priority = priority.filter(|priority| *priority != self.job.priority);
        if labels.is_some() || priority.is_some() {
            self.record_event(EventKind::JobUpdated);
            self.job.labels = labels.unwrap_or(self.job.labels.clone());
            self.job.priority = priority.unwrap_or(self.job.priority);
        }
    }

    /// Records that the job's context changes, which is stored beside the job.
    pub fn context_changed(&mut self) {
        self.record_event(EventKind::JobUpdated);
    }

    /// Pauses the job: nothing is leased until it is resumed, workers may finish, and the timeout does not run.
    pub fn pause(&mut self) -> Result<(), Refusal> {
        match self.job.state {
            JobState::Paused { .. } => Ok(()),
            JobState::Pending | JobState::Running => {
                self.record_event(EventKind::JobPaused);
                // Before the start time nothing of the timeout is used.
                let counts_from = self.job.opens_at.map_or(self.clock, |at| at.max(self.clock));
                let longest = self.job.meta.timeout.unwrap_or(Duration::MAX);
                let timeout_left = self.job.times_out_at.take().map(|at| counts_from.until(at).min(longest));
                self.job.state = JobState::Paused { timeout_left };
                Ok(())
            }
            _ => Err(self.job.refusal("cannot be paused")),
        }
    }

    /// Ends a pause; the rest of the timeout runs from now on.
    pub fn resume(&mut self) -> Result<(), Refusal> {
        match self.job.state {
            JobState::Pending | JobState::Running => Ok(()),
            JobState::Paused { timeout_left } => {
                self.record_event(EventKind::JobResumed);
                let counts_from = self.job.opens_at.map_or(self.clock, |at| at.max(self.clock));
                self.job.times_out_at = timeout_left.map(|left| counts_from.after(left));
                let started = self.job.start_time.is_some();
                self.job.state = if started { JobState::Running } else { JobState::Pending };
                Ok(())
            }
            _ => Err(self.job.refusal("cannot be resumed")),
        }
    }

    /// Cancels the job. Workers may finish within the grace period, see `Job::grace_end`; zero ends leases at once.
    pub fn cancel(&mut self, grace: Duration, reason: Option<Name>) -> Result<(), Refusal> {
        match self.job.state {
            JobState::Cancelling { .. } | JobState::Failing { .. } | JobState::Cancelled => return Ok(()),
            JobState::Succeeded | JobState::Failed => return Err(self.job.refusal("has ended")),
            JobState::Pending | JobState::Running | JobState::Paused { .. } => {}
        }
        self.record_event(EventKind::JobCancelRequested);
        self.job.cancel_reason = reason;
        self.job.state = JobState::Cancelling { deadline: self.job.grace_end(self.clock, grace) };
        self.end_stages(|stage| match stage.phase() {
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

    /// Runs an ended job again: stages that have not succeeded; with `from_stage` also that stage, all that depend on it and
    /// all that these added.
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
            return Err(self.job.refusal(why));
        }
        let again = self.stages_to_rerun(from_stage)?;
        self.record_event(EventKind::JobRetried);
        // Only a completed stage can have set the result, which stays valid while all of them keep their success.
        if again.iter().any(|no| self.job.stages[*no].phase() == StagePhase::Succeeded) {
            self.changes().result = Some(None);
        }
        for &no in &again {
            self.update_stage(no, |stage| {
                stage.start_over();
                // Its parent decides whether the stage is still part of its plan.
                if let Some(parent) = stage.parent.as_mut().filter(|parent| again.contains(&parent.no)) {
                    parent.fencing_token = 0;
                }
            });
            self.changes().artifacts.insert(no, None);
        }
        self.begin_run();
        // A stage that keeps its success may depend on one that runs again.
        self.job.recount_pending();
        for no in again {
            self.ready_if_unblocked(no);
        }
        // All stages may have succeeded while the job was being cancelled or after its timeout. Then nothing is left to run.
        self.finish_if_done();
        Ok(())
    }

    fn begin_run(&mut self) {
        self.job.state = JobState::Pending;
        self.job.run += 1;
        self.job.progress = 0.0;
        self.job.failure = None;
        self.job.cancel_reason = None;
        // A new run of a job that was cancelled before its start time does not start before it either.
        self.job.opens_at = self.job.meta.delayed_until.filter(|at| *at > self.clock);
        let opens_at = self.job.opens_at.unwrap_or(self.clock);
        self.job.times_out_at = self.job.meta.timeout.map(|timeout| opens_at.after(timeout));
        self.job.start_time = None;
        self.job.end_time = None;
        self.job.expire_time = None;
    }

    fn stages_to_rerun(&self, from_stage: Option<&Name>) -> Result<BTreeSet<StageNo>, Refusal> {
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
        // Stages that depend on the named one used its old output, and stages that it added were its plan, so both run again.
        let mut seen = BTreeSet::new();
        while let Some(no) = following.pop() {
            if seen.insert(no) {
                following.extend(self.job.graph.dependents(no));
                following.extend(self.job.graph.children(no));
            }
        }
        again.append(&mut seen);
        // Stages that a valid plan does not contain are not run. A parent has a lower number than its children.
        let withdrawn: Vec<StageNo> = again.iter().copied().filter(|no| self.job.stages[*no].is_unplanned()).collect();
        for no in withdrawn {
            if self.job.stages[no].parent.is_some_and(|parent| !again.contains(&parent.no)) {
                again.remove(&no);
            }
        }
        Ok(again)
    }

    /// Applies a due timer of the job: its delayed start, its timeout, or the end of a grace period.
    pub fn wake_job(&mut self) {
        let now = self.clock;
        match self.job.state {
            JobState::Failing { deadline } | JobState::Cancelling { deadline } if deadline <= now => {
                self.record_event(EventKind::GraceEnded);
                self.end_stages(|stage| (stage.phase() == StagePhase::Running).then_some(StageState::Cancelled));
                self.finish_if_done();
            }
            JobState::Pending | JobState::Running | JobState::Paused { .. } => {
                if self.job.times_out_at.is_some_and(|at| at <= now) {
                    self.record_event(EventKind::JobTimedOut);
                    self.fail_job(Arc::new(self.timeout_failure()));
                } else if self.job.opens_at.is_some_and(|at| at <= now) {
                    self.record_event(EventKind::JobStarted);
                    self.job.opens_at = None;
                    let all: Vec<StageNo> = self.job.stages.iter().map(|stage| stage.no).collect();
                    for no in all {
                        self.ready_if_unblocked(no);
                    }
                }
            }
            _ => {}
        }
    }

    fn timeout_failure(&self) -> Failure {
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

    /// Applies a due timer of a stage: the end of its backoff, or the deadline of its attempt. `jitter` is in `[0, 1)`.
    pub fn wake_stage(&mut self, no: StageNo, jitter: f64) {
        let due = self.job.stages.get(no).and_then(|stage| stage.wakes_at()).is_some_and(|at| at <= self.clock);
        match self.job.stages.get(no).map(|stage| stage.phase()) {
            Some(StagePhase::Backoff) if due => {
                self.record_event(EventKind::BackoffEnded);
                self.set_stage_state(no, StageState::Ready);
            }
            Some(StagePhase::Running) if due => self.time_out(no, jitter),
            _ => {}
        }
    }
}
