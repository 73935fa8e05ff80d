//! Closes a resource for a while when calls to it fail, and tries it with a few before all go on.
//!
//! Each change of its state begins a new epoch, and each permit remembers the epoch of its grant. An outcome counts only in
//! its own epoch: a probe of an earlier half-open says nothing about this one, and what was granted before it opened neither
//! closes nor reopens it, not even when it ends after it has closed again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::BreakerPolicy;
use super::tally::Tally;
use crate::domain::failure::FailureClass;
use crate::domain::time::Timestamp;

/// What the end of a permit says about the called service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It answered.
    Success,
    /// It did not.
    Failure,
    /// Nothing.
    Neutral,
}

impl Verdict {
    /// The verdict of an outcome, where `None` is a success.
    pub fn of(outcome: Option<FailureClass>) -> Self {
        match outcome {
            // A client error is an answer too.
            None | Some(FailureClass::ClientError) => Self::Success,
            Some(FailureClass::ServerError | FailureClass::Network | FailureClass::Timeout) => Self::Failure,
            Some(
                FailureClass::RateLimited
                | FailureClass::Cancelled
                | FailureClass::Internal
                | FailureClass::LeaseExpired,
            ) => Self::Neutral,
        }
    }

    /// The verdict of a probe's outcome: a service that asks to slow down answers again.
    pub fn of_probe(outcome: Option<FailureClass>) -> Self {
        if outcome == Some(FailureClass::RateLimited) { Self::Success } else { Self::of(outcome) }
    }
}

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    /// Anybody, as far as the breaker is concerned.
    Free,
    /// One, as a probe.
    Probe,
    /// One, if nothing else is in use.
    Alone,
    /// Nobody.
    Closed {
        /// The earliest moment at which that may change; `None` where only the end of a probe changes it.
        until: Option<Timestamp>,
    },
}

/// What a permit remembers of the breaker, to be given back at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The epoch of its grant.
    #[serde(rename = "e", default, skip_serializing_if = "is_zero")]
    pub epoch: u32,
    /// Whether it is a probe, whose end decides how the breaker goes on.
    #[serde(rename = "p", default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
}

/// The names of the states, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BreakerPhase {
    /// Permits are given.
    Closed,
    /// None are given, or one at a time.
    Open,
    /// Probes find out whether the service is back.
    HalfOpen,
}

/// A circuit breaker. A new one is closed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// Grows by one with each change of the state.
    #[serde(rename = "e", default, skip_serializing_if = "is_zero")]
    epoch: u32,
    #[serde(rename = "s", default, skip_serializing_if = "State::is_fresh")]
    state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum State {
    #[serde(rename = "c")]
    Closed(Tally),
    #[serde(rename = "o")]
    Open {
        #[serde(rename = "u")]
        until: Timestamp,
        /// How often it was reopened since it was last closed.
        #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
        times: u32,
    },
    #[serde(rename = "h")]
    HalfOpen {
        /// Probes that have not ended.
        #[serde(rename = "i", default, skip_serializing_if = "is_zero")]
        in_flight: u32,
        /// Probes that succeeded.
        #[serde(rename = "k", default, skip_serializing_if = "is_zero")]
        successes: u32,
        #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
        times: u32,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed(Tally::default())
    }
}

impl State {
    fn is_fresh(&self) -> bool {
        *self == Self::default()
    }
}

impl Breaker {
    /// Who is let in at `now`.
    pub fn admission(&self, policy: &BreakerPolicy, now: Timestamp) -> Admission {
        match self.state {
            State::Closed(_) => Admission::Free,
            State::Open { until, .. } if until <= now => Admission::Probe,
            State::Open { .. } if policy.open_limit > 0 => Admission::Alone,
            State::Open { until, .. } => Admission::Closed { until: Some(until) },
            State::HalfOpen { in_flight, .. } if in_flight < probes(policy) => Admission::Probe,
            State::HalfOpen { .. } => Admission::Closed { until: None },
        }
    }

    /// Notes a permit that is given at `now`, and says what it shall remember. The first one after the open time begins the
    /// half-open.
    pub fn granted(&mut self, policy: &BreakerPolicy, now: Timestamp) -> Pass {
        if let State::Open { until, times } = self.state
            && until <= now
        {
            self.enter(State::HalfOpen { in_flight: 0, successes: 0, times });
        }
        let probe = match &mut self.state {
            State::HalfOpen { in_flight, .. } if *in_flight < probes(policy) => {
                *in_flight += 1;
                true
            }
            // One beyond the probes was not admitted by the breaker, so it does not decide for it either.
            State::HalfOpen { .. } | State::Open { .. } | State::Closed(_) => false,
        };
        Pass { epoch: self.epoch, probe }
    }

    /// Notes the end of a permit: its failure, or `None` for a success. A probe that was lost counts as a failure only if the
    /// caller says [`FailureClass::Timeout`]; a neutral end makes room for another probe. `reporter` is a hash of who
    /// reports, to tell one sick reporter from a sick service.
    pub fn ended(
        &mut self,
        policy: &BreakerPolicy,
        class: Option<FailureClass>,
        pass: Pass,
        reporter: u64,
        now: Timestamp,
    ) {
        if pass.epoch != self.epoch {
            return;
        }
        match &mut self.state {
            State::Closed(tally) => {
                let failed = match Verdict::of(class) {
                    Verdict::Success => false,
                    Verdict::Failure => true,
                    Verdict::Neutral => return,
                };
                tally.note(policy, failed, reporter, now);
                if tally.opens(policy, now) {
                    self.open(policy, 0, now);
                }
            }
            // Only time ends the open state, whatever became of a call that was let through meanwhile.
            State::Open { .. } => {}
            State::HalfOpen { in_flight, successes, times } => {
                if !pass.probe {
                    return;
                }
                *in_flight = in_flight.saturating_sub(1);
                match Verdict::of_probe(class) {
                    Verdict::Neutral => {}
                    Verdict::Failure => {
                        let times = times.saturating_add(1);
                        self.open(policy, times, now);
                    }
                    Verdict::Success => {
                        *successes = successes.saturating_add(1);
                        self.close_if_recovered(policy);
                    }
                }
            }
        }
    }

    /// Closes it and forgets what was counted; permits that are out no longer count.
    pub fn reset(&mut self) {
        self.enter(State::default());
    }

    /// The state at `now`; an open time that has passed counts as half-open, for the next permit is a probe.
    pub fn phase(&self, now: Timestamp) -> BreakerPhase {
        match self.state {
            State::Closed(_) => BreakerPhase::Closed,
            State::Open { until, .. } if now < until => BreakerPhase::Open,
            State::Open { .. } | State::HalfOpen { .. } => BreakerPhase::HalfOpen,
        }
    }

    /// The next moment at which it changes by itself, which may have passed: the end of the open time.
    pub fn changes_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Open { until, .. } => Some(until),
            State::Closed(_) | State::HalfOpen { .. } => None,
        }
    }

    /// Goes on under another policy. The state is kept; an open time ends no later than one that began now would.
    pub fn adopt(&mut self, new: &BreakerPolicy, now: Timestamp) {
        match &mut self.state {
            State::Closed(tally) => tally.adopt(new),
            State::Open { until, times } => *until = (*until).min(now.after(open_time(new, *times))),
            State::HalfOpen { .. } => self.close_if_recovered(new),
        }
    }

    /// The clock stepped back: what happened was earlier, and the open time ends earlier.
    pub fn step_back(&mut self, by: Duration) {
        match &mut self.state {
            State::Closed(tally) => tally.step_back(by),
            State::Open { until, .. } => *until = until.before(by),
            State::HalfOpen { .. } => {}
        }
    }

    fn close_if_recovered(&mut self, policy: &BreakerPolicy) {
        if let State::HalfOpen { successes, .. } = self.state
            && successes >= probes(policy)
        {
            self.enter(State::default());
        }
    }

    fn open(&mut self, policy: &BreakerPolicy, times: u32, now: Timestamp) {
        self.enter(State::Open { until: now.after(open_time(policy, times)), times });
    }

    fn enter(&mut self, state: State) {
        // After four thousand million changes no permit of the first epoch is left.
        self.epoch = self.epoch.wrapping_add(1);
        self.state = state;
    }
}

/// With none it would never close again.
fn probes(policy: &BreakerPolicy) -> u32 {
    policy.probes.max(1)
}

fn open_time(policy: &BreakerPolicy, times: u32) -> Duration {
    let exponent = i32::try_from(times).unwrap_or(i32::MAX);
    // `max` takes 1 where the multiplier is not a number.
    let factor = policy.open_multiplier.max(1.0).powi(exponent);
    // The first time is exact; a product beyond what a Duration holds is beyond the longest time too.
    let grown = if factor == 1.0 {
        policy.open_for
    } else {
        Duration::try_from_secs_f64(policy.open_for.as_secs_f64() * factor).unwrap_or(policy.max_open)
    };
    grown.min(policy.max_open)
}

pub(super) fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
