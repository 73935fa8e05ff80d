//! A database clock that stepped back, or a failover to a host with a slower clock: stored times of a resource lie in the future, and waits
//! would be longer by the step.
//!
//! **Invariant.** After `step_back` no stored time is further ahead of now than the longest duration of its rule: buckets fill, open times,
//! waits and intervals start no later than now, and a permit lasts no longer than it was acquired or renewed for. Arrivals are not changed,
//! since they are only an order.

use std::time::Duration;

use super::Permit;
use super::resource::{Resource, ResourceState};
use super::wait_queue::StageWakeUp;
use crate::domain::time::Timestamp;

/// Maximum difference of the clocks of servers: a smaller lead is not a step.
pub const SLACK: Duration = Duration::from_secs(5);

impl Resource {
    /// Whether a stored time lies further ahead than its rule allows.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.update_time > now.after(SLACK) || self.held_permits().any(|permit| permit.is_ahead(now))
    }

    /// Moves all stored times back, so that durations that remained at the last change remain from now on.
    pub fn step_back(&mut self, now: Timestamp) {
        if self.update_time > now.after(SLACK) {
            self.state.step_back(now.until(self.update_time));
            self.update_time = now;
        }
        let ahead: Vec<_> = self.held_permits().filter(|permit| permit.is_ahead(now)).cloned().collect();
        for permit in ahead {
            let expires_at = Some(now.after(permit.longest()));
            self.permits.insert(permit.id, Permit { expires_at, ..Permit::clone(&permit) }.into());
        }
        debug_assert!(!self.is_ahead(now), "once is enough");
    }
}

impl Permit {
    /// Longest duration from a renewal to the expiry.
    pub fn longest(&self) -> Duration {
        self.ttl.max(self.renewed_for)
    }

    fn is_ahead(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at > now.after(self.longest()).after(SLACK))
    }
}

impl ResourceState {
    fn step_back(&mut self, by: Duration) {
        for bucket in &mut self.buckets {
            bucket.step_back(by);
        }
        if let Some(last) = &mut self.last_grant {
            *last = last.before(by);
        }
        if let Some(breaker) = &mut self.breaker {
            breaker.step_back(by);
        }
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.step_back(by);
        }
        if let Some(stages) = &mut self.stages {
            stages.seen = stages.seen.before(by);
            stages.every_queue_until = stages.every_queue_until.map(|until| until.before(by));
            if let StageWakeUp::Woken { until } = &mut stages.wake {
                *until = until.before(by);
            }
        }
    }
}

#[cfg(test)]
#[path = "step_back_tests.rs"]
mod tests;
