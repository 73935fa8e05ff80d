//! A clock that stepped back, as for permits: no timer of a job lies further ahead than its longest time.

use std::time::Duration;

use super::edit::Edit;
use super::{DEFAULT_GRACE, JobState};
use crate::domain::id::StageNo;
use crate::domain::permit::step_back::SLACK;
use crate::domain::stage::{Attempt, Stage, StageState};
use crate::domain::time::Timestamp;

/// The longest grace that a cancellation can give.
const MAX_GRACE: Duration = Duration::from_secs(24 * 3600);

/// What a moment is brought back to, if it lies further ahead than `longest`.
fn brought_back(at: Timestamp, longest: Duration, clock: Timestamp) -> Option<Timestamp> {
    let latest = clock.after(longest);
    (at > latest.after(SLACK)).then_some(latest)
}

/// The state with its timer brought back, if that has to be.
fn state_of(stage: &Stage, clock: Timestamp) -> Option<StageState> {
    match &stage.state {
        StageState::Backoff { until } => {
            let longest = stage.failure.as_ref().and_then(|failure| failure.retry_wait)?;
            brought_back(*until, longest, clock).map(|until| StageState::Backoff { until })
        }
        StageState::Running(attempt) => {
            let deadline = brought_back(attempt.deadline?, stage.spec.timeout?, clock);
            deadline.map(|deadline| StageState::Running(Attempt { deadline: Some(deadline), ..attempt.clone() }))
        }
        _ => None,
    }
}

impl Edit {
    /// Brings back the timers of the job and its stages. When a job shall start is its caller's word and stays.
    pub fn step_back(&mut self) {
        let clock = self.clock;
        let timeout = self.job.meta.timeout.filter(|_| self.job.opens_at.is_none());
        let times_out_at =
            self.job.times_out_at.zip(timeout).and_then(|(at, longest)| brought_back(at, longest, clock));
        if let Some(at) = times_out_at {
            self.job.times_out_at = Some(at);
            self.touch();
        }
        let state = match self.job.state {
            JobState::Failing { deadline } => {
                brought_back(deadline, DEFAULT_GRACE, clock).map(|deadline| JobState::Failing { deadline })
            }
            JobState::Cancelling { deadline } => {
                brought_back(deadline, MAX_GRACE, clock).map(|deadline| JobState::Cancelling { deadline })
            }
            _ => None,
        };
        if let Some(state) = state {
            self.job.state = state;
            self.touch();
        }
        let stages: Vec<StageNo> = self.job.stages.iter().map(|stage| stage.no).collect();
        stages.into_iter().for_each(|no| self.step_back_stage(no));
    }

    /// Brings back the timer of one stage.
    pub fn step_back_stage(&mut self, no: StageNo) {
        let clock = self.clock;
        if let Some(state) = self.job.stages.get(no).and_then(|stage| state_of(stage, clock)) {
            self.alter(no, |stage| stage.state = state);
        }
    }
}
