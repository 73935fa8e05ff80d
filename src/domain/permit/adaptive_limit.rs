//! A limit that finds itself: it grows slowly while all goes well and shrinks at once where the service is overloaded.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::learner::Learner;
use super::policy::AdaptivePolicy;
use crate::domain::failure::FailureClass;
use crate::domain::retry::MAX_RETRY_AFTER;
use crate::domain::time::Timestamp;

/// Before anything happened.
const NEVER: Timestamp = Timestamp(i64::MIN);

/// How many permits may be out at once at present, and how fast they may be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveLimit {
    /// The limit with its fraction.
    #[serde(rename = "n")]
    limit: f64,
    /// When it was last decreased: what was granted earlier says nothing new.
    #[serde(rename = "d", default = "never", skip_serializing_if = "is_never")]
    decreased_at: Timestamp,
    /// Until when the service asked for silence.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    hold_until: Option<Timestamp>,
    /// The rate, where it is learned.
    #[serde(rename = "r", default, skip_serializing_if = "Learner::is_empty")]
    learned: Learner,
}

/// What the end of a permit says about the load.
enum Load {
    /// The service can take it.
    Fine,
    /// It is too much.
    TooMuch,
    /// Nothing.
    Unknown,
}

impl AdaptiveLimit {
    /// The limit before anything is known: the least one.
    pub fn new(policy: &AdaptivePolicy) -> Self {
        Self { limit: bounds(policy).0, decreased_at: NEVER, hold_until: None, learned: Learner::default() }
    }

    /// How many permits may be out at once: within `min` to `max` of the policy.
    pub fn limit(&self, policy: &AdaptivePolicy) -> i64 {
        // A cast from a float saturates; far beyond any real limit a float is not exact, so the bounds are held in integers.
        let min = policy.min.max(1);
        (within(self.limit, policy).floor() as i64).clamp(min, policy.max.max(min))
    }

    /// How long until the next permit may be given: until the service's silence ends and the learned rate allows it.
    pub fn wait(&self, policy: &AdaptivePolicy, now: Timestamp) -> Duration {
        let held = self.hold_until.map_or(Duration::ZERO, |until| now.until(until));
        if policy.learn_rate { held.max(self.learned.wait(now)) } else { held }
    }

    /// Until when the service asked for silence; that moment may have passed.
    pub fn hold_until(&self) -> Option<Timestamp> {
        self.hold_until
    }

    /// Permits per second that the service is believed to allow; `None` before its first refusal.
    pub fn learned_rate(&self) -> Option<f64> {
        self.learned.rate()
    }

    /// Notes that a permit is given at `now`.
    pub fn granted(&mut self, now: Timestamp) {
        self.hold_until = self.hold_until.filter(|until| now < *until);
        self.learned.granted(now);
    }

    /// Notes the end of a permit: its failure, or `None` for a success; how long the call took; for how long the service
    /// asked to be left alone. `saturated` says whether at its grant at least half of the limit was in use: otherwise its
    /// success says nothing about a higher one.
    #[expect(clippy::too_many_arguments)] // They are facts about one call and all of different types.
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
        // All refusals of calls that were under way together are one event.
        let news = granted_at >= self.decreased_at;
        match load(policy, class, latency) {
            Load::Fine if saturated => self.increase(policy),
            Load::TooMuch if news => self.decrease(policy, class, now),
            Load::Fine | Load::TooMuch | Load::Unknown => {}
        }
        if policy.learn_rate && news {
            self.learn(class, now);
        }
    }

    /// Goes on under another policy: within its bounds, and with what was learned only if it learns.
    pub fn adopt(&mut self, new: &AdaptivePolicy) {
        self.limit = within(self.limit, new);
        if !new.learn_rate {
            self.learned = Learner::default();
        }
    }

    /// The clock stepped back: what happened was earlier, and the silence ends earlier.
    pub fn step_back(&mut self, by: Duration) {
        self.decreased_at = self.decreased_at.before(by);
        self.hold_until = self.hold_until.map(|until| until.before(by));
        self.learned.step_back(by);
    }

    fn increase(&mut self, policy: &AdaptivePolicy) {
        let step = policy.increase.clamp(0.0, 1000.0);
        // A step that is not a number is none.
        let step = if step.is_nan() { 0.0 } else { step };
        let limit = within(self.limit, policy);
        self.limit = within(limit + step / limit, policy);
    }

    fn decrease(&mut self, policy: &AdaptivePolicy, class: Option<FailureClass>, now: Timestamp) {
        self.decreased_at = self.decreased_at.max(now);
        // Once calls are paced, "too many" means too many a second. Fewer at once would only make the pace uneven.
        if policy.learn_rate && self.learned.rate().is_some() && class == Some(FailureClass::RateLimited) {
            return;
        }
        let factor = if policy.decrease.is_nan() { 0.5 } else { policy.decrease.clamp(0.0, 1.0) };
        self.limit = within(within(self.limit, policy) * factor, policy);
    }

    fn learn(&mut self, class: Option<FailureClass>, now: Timestamp) {
        match class {
            // A wrong call used up a part of the allowance too.
            None | Some(FailureClass::ClientError) => self.learned.got_through(now),
            Some(FailureClass::RateLimited) => self.learned.refused(now, self.hold_until),
            // Whether it was counted is not known.
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
        // Services with too many connections hang up, or take no more of them.
        Some(FailureClass::RateLimited | FailureClass::ServerError | FailureClass::Network | FailureClass::Timeout) => {
            Load::TooMuch
        }
        Some(
            FailureClass::ClientError | FailureClass::Cancelled | FailureClass::Internal | FailureClass::LeaseExpired,
        ) => Load::Unknown,
    }
}

/// The least and the greatest limit; with none at all nothing would ever raise it again.
fn bounds(policy: &AdaptivePolicy) -> (f64, f64) {
    let min = policy.min.max(1);
    (min as f64, policy.max.max(min) as f64)
}

fn within(limit: f64, policy: &AdaptivePolicy) -> f64 {
    let (min, max) = bounds(policy);
    // `max` and `min` take the bound where the limit is not a number.
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
