//! Token bucket (Turner, 1986, where it is called leaky bucket), exact to the microsecond: integers only, so nothing drifts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::RatePolicy;
use crate::domain::time::Timestamp;

/// Longest `per`; longer ones count as this one.
const LONGEST_PER: i64 = 24 * 3600 * 1_000_000;
/// Largest `amount` and `burst`; larger ones count as this one. Times `LONGEST_PER` it is well within 64 bits.
const MOST: i64 = 1_000_000;

/// State of a token bucket.
///
/// One token is as many units as `per` has microseconds, so that each microsecond adds exactly `amount` units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBucket {
    /// Units in the bucket at `at`: 0 to `burst` times the microseconds of `per`.
    #[serde(rename = "l")]
    level: i64,
    /// Latest time for which the level was computed.
    #[serde(rename = "a")]
    at: Timestamp,
}

/// A rate in units. Values outside of the allowed ranges are clamped, so that nothing overflows.
struct Units {
    /// Units of one token: the microseconds of `per`.
    token: i64,
    /// Units that arrive in a microsecond.
    inflow: i64,
    /// Units of a full bucket.
    full: i64,
}

impl Units {
    fn of(rate: &RatePolicy) -> Self {
        let token = i64::try_from(rate.per.as_micros()).unwrap_or(i64::MAX).clamp(1, LONGEST_PER);
        Self { token, inflow: rate.amount.clamp(1, MOST), full: rate.burst.clamp(1, MOST) * token }
    }
}

impl TokenBucket {
    /// Makes a full bucket.
    pub fn full(rate: &RatePolicy, now: Timestamp) -> Self {
        Self { level: Units::of(rate).full, at: now }
    }

    /// Number of whole tokens that can be taken at `now`: 0 to `burst`.
    pub fn available(&self, rate: &RatePolicy, now: Timestamp) -> i64 {
        let units = Units::of(rate);
        self.level_at(&units, now) / units.token
    }

    /// Time until `amount` tokens can be taken at once, if none are taken meanwhile. Zero: they can be taken now. `Duration::MAX`: the
    /// bucket never holds that many. Rounded up to the microsecond.
    pub fn wait(&self, rate: &RatePolicy, amount: i64, now: Timestamp) -> Duration {
        let units = Units::of(rate);
        let needed = amount.max(0).saturating_mul(units.token);
        if needed > units.full {
            return Duration::MAX;
        }
        // Both are within 0..=full.
        let missing = needed - self.level_at(&units, now);
        if missing <= 0 {
            return Duration::ZERO;
        }
        // Nothing arrives before `at`: a clock that stepped back has to reach it again first.
        now.until(self.at)
            .saturating_add(Duration::from_micros(missing.unsigned_abs().div_ceil(units.inflow.unsigned_abs())))
    }

    /// Takes tokens; the caller has checked that they are available. If they are not, the bucket is empty afterwards, never negative.
    pub fn take(&mut self, rate: &RatePolicy, amount: i64, now: Timestamp) {
        let units = Units::of(rate);
        let taken = amount.max(0).saturating_mul(units.token);
        self.level = self.level_at(&units, now).saturating_sub(taken).max(0);
        self.at = self.at.max(now);
        debug_assert!((0..=units.full).contains(&self.level), "a bucket is neither in debt nor overfull");
    }

    /// Adopts another rate. As many tokens are missing from the full bucket as before, including fractions (rounded up, so that a change
    /// creates none): a spent burst is spent under the new rate too.
    pub fn adopt(&mut self, old: &RatePolicy, new: &RatePolicy, now: Timestamp) {
        let (before, after) = (Units::of(old), Units::of(new));
        let missing = i128::from(before.full - self.level_at(&before, now));
        // Neither is negative, and the divisor is at least 1; 128 bits hold any product of two numbers of 64.
        let missing = (missing * i128::from(after.token) + i128::from(before.token) - 1) / i128::from(before.token);
        let missing = i64::try_from(missing).unwrap_or(i64::MAX);
        self.level = after.full.saturating_sub(missing).clamp(0, after.full);
        self.at = self.at.max(now);
    }

    /// Moves the time of the level back by a step of the clock.
    pub fn step_back(&mut self, by: Duration) {
        self.at = self.at.before(by);
    }

    /// Level at `now`; the bucket is not changed. A `now` before `at` adds nothing.
    fn level_at(&self, units: &Units, now: Timestamp) -> i64 {
        let elapsed = now.0.saturating_sub(self.at.0).max(0);
        // The level may be of another rate that was not adopted, and outside of this one's range.
        self.level.max(0).saturating_add(elapsed.saturating_mul(units.inflow)).min(units.full)
    }
}

#[cfg(test)]
#[path = "token_bucket_tests.rs"]
mod tests;
