//! Effects of a stage's end: dependents become ready or are skipped, and the job may end.

use std::sync::Arc;

use super::tx::JobTx;
use super::{DEFAULT_GRACE, JobState};
use crate::domain::failure::{Failure, FailureClass, FailureReport};
use crate::domain::id::StageNo;
use crate::domain::stage::{DependsWhen, Stage, StagePhase, StageState};

impl JobTx {
    /// Propagates the end of stages to their dependents and children, and ends the job if no stage is open.
    pub(super) fn propagate_ends(&mut self, ended: impl Into<Vec<StageNo>>) {
        let mut ended: Vec<StageNo> = ended.into();
        let mut failed_job = None;
        while let Some(no) = ended.pop() {
            failed_job = failed_job.or_else(|| self.fails_job(no).then_some(no));
            self.withdraw_children(no, &mut ended);
            for dependent in self.job.graph.dependents(no).to_vec() {
                self.dependency_ended(dependent, no, &mut ended);
            }
        }
        match failed_job {
            Some(no) if self.job.state.is_active() => self.fail_job(self.job_failure_from(no)),
            Some(_) | None => self.finish_if_done(),
        }
    }

    fn dependency_ended(&mut self, no: StageNo, dependency: StageNo, ended: &mut Vec<StageNo>) {
        let well = !self.job.stages[dependency].ended_unsuccessfully();
        // `pending` is not stored: it is derived from the stages.
        self.job.stages.get_mut(no).expect("the graph names stages of this job").pending -= 1;
        let stage = &self.job.stages[no];
        if stage.phase() != StagePhase::Blocked {
            return;
        }
        if !well && stage.spec.depends_when == DependsWhen::AllSucceeded {
            self.set_stage_state(no, StageState::Skipped);
            ended.push(no);
        } else {
            self.ready_if_unblocked(no);
        }
    }

    /// Makes a blocked stage ready if it has no open dependency and the job's start time has passed.
    pub(super) fn ready_if_unblocked(&mut self, no: StageNo) {
        let stage = &self.job.stages[no];
        if stage.phase() == StagePhase::Blocked && stage.pending == 0 && self.job.opens_at.is_none() {
            self.set_stage_state(no, StageState::Ready);
        }
    }

    fn fails_job(&self, no: StageNo) -> bool {
        super::fails_job(&self.job.stages[no])
    }

    /// The failure of the job that a failed, cancelled or skipped stage causes.
    fn job_failure_from(&self, no: StageNo) -> Arc<Failure> {
        let stage = &self.job.stages[no];
        if let Some(failure) = stage.failure.as_ref().filter(|_| stage.phase() == StagePhase::Failed) {
            return failure.clone();
        }
        let culprit = stage
            .depends_on
            .iter()
            .map(|&no| &self.job.stages[no])
            .find(|dependency| dependency.ended_unsuccessfully());
        let because = culprit.map_or(String::new(), |culprit| {
            format!(" because stage {:?} is {}", culprit.spec.name, culprit.phase().name())
        });
        let class = culprit.and_then(|c| c.failure.as_ref()).map_or(FailureClass::Cancelled, |f| f.report.class);
        Arc::new(Failure {
            report: FailureReport {
                class,
                code: String::new(),
                message: format!("stage {:?} was {}{because}", stage.spec.name, stage.phase().name()),
                retry_after: None,
                details: None,
            },
            stage_name: stage.spec.name.to_string(),
            attempt: stage.attempt,
            max_attempts: stage.max_attempts(),
            budget: None,
            retry_wait: None,
            failure_time: self.now,
        })
    }

    /// Starts to fail the job: unstarted stages are skipped, workers are asked to stop, nothing is retried.
    pub(super) fn fail_job(&mut self, failure: Arc<Failure>) {
        self.job.failure = Some(failure);
        // Set before stages are skipped, so that skipped stages do not raise the progress.
        self.job.state = JobState::Failing { deadline: self.job.grace_end(self.clock, DEFAULT_GRACE) };
        self.mark_changed();
        self.end_stages(|stage| match stage.phase() {
            StagePhase::Blocked => Some(StageState::Skipped),
            // Skipped is a stage that never started; a stage with a failed attempt that is not retried has failed.
            StagePhase::Ready if stage.attempt == 0 => Some(StageState::Skipped),
            StagePhase::Ready | StagePhase::Backoff => Some(StageState::Failed),
            StagePhase::Running
            | StagePhase::Succeeded
            | StagePhase::Failed
            | StagePhase::Cancelled
            | StagePhase::Skipped => None,
        });
        self.finish_if_done();
    }

    /// Ends every stage for which `end` returns a state.
    pub(super) fn end_stages(&mut self, end: impl Fn(&Stage) -> Option<StageState>) {
        let doomed: Vec<(StageNo, StageState)> =
            self.job.stages.iter().filter_map(|stage| Some((stage.no, end(stage)?))).collect();
        for (no, _) in &doomed {
            for dependent in self.job.graph.dependents(*no).to_vec() {
                self.job.stages.get_mut(dependent).expect("the graph names stages of this job").pending -= 1;
            }
        }
        for (no, state) in doomed {
            self.set_stage_state(no, state);
        }
    }

    /// Ends the job if its last stage has ended.
    pub(super) fn finish_if_done(&mut self) {
        if self.job.state.is_terminal() || self.job.tally.open() > 0 {
            return;
        }
        self.job.state = match self.job.state {
            JobState::Cancelling { .. } => JobState::Cancelled,
            JobState::Failing { .. } => JobState::Failed,
            _ if self.job.tally.failed_job > 0 => JobState::Failed,
            _ => JobState::Succeeded,
        };
        self.job.end_time = Some(self.now);
        self.job.expire_time = Some(self.clock.after(self.job.meta.retention));
        self.mark_changed();
    }
}
