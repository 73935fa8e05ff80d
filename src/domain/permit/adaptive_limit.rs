//! Adaptive limit of concurrent permits: additive increase and multiplicative decrease (AIMD: Chiu and Jain, 1989), with one decrease per
//! congestion event as in TCP.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::learner::Learner;
use super::policy::AdaptivePolicy;
use crate::domain::failure::FailureClass;
use crate::domain::retry::MAX_RETRY_AFTER;
use crate::domain::time::Timestamp;

/// Time before every event.
const NEVER: Timestamp = Timestamp(i64::MIN);

/// Current limit of concurrent permits, and the pace of grants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveLimit {
    /// Limit with its fraction.
    #[serde(rename = "n")]
    limit: f64,
    /// Time of the last decrease: calls that were granted earlier belong to the same congestion event.
    #[serde(rename = "d", default = "never", skip_serializing_if = "is_never")]
    decreased_at: Timestamp,
    /// Time until which the service asked to be left alone.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    hold_until: Option<Timestamp>,
    /// Learned rate, if the policy has it.
    #[serde(rename = "r", default, skip_serializing_if = "Learner::is_empty")]
    learned: Learner,
}

/// What the outcome of a call says about the load of the service.
enum Load {
    /// The load is not too high.
    Fine,
    /// The load is too high.
    TooMuch,
    /// The outcome says nothing about it.
    Unknown,
}

impl AdaptiveLimit {
    /// Makes a limit at the minimum of the policy.
    pub fn new(policy: &AdaptivePolicy) -> Self {
        Self { limit: bounds(policy).0, decreased_at: NEVER, hold_until: None, learned: Learner::default() }
    }

    /// Maximum amount in use, within `min` and `max` of the policy.
    pub fn limit(&self, policy: &AdaptivePolicy) -> i64 {
        // A cast from a float saturates. Large floats are not exact, so the bounds are applied to the integer.
        let min = policy.min.max(1);
        (within(self.limit, policy).floor() as i64).clamp(min, policy.max.max(min))
    }

    /// Time until the next grant: until the wait that the service asked for is over and the learned rate allows it.
    pub fn wait(&self, policy: &AdaptivePolicy, now: Timestamp) -> Duration {
        let held = self.hold_until.map_or(Duration::ZERO, |until| now.until(until));
        if policy.learn_rate { held.max(self.learned.wait(now)) } else { held }
    }

    /// Time until which the service asked to be left alone; may have passed. `None`: it did not ask.
    pub fn hold_until(&self) -> Option<Timestamp> {
        self.hold_until
    }

    /// Learned rate of grants, per second. `None`: there was no refusal yet.
    pub fn learned_rate(&self) -> Option<f64> {
        self.learned.rate()
    }

    /// Records a grant at `now`.
    pub fn granted(&mut self, now: Timestamp) {
        self.hold_until = self.hold_until.filter(|until| now < *until);
        self.learned.granted(now);
    }

    /// Records the outcome of a call: class of the failure (`None`: success), duration, and the wait that the service asked for.
    /// `saturated`: at least half of the limit was in use with the grant; otherwise a success says nothing about a higher limit.
    #[expect(clippy::too_many_arguments, reason = "they are facts about one call and all of different types")]
    pub fn ended(
        &mut self,
        policy: &AdaptivePolicy,
        class: Option<FailureClass>,
        latency: Option<Duration>,
        retry_after: Option<Duration>,
        granted_at: Timestamp,
        saturated: bool,
        now: Timestamp,
    ) {
        if let Some(asked) = retry_after {
            let until = now.after(asked.min(MAX_RETRY_AFTER));
            self.hold_until = Some(self.hold_until.map_or(until, |held| held.max(until)));
        }
        // All refusals of calls that ran at the same time are one congestion event.
        let is_new_event = granted_at >= self.decreased_at;
        match load(policy, class, latency) {
            Load::Fine if saturated => self.increase(policy),
            Load::TooMuch if is_new_event => self.decrease(policy, class, now),
            Load::Fine | Load::TooMuch | Load::Unknown => {}
        }
        if policy.learn_rate && is_new_event {
            self.learn(class, now);
        }
        debug_assert!(self.limit.is_finite(), "a limit is a number");
    }

    /// Adopts another policy: clamps the limit to its bounds, and drops the learned rate if it has none.
    pub fn adopt(&mut self, new: &AdaptivePolicy) {
        self.limit = within(self.limit, new);
        if !new.learn_rate {
            self.learned = Learner::default();
        }
    }

    /// Moves all times back by a step of the clock.
    pub fn step_back(&mut self, by: Duration) {
        self.decreased_at = self.decreased_at.before(by);
        self.hold_until = self.hold_until.map(|until| until.before(by));
        self.learned.step_back(by);
    }

    fn increase(&mut self, policy: &AdaptivePolicy) {
        let step = policy.increase.clamp(0.0, 1000.0);
        // A step of NaN counts as none.
        let step = if step.is_nan() { 0.0 } else { step };
        let limit = within(self.limit, policy);
        self.limit = within(limit + step / limit, policy);
    }

    fn decrease(&mut self, policy: &AdaptivePolicy, class: Option<FailureClass>, now: Timestamp) {
        self.decreased_at = self.decreased_at.max(now);
        // Once calls are paced, a rate limit means too many calls per second. A lower concurrency would only make the pace uneven.
        if policy.learn_rate && self.learned.rate().is_some() && class == Some(FailureClass::RateLimited) {
            return;
        }
        let factor = if policy.decrease.is_nan() { 0.5 } else { policy.decrease.clamp(0.0, 1.0) };
        self.limit = within(within(self.limit, policy) * factor, policy);
    }

    fn learn(&mut self, class: Option<FailureClass>, now: Timestamp) {
        match class {
            // An invalid call counts against the service's rate limit too.
            None | Some(FailureClass::ClientError) => self.learned.got_through(now),
            Some(FailureClass::RateLimited) => self.learned.refused(now, self.hold_until),
            // It is not known whether the service counted the call.
            Some(
                FailureClass::ServerError
                | FailureClass::Network
                | FailureClass::Timeout
                | FailureClass::Cancelled
                | FailureClass::Internal
                | FailureClass::LeaseExpired,
            ) => {}
        }
    }
}

fn load(policy: &AdaptivePolicy, class: Option<FailureClass>, latency: Option<Duration>) -> Load {
    match class {
        None => match (latency, policy.latency_target) {
            (Some(latency), Some(target)) if latency > target => Load::TooMuch,
            (Some(_) | None, Some(_) | None) => Load::Fine,
        },
        // Overloaded services close connections or accept no more of them.
        Some(FailureClass::RateLimited | FailureClass::ServerError | FailureClass::Network | FailureClass::Timeout) => {
            Load::TooMuch
        }
        Some(
            FailureClass::ClientError | FailureClass::Cancelled | FailureClass::Internal | FailureClass::LeaseExpired,
        ) => Load::Unknown,
    }
}

/// Bounds of the limit. The lower one is at least 1, since no call could raise a limit of 0.
fn bounds(policy: &AdaptivePolicy) -> (f64, f64) {
    let min = policy.min.max(1);
    (min as f64, policy.max.max(min) as f64)
}

fn within(limit: f64, policy: &AdaptivePolicy) -> f64 {
    let (min, max) = bounds(policy);
    // `max` and `min` return the bound if the limit is NaN.
    limit.max(min).min(max)
}

fn never() -> Timestamp {
    NEVER
}

fn is_never(at: &Timestamp) -> bool {
    *at == NEVER
}

#[cfg(test)]
#[path = "adaptive_limit_tests.rs"]
mod tests;
