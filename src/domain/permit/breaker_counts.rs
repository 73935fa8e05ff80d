//! Counts of a closed breaker: consecutive failures, calls in a sliding window, and the reporters of failures.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::BreakerPolicy;
use crate::domain::time::Timestamp;

/// Number of slots that a window is divided into.
const SLOTS: u64 = 10;
/// Maximum number of remembered reporters, which bounds `min_reporters`.
const MOST_REPORTERS: usize = 16;

/// Counts since the breaker closed. Those of the window are kept only if the policy has a failure ratio.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct BreakerCounts {
    /// Failures since the last success.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    streak: u32,
    /// Slots of the window, oldest first, at most `SLOTS`.
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    slots: Vec<WindowSlot>,
    /// Reporters of failures in the streak or in the window: the latest `MOST_REPORTERS`.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    reporters: Vec<FailedReporter>,
}

/// Calls of a tenth of the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WindowSlot {
    /// End of the first call in the slot.
    #[serde(rename = "t")]
    at: Timestamp,
    #[serde(rename = "o", default, skip_serializing_if = "is_zero")]
    ok: u32,
    #[serde(rename = "f", default, skip_serializing_if = "is_zero")]
    failed: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FailedReporter {
    /// Hash of the reporter's name.
    #[serde(rename = "h")]
    hash: u64,
    /// Time of its last failure.
    #[serde(rename = "t")]
    at: Timestamp,
    /// Whether it reported a failure since the last success.
    #[serde(rename = "s", default, skip_serializing_if = "std::ops::Not::not")]
    in_streak: bool,
}

impl BreakerCounts {
    /// Counts a call that succeeded or failed.
    pub(super) fn note(&mut self, policy: &BreakerPolicy, failed: bool, reporter: u64, now: Timestamp) {
        if failed {
            self.streak = self.streak.saturating_add(1);
            self.note_reporter(reporter, now);
        } else {
            self.streak = 0;
            self.reporters.iter_mut().for_each(|known| known.in_streak = false);
        }
        if policy.failure_ratio.is_some() {
            self.note_in_window(policy, failed, now);
        }
        let since = window_begin(policy, now);
        self.reporters.retain(|known| known.in_streak || (policy.failure_ratio.is_some() && known.at > since));
    }

    /// Whether the breaker has to open: enough failures from enough reporters.
    pub(super) fn opens(&self, policy: &BreakerPolicy, now: Timestamp) -> bool {
        let quorum = usize::try_from(policy.min_reporters).unwrap_or(MOST_REPORTERS).clamp(1, MOST_REPORTERS);
        let in_row = policy.failure_threshold > 0
            && self.streak >= policy.failure_threshold
            && self.reporters.iter().filter(|known| known.in_streak).count() >= quorum;
        in_row || policy.failure_ratio.is_some_and(|ratio| self.exceeds(policy, ratio, quorum, now))
    }

    /// Drops counts that the new policy does not use.
    pub(super) fn adopt(&mut self, new: &BreakerPolicy) {
        if new.failure_ratio.is_none() {
            self.slots.clear();
            self.reporters.retain(|known| known.in_streak);
        }
    }

    /// Moves all times back by a step of the clock.
    pub(super) fn step_back(&mut self, by: Duration) {
        for at in
            self.slots.iter_mut().map(|slot| &mut slot.at).chain(self.reporters.iter_mut().map(|known| &mut known.at))
        {
            *at = at.before(by);
        }
    }

    fn exceeds(&self, policy: &BreakerPolicy, ratio: f64, quorum: usize, now: Timestamp) -> bool {
        let since = window_begin(policy, now);
        let (mut calls, mut failures) = (0u64, 0u64);
        for slot in self.slots.iter().filter(|slot| slot.at > since) {
            calls += u64::from(slot.ok) + u64::from(slot.failed);
            failures += u64::from(slot.failed);
        }
        // A ratio of NaN is never exceeded. Counts are far below 2^53, so they are exact as floats.
        failures > 0
            && calls >= u64::from(policy.min_calls)
            && failures as f64 >= ratio * calls as f64
            && self.reporters.iter().filter(|known| known.at > since).count() >= quorum
    }

    fn note_reporter(&mut self, hash: u64, now: Timestamp) {
        if let Some(known) = self.reporters.iter_mut().find(|known| known.hash == hash) {
            known.at = known.at.max(now);
            known.in_streak = true;
            return;
        }
        if self.reporters.len() >= MOST_REPORTERS {
            // Reporters in the streak are replaced last: they failed after all others, and so many of them reach any quorum.
            let oldest = self.reporters.iter().enumerate().min_by_key(|(_, known)| (known.in_streak, known.at));
            if let Some((oldest, _)) = oldest {
                self.reporters.swap_remove(oldest);
            }
        }
        self.reporters.push(FailedReporter { hash, at: now, in_streak: true });
    }

    fn note_in_window(&mut self, policy: &BreakerPolicy, failed: bool, now: Timestamp) {
        let since = window_begin(policy, now);
        self.slots.retain(|slot| slot.at > since);
        // Rounded up, so that no more than `SLOTS` begin within a window.
        let width = Duration::from_micros(window_micros(policy).div_ceil(SLOTS));
        // If the clock stepped back, the last slot is used.
        let fits = self.slots.last().is_some_and(|slot| now < slot.at.after(width));
        if !fits {
            self.slots.push(WindowSlot { at: now, ok: 0, failed: 0 });
        }
        if let Some(slot) = self.slots.last_mut() {
            let count = if failed { &mut slot.failed } else { &mut slot.ok };
            *count = count.saturating_add(1);
        }
    }
}

fn window_micros(policy: &BreakerPolicy) -> u64 {
    u64::try_from(policy.window.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Begin of the window: calls at this time or earlier are outside of it.
fn window_begin(policy: &BreakerPolicy, now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(window_micros(policy)).unwrap_or(i64::MAX)))
}

/// Tells serde that a count need not be stored.
pub(super) fn is_zero(number: &u32) -> bool {
    *number == 0
}
