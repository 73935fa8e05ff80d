//! A clock that stepped back, or that of a database host that is slower: what a resource remembers lies ahead, and would last
//! longer by the step.
//!
//! **Invariant.** After a resource was brought back, no instant in it is further ahead of now than its rule's longest time: a rate
//! fills, an open time, a wait or an interval begins no later than now, and a permit lasts no longer than it was acquired or renewed for.
//! Arrivals are left alone: they are an order.

use std::time::Duration;

use super::Permit;
use super::line::Wake;
use super::resource::{Resource, State};
use crate::domain::time::Timestamp;

/// By how much servers may disagree about the time: a shorter lead is no step.
pub const SLACK: Duration = Duration::from_secs(5);

impl Resource {
    /// Whether something in it lies further ahead than it can.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.update_time > now.after(SLACK) || self.held_permits().any(|permit| permit.is_ahead(now))
    }

    /// Brings it back: what was to come when it last changed comes as much later from now on.
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
    /// The longest that it lasts from a renewal on.
    pub fn longest(&self) -> Duration {
        self.ttl.max(self.renewed_for)
    }

    fn is_ahead(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at > now.after(self.longest()).after(SLACK))
    }
}

impl State {
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
            if let Wake::Woken { until } = &mut stages.wake {
                *until = until.before(by);
            }
        }
    }
}

#[cfg(test)]
#[path = "step_back_tests.rs"]
mod tests;
