//! A rate as a bucket of tokens, exact to the microsecond: whole numbers only, so nothing drifts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::RatePolicy;
use crate::domain::time::Timestamp;

/// The longest `per` that is reckoned with.
const LONGEST_PER: i64 = 24 * 3600 * 1_000_000;
/// The largest `amount` and `burst` that are reckoned with. Times `LONGEST_PER` it is well within 64 bits.
const MOST: i64 = 1_000_000;

/// What a rate still allows.
///
/// One token counts as many units as `per` has microseconds, so that each microsecond adds exactly `amount` units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBucket {
    /// Units in the bucket at `at`: 0 to `burst` times the microseconds of `per`.
    #[serde(rename = "l")]
    level: i64,
    /// The latest moment for which the level was reckoned.
    #[serde(rename = "a")]
    at: Timestamp,
}

/// A rate in units. Values outside of the allowed ranges count as the nearest allowed one, so that nothing overflows.
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
    /// A bucket as it is when nobody took anything for long.
    pub fn full(rate: &RatePolicy, now: Timestamp) -> Self {
        Self { level: Units::of(rate).full, at: now }
    }

    /// How many whole tokens can be taken at `now`: 0 to `burst`.
    pub fn available(&self, rate: &RatePolicy, now: Timestamp) -> i64 {
        let units = Units::of(rate);
        self.level_at(&units, now) / units.token
    }

    /// How long until `amount` tokens can be taken together, if nobody takes any meanwhile: zero where they can be taken
    /// now, `Duration::MAX` where the bucket never holds so many. Rounded up to the microsecond: then it is enough.
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
        // Nothing arrives before `at`: a clock that went back has to come forward again first.
        now.until(self.at)
            .saturating_add(Duration::from_micros(missing.unsigned_abs().div_ceil(units.inflow.unsigned_abs())))
    }

    /// Takes tokens; the caller has checked that they are there. If not, the bucket is empty afterwards, never in debt.
    pub fn take(&mut self, rate: &RatePolicy, amount: i64, now: Timestamp) {
        let units = Units::of(rate);
        let taken = amount.max(0).saturating_mul(units.token);
        self.level = self.level_at(&units, now).saturating_sub(taken).max(0);
        self.at = self.at.max(now);
    }

    /// Goes on under another rate. As many tokens are missing from the full bucket as before, to the fraction (rounded up,
    /// so that a change creates none): who spent the burst has spent it under the new rate too.
    pub fn adopt(&mut self, old: &RatePolicy, new: &RatePolicy, now: Timestamp) {
        let (before, after) = (Units::of(old), Units::of(new));
        let missing = i128::from(before.full - self.level_at(&before, now));
        // Neither is negative, and the divisor is at least 1; 128 bits hold any product of two numbers of 64.
        let missing = (missing * i128::from(after.token) + i128::from(before.token) - 1) / i128::from(before.token);
        let missing = i64::try_from(missing).unwrap_or(i64::MAX);
        self.level = after.full.saturating_sub(missing).clamp(0, after.full);
        self.at = self.at.max(now);
    }

    /// The clock stepped back: the level was reckoned earlier.
    pub fn step_back(&mut self, by: Duration) {
        self.at = self.at.before(by);
    }

    /// The level at `now`, without noting it. A `now` before `at` adds nothing.
    fn level_at(&self, units: &Units, now: Timestamp) -> i64 {
        let elapsed = now.0.saturating_sub(self.at.0).max(0);
        // A level from another rate that was not adopted may be outside of this one's range.
        self.level.max(0).saturating_add(elapsed.saturating_mul(units.inflow)).min(units.full)
    }
}

#[cfg(test)]
#[path = "token_bucket_tests.rs"]
mod tests;
