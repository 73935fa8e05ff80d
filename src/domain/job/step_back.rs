//! A database clock that stepped back: timers of a job that lie further ahead than their longest duration are lowered, as for permits.

use std::time::Duration;

use super::tx::JobTx;
use super::{DEFAULT_GRACE, JobState};
use crate::domain::id::StageNo;
use crate::domain::permit::step_back::SLACK;
use crate::domain::stage::{Attempt, Stage, StageState};
use crate::domain::time::Timestamp;

/// Longest grace period of a cancellation.
const MAX_GRACE: Duration = Duration::from_secs(24 * 3600);

/// The latest time that a timer of duration `longest` can have. `None`: `at` is not later.
fn clamped(at: Timestamp, longest: Duration, clock: Timestamp) -> Option<Timestamp> {
    let latest = clock.after(longest);
    (at > latest.after(SLACK)).then_some(latest)
}

/// The state with a lowered timer. `None`: the timer is in range.
fn state_of(stage: &Stage, clock: Timestamp) -> Option<StageState> {
    match &stage.state {
        StageState::Backoff { until } => {
            let longest = stage.failure.as_ref().and_then(|failure| failure.retry_wait)?;
            clamped(*until, longest, clock).map(|until| StageState::Backoff { until })
        }
        StageState::Running(attempt) => {
            let deadline = clamped(attempt.deadline?, stage.spec.timeout?, clock);
            deadline.map(|deadline| StageState::Running(Attempt { deadline: Some(deadline), ..attempt.clone() }))
        }
        _ => None,
    }
}

impl JobTx {
    /// Lowers the timers of the job and of its stages. The start time was given by the caller and stays.
    pub fn step_back(&mut self) {
        let clock = self.clock;
        let timeout = self.job.meta.timeout.filter(|_| self.job.opens_at.is_none());
        let times_out_at = self.job.times_out_at.zip(timeout).and_then(|(at, longest)| clamped(at, longest, clock));
        if let Some(at) = times_out_at {
            self.job.times_out_at = Some(at);
            self.mark_changed();
        }
        let state = match self.job.state {
            JobState::Failing { deadline } => {
                clamped(deadline, DEFAULT_GRACE, clock).map(|deadline| JobState::Failing { deadline })
            }
            JobState::Cancelling { deadline } => {
                clamped(deadline, MAX_GRACE, clock).map(|deadline| JobState::Cancelling { deadline })
            }
            _ => None,
        };
        if let Some(state) = state {
            self.job.state = state;
            self.mark_changed();
        }
        let stages: Vec<StageNo> = self.job.stages.iter().map(|stage| stage.no).collect();
        stages.into_iter().for_each(|no| self.step_back_stage(no));
    }

    /// Lowers the timer of one stage.
    pub fn step_back_stage(&mut self, no: StageNo) {
        let clock = self.clock;
        if let Some(state) = self.job.stages.get(no).and_then(|stage| state_of(stage, clock)) {
            self.update_stage(no, |stage| stage.state = state);
        }
    }
}
