//! Circuit breaker (Nygard, "Release It!", 2007): blocks a resource for a while when calls to it fail, then admits probes before it
//! admits all calls again.
//!
//! Each change of its state starts a new epoch, and each permit stores the epoch of its grant. An outcome counts only in its own epoch: a
//! probe of an earlier half-open state says nothing about this one, and a permit that was granted before the breaker opened neither closes
//! nor reopens it, not even if it ends after the breaker has closed again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker_counts::{BreakerCounts, is_zero};
use super::policy::BreakerPolicy;
use crate::domain::failure::FailureClass;
use crate::domain::time::Timestamp;

/// What the outcome of a permit says about the called service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallResult {
    /// The service answered the call.
    Success,
    /// The service failed or did not answer.
    Failure,
    /// The outcome says nothing about the service.
    Neutral,
}

impl CallResult {
    /// Result of an outcome; `None` is a success.
    pub fn of(outcome: Option<FailureClass>) -> Self {
        match outcome {
            // A client error is an answer of the service too.
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

    /// Result of a probe's outcome: a service that refuses with a rate limit answers again.
    pub fn of_probe(outcome: Option<FailureClass>) -> Self {
        if outcome == Some(FailureClass::RateLimited) { Self::Success } else { Self::of(outcome) }
    }
}

/// Permits that the breaker admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BreakerAdmission {
    /// Every permit is admitted.
    Free,
    /// One more permit, as a probe.
    Probe,
    /// One permit, if no other is held.
    Alone,
    /// No permit is admitted.
    Closed {
        /// Earliest time at which that can change. `None`: only the end of a probe changes it.
        until: Option<Timestamp>,
    },
}

/// What a permit stores about the breaker, for its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerPass {
    /// Epoch of the breaker at the grant.
    #[serde(rename = "e", default, skip_serializing_if = "is_zero")]
    pub epoch: u32,
    /// Whether the permit is a probe: its outcome closes or reopens the breaker.
    #[serde(rename = "p", default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
}

/// State of a breaker without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BreakerPhase {
    /// Permits are granted without restriction.
    Closed,
    /// No permits are granted, or one at a time.
    Open,
    /// Probes find out whether the service answers again.
    HalfOpen,
}

/// A circuit breaker. A new one is closed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// Epoch; grows by one with each change of the state.
    #[serde(rename = "e", default, skip_serializing_if = "is_zero")]
    epoch: u32,
    #[serde(rename = "s", default, skip_serializing_if = "BreakerState::is_fresh")]
    state: BreakerState,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum BreakerState {
    #[serde(rename = "c")]
    Closed(BreakerCounts),
    #[serde(rename = "o")]
    Open {
        #[serde(rename = "u")]
        until: Timestamp,
        /// Number of times it was reopened since it was last closed.
        #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
        times: u32,
    },
    #[serde(rename = "h")]
    HalfOpen {
        /// Number of probes that have not ended.
        #[serde(rename = "i", default, skip_serializing_if = "is_zero")]
        in_flight: u32,
        /// Number of probes that succeeded.
        #[serde(rename = "k", default, skip_serializing_if = "is_zero")]
        successes: u32,
        #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
        times: u32,
    },
}

impl Default for BreakerState {
    fn default() -> Self {
        Self::Closed(BreakerCounts::default())
    }
}

impl BreakerState {
    fn is_fresh(&self) -> bool {
        *self == Self::default()
    }
}

impl Breaker {
    /// Permits that are admitted at `now`.
    pub fn admission(&self, policy: &BreakerPolicy, now: Timestamp) -> BreakerAdmission {
        match self.state {
            BreakerState::Closed(_) => BreakerAdmission::Free,
            BreakerState::Open { until, .. } if until <= now => BreakerAdmission::Probe,
            BreakerState::Open { .. } if policy.open_limit > 0 => BreakerAdmission::Alone,
            BreakerState::Open { until, .. } => BreakerAdmission::Closed { until: Some(until) },
            BreakerState::HalfOpen { in_flight, .. } if in_flight < probes(policy) => BreakerAdmission::Probe,
            BreakerState::HalfOpen { .. } => BreakerAdmission::Closed { until: None },
        }
    }

    /// Records a grant at `now` and returns what the permit has to store. The first grant after the open time starts the half-open state.
    pub fn granted(&mut self, policy: &BreakerPolicy, now: Timestamp) -> BreakerPass {
        if let BreakerState::Open { until, times } = self.state
            && until <= now
        {
            self.enter(BreakerState::HalfOpen { in_flight: 0, successes: 0, times });
        }
        let probe = match &mut self.state {
            BreakerState::HalfOpen { in_flight, .. } if *in_flight < probes(policy) => {
                *in_flight += 1;
                true
            }
            // A permit beyond the probes was not admitted by the breaker, so its outcome does not count.
            BreakerState::HalfOpen { .. } | BreakerState::Open { .. } | BreakerState::Closed(_) => false,
        };
        BreakerPass { epoch: self.epoch, probe }
    }

    /// Records the end of a permit: the class of its failure; `None` is a success. A lost probe counts as a failure only if the caller
    /// passes [`FailureClass::Timeout`]; after a neutral outcome another probe is admitted. `reporter` is a hash of the holder, to
    /// distinguish one defective holder from a defective service.
    pub fn ended(
        &mut self,
        policy: &BreakerPolicy,
        class: Option<FailureClass>,
        pass: BreakerPass,
        reporter: u64,
        now: Timestamp,
    ) {
        if pass.epoch != self.epoch {
            return;
        }
        match &mut self.state {
            BreakerState::Closed(tally) => {
                let failed = match CallResult::of(class) {
                    CallResult::Success => false,
                    CallResult::Failure => true,
                    CallResult::Neutral => return,
                };
                tally.note(policy, failed, reporter, now);
                if tally.opens(policy, now) {
                    self.open(policy, 0, now);
                }
            }
            // Only time ends the open state, whatever the outcome of a permit that was granted meanwhile.
            BreakerState::Open { .. } => {}
            BreakerState::HalfOpen { in_flight, successes, times } => {
                if !pass.probe {
                    return;
                }
                *in_flight = in_flight.saturating_sub(1);
                match CallResult::of_probe(class) {
                    CallResult::Neutral => {}
                    CallResult::Failure => {
                        let times = times.saturating_add(1);
                        self.open(policy, times, now);
                    }
                    CallResult::Success => {
                        *successes = successes.saturating_add(1);
                        self.close_if_recovered(policy);
                    }
                }
            }
        }
    }

    /// Closes the breaker and clears its counts; permits that are held do not count any more.
    pub fn reset(&mut self) {
        self.enter(BreakerState::default());
    }

    /// State at `now`. After the open time it is half-open, since the next permit is a probe.
    pub fn phase(&self, now: Timestamp) -> BreakerPhase {
        match self.state {
            BreakerState::Closed(_) => BreakerPhase::Closed,
            BreakerState::Open { until, .. } if now < until => BreakerPhase::Open,
            BreakerState::Open { .. } | BreakerState::HalfOpen { .. } => BreakerPhase::HalfOpen,
        }
    }

    /// End of the open time, which may have passed. `None`: no time changes the state.
    pub fn changes_at(&self) -> Option<Timestamp> {
        match self.state {
            BreakerState::Open { until, .. } => Some(until),
            BreakerState::Closed(_) | BreakerState::HalfOpen { .. } => None,
        }
    }

    /// Adopts another policy. The state is kept; an open time ends no later than one that started now.
    pub fn adopt(&mut self, new: &BreakerPolicy, now: Timestamp) {
        match &mut self.state {
            BreakerState::Closed(tally) => tally.adopt(new),
            BreakerState::Open { until, times } => *until = (*until).min(now.after(open_time(new, *times))),
            BreakerState::HalfOpen { .. } => self.close_if_recovered(new),
        }
    }

    /// Moves all times back by a step of the clock.
    pub fn step_back(&mut self, by: Duration) {
        match &mut self.state {
            BreakerState::Closed(tally) => tally.step_back(by),
            BreakerState::Open { until, .. } => *until = until.before(by),
            BreakerState::HalfOpen { .. } => {}
        }
    }

    fn close_if_recovered(&mut self, policy: &BreakerPolicy) {
        if let BreakerState::HalfOpen { successes, .. } = self.state
            && successes >= probes(policy)
        {
            self.enter(BreakerState::default());
        }
    }

    fn open(&mut self, policy: &BreakerPolicy, times: u32, now: Timestamp) {
        self.enter(BreakerState::Open { until: now.after(open_time(policy, times)), times });
    }

    fn enter(&mut self, state: BreakerState) {
        // After 2^32 changes no permit of the first epoch is left.
        self.epoch = self.epoch.wrapping_add(1);
        self.state = state;
    }
}

/// Number of probes; without any the breaker would never close again.
fn probes(policy: &BreakerPolicy) -> u32 {
    policy.probes.max(1)
}

fn open_time(policy: &BreakerPolicy, times: u32) -> Duration {
    let exponent = i32::try_from(times).unwrap_or(i32::MAX);
    // `max` returns 1 if the multiplier is NaN.
    let factor = policy.open_multiplier.max(1.0).powi(exponent);
    // The first open time is exact. A product that a Duration cannot hold is longer than the longest time too.
    let grown = if factor == 1.0 {
        policy.open_for
    } else {
        Duration::try_from_secs_f64(policy.open_for.as_secs_f64() * factor).unwrap_or(policy.max_open)
    };
    grown.min(policy.max_open)
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
