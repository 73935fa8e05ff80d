//! What follows when a stage ends: who becomes ready, who is skipped, whether the job is over.

use std::sync::Arc;

use super::{DEFAULT_GRACE, Edit, JobState};
use crate::domain::failure::{Failure, FailureClass, FailureReport};
use crate::domain::id::StageNo;
use crate::domain::stage::{DependsWhen, Stage, StagePhase, StageState};

impl Edit {
    /// Follows the arrows from stages that just ended, to the end of the job if it has come.
    pub(super) fn settle(&mut self, ended: impl Into<Vec<StageNo>>) {
        let mut ended: Vec<StageNo> = ended.into();
        let mut spoilt = None;
        while let Some(no) = ended.pop() {
            spoilt = spoilt.or_else(|| self.spoils(no).then_some(no));
            self.withdraw_children(no, &mut ended);
            for dependent in self.job.graph.dependents(no).to_vec() {
                self.dependency_ended(dependent, no, &mut ended);
            }
        }
        match spoilt {
            Some(no) if self.job.state.is_active() => self.fail_job(self.cause_of(no)),
            Some(_) | None => self.finish_if_done(),
        }
    }

    fn dependency_ended(&mut self, no: StageNo, dependency: StageNo, ended: &mut Vec<StageNo>) {
        let well = !self.job.stages[dependency].ended_badly();
        // How many dependencies are open is no column: it follows from the stages.
        self.job.stages.get_mut(no).expect("the graph names stages of this job").pending -= 1;
        let stage = &self.job.stages[no];
        if stage.phase() != StagePhase::Blocked {
            return;
        }
        if !well && stage.spec.depends_when == DependsWhen::AllSucceeded {
            self.enter(no, StageState::Skipped);
            ended.push(no);
        } else {
            self.ready_if_free(no);
        }
    }

    /// Makes a blocked stage ready when nothing is left to wait for.
    pub(super) fn ready_if_free(&mut self, no: StageNo) {
        let stage = &self.job.stages[no];
        if stage.phase() == StagePhase::Blocked && stage.pending == 0 && self.job.opens_at.is_none() {
            self.enter(no, StageState::Ready);
        }
    }

    fn spoils(&self, no: StageNo) -> bool {
        super::spoils(&self.job.stages[no])
    }

    /// The failure that a stage, failed or skipped, means for its job.
    fn cause_of(&self, no: StageNo) -> Arc<Failure> {
        let stage = &self.job.stages[no];
        if let Some(failure) = stage.failure.as_ref().filter(|_| stage.phase() == StagePhase::Failed) {
            return failure.clone();
        }
        let culprit =
            stage.depends_on.iter().map(|&no| &self.job.stages[no]).find(|dependency| dependency.ended_badly());
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

    /// The job will fail: what has not started is skipped, holders are asked to stop, nothing is tried again.
    pub(super) fn fail_job(&mut self, failure: Arc<Failure>) {
        self.job.failure = Some(failure);
        // What the stages that are now skipped would count for must not show as progress.
        self.job.state = JobState::Failing { deadline: self.job.grace_end(self.clock, DEFAULT_GRACE) };
        self.touch();
        self.end_all(|stage| match stage.phase() {
            StagePhase::Blocked => Some(StageState::Skipped),
            // Skipped is what has never started; an attempt that failed and is not repeated is a failure.
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

    /// Ends every stage for which `end` names an end.
    pub(super) fn end_all(&mut self, end: impl Fn(&Stage) -> Option<StageState>) {
        let doomed: Vec<(StageNo, StageState)> =
            self.job.stages.iter().filter_map(|stage| Some((stage.no, end(stage)?))).collect();
        for (no, _) in &doomed {
            for dependent in self.job.graph.dependents(*no).to_vec() {
                self.job.stages.get_mut(dependent).expect("the graph names stages of this job").pending -= 1;
            }
        }
        for (no, state) in doomed {
            self.enter(no, state);
        }
    }

    /// The job ends with its last stage.
    pub(super) fn finish_if_done(&mut self) {
        if self.job.state.is_terminal() || self.job.tally.open() > 0 {
            return;
        }
        self.job.state = match self.job.state {
            JobState::Cancelling { .. } => JobState::Cancelled,
            JobState::Failing { .. } => JobState::Failed,
            _ if self.job.tally.spoilt > 0 => JobState::Failed,
            _ => JobState::Succeeded,
        };
        self.job.end_time = Some(self.now);
        self.job.expire_time = Some(self.clock.after(self.job.meta.retention));
        self.touch();
    }
}
