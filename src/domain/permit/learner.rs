//! Learned rate: estimates from refusals how many calls per second a service allows. **Experimental.**
//!
//! A refusal shows that the current rate is too high, and the rate of successful calls before it shows what was allowed. From then on
//! grants are paced. The pace returns quickly to just below the last known limit, which is probably still the same, and stays there for a
//! while. Then it grows faster and faster, so that a raised limit is found within seconds. The shape (fast return, plateau, accelerating
//! search) resembles the window growth of CUBIC TCP (RFC 9438). The pace grows only with successful calls, and only while it is what
//! limits them. The constants were found by the simulation in `simulation.rs`; they have no other justification.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker_counts::is_zero;
use crate::domain::time::Timestamp;

/// Lowest learned rate, per second: one call in ten seconds finds out whether the service allows more.
const SLOWEST: f64 = 0.1;
/// Rate after a refusal without any successful call before it, per second.
const FIRST: f64 = 1.0;
/// Highest learned rate, per second: an interval of one microsecond.
const FASTEST: f64 = 1e6;
/// Delay of a grant behind its scheduled time that does not delay the next one. Longer delays are not made up for, so
/// that no burst accumulates.
const TOLERANCE: Duration = Duration::from_millis(25);
/// Maximum number of slots of the meter.
const SLOTS: usize = 5;
/// Length of a slot, in microseconds.
const SLOT_MICROS: i64 = 1_000_000;
/// Factor on the measured rate after a refusal.
const STEP_BACK: f64 = 0.9;
/// The same for refusals in close succession: then the rate is far too high, and the meter has counted an accumulated burst.
const LEAP_BACK: f64 = 0.7;
/// Factor on the refused rate that is then taken as the limit.
const LEAP_CEILING: f64 = 0.92;
/// Lower bound of the factor on the reached rate after a search that was refused late, because an accumulated burst hid the limit.
const OVERSHOT: f64 = 0.8;
/// Ratio of pace to ceiling above which the pace is near it.
const NEAR: f64 = 0.92;
/// Ratio of pace to ceiling above which the pace is far above it.
const FAR: f64 = 1.2;
/// Refusals are in close succession within this many seconds, or this many calls.
const CLOSELY: (f64, f64) = (3.0, 6.0);
/// Seconds and calls without a refusal after which the limit may have been raised.
const CALM: (f64, u32) = (11.0, 30);

/// Growth of a pace: share per second, and maximum share per call.
struct Growth(f64, f64);

/// Growth while no limit is known.
const START: Growth = Growth(0.70, 0.25);
/// Growth up to the rate that was refused.
const RETURN: Growth = Growth(0.20, 0.02);
/// Growth just below the rate that was refused.
const HOVER: Growth = Growth(0.003, 0.003);
/// Growth above that rate.
const SEARCH: Growth = Growth(0.075, 0.025);
/// Growth far above that rate.
const RUSH: Growth = Growth(0.35, 0.06);

/// State of the learned rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Learner {
    /// Counts of recent successful calls. `None`: there were none since the last refusal.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    meter: Option<Meter>,
    /// Pace of grants. `None`: there was no refusal yet.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pace: Option<PacedRate>,
}

/// Counts of successful calls, after the first of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Meter {
    /// Begin of the oldest slot.
    #[serde(rename = "t")]
    from: Timestamp,
    /// Calls of each slot, oldest first.
    #[serde(rename = "n", default, skip_serializing_if = "Vec::is_empty")]
    counts: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PacedRate {
    /// Rate of grants, per second.
    #[serde(rename = "r")]
    rate: f64,
    /// Rate of successful calls before the last refusal, per second.
    #[serde(rename = "c")]
    ceiling: f64,
    /// Time at which grants started again after the last refusal.
    #[serde(rename = "t")]
    since: Timestamp,
    /// Successful calls since then.
    #[serde(rename = "k", default, skip_serializing_if = "is_zero")]
    calls: u32,
    /// Scheduled time of the next grant.
    #[serde(rename = "x")]
    next: Timestamp,
    /// Whether the last grant was made at its scheduled time, so that the pace is what limits calls.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    busy: bool,
}

impl Learner {
    /// Whether nothing was recorded.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Rate of grants, per second. `None`: there was no refusal yet.
    pub(super) fn rate(&self) -> Option<f64> {
        self.pace.as_ref().map(|pace| pace.rate)
    }

    /// Time until the scheduled time of the next grant.
    pub(super) fn wait(&self, now: Timestamp) -> Duration {
        self.pace.as_ref().map_or(Duration::ZERO, |pace| now.until(pace.next))
    }

    /// Moves all times back by a step of the clock.
    pub(super) fn step_back(&mut self, by: Duration) {
        if let Some(meter) = &mut self.meter {
            meter.from = meter.from.before(by);
        }
        if let Some(pace) = &mut self.pace {
            (pace.since, pace.next) = (pace.since.before(by), pace.next.before(by));
        }
    }

    /// Records a grant at `now`.
    pub(super) fn granted(&mut self, now: Timestamp) {
        let Some(pace) = &mut self.pace else { return };
        pace.busy = now <= pace.next.after(TOLERANCE);
        let tolerance = i64::try_from(TOLERANCE.as_micros()).unwrap_or(0);
        pace.next = pace.next.max(Timestamp(now.0.saturating_sub(tolerance))).after(interval(pace.rate));
    }

    /// Records a successful call that was granted after the last refusal.
    pub(super) fn got_through(&mut self, now: Timestamp) {
        match &mut self.meter {
            Some(meter) => meter.note(now),
            None => self.meter = Some(Meter { from: now, counts: Vec::new() }),
        }
        if let Some(pace) = &mut self.pace {
            pace.calls = pace.calls.saturating_add(1);
            pace.grow(now);
        }
    }

    /// Records the refusal of a call that was granted after the last refusal. Grants start again at `resume`.
    pub(super) fn refused(&mut self, now: Timestamp, resume: Option<Timestamp>) {
        let measured = self.meter.take().and_then(|meter| meter.rate(now));
        let (rate, ceiling) = match &self.pace {
            Some(pace) => pace.step_back(measured, now),
            None => measured.map_or((FIRST, SLOWEST), |measured| (measured * STEP_BACK, measured)),
        };
        let rate = rate.clamp(SLOWEST, FASTEST);
        let next = now.after(interval(rate));
        let next = resume.map_or(next, |resume| resume.max(next));
        self.pace =
            Some(PacedRate { rate, ceiling: ceiling.clamp(SLOWEST, FASTEST), since: next, calls: 0, next, busy: true });
    }
}

impl PacedRate {
    /// Computes rate and ceiling after a refusal; `measured` is the rate of successful calls before it, per second.
    fn step_back(&self, measured: Option<f64>, now: Timestamp) -> (f64, f64) {
        if seconds(self.since, now) < CLOSELY.0.max(CLOSELY.1 / self.rate) {
            return (self.rate * LEAP_BACK, self.rate * LEAP_CEILING);
        }
        // While the pace limits calls, it is their rate; the mean over a time of growth would be lower.
        let reached =
            if self.busy { self.rate } else { measured.map_or(self.rate, |measured| measured.min(self.rate)) };
        let ceiling = if reached > self.ceiling && self.ceiling > SLOWEST {
            // The limit is between the rate that was held for long and the rate that was refused after a search.
            (reached * self.ceiling).sqrt().max(reached * OVERSHOT)
        } else {
            reached
        };
        (ceiling * STEP_BACK, ceiling)
    }

    fn grow(&mut self, now: Timestamp) {
        if !self.busy {
            return;
        }
        let calm = self.calls >= CALM.1 && seconds(self.since, now) >= CALM.0;
        let Growth(each_second, each_call) = match self.rate / self.ceiling {
            _ if self.ceiling <= SLOWEST => START,
            ratio if ratio < NEAR => RETURN,
            _ if !calm => HOVER,
            ratio if ratio < FAR => SEARCH,
            _ => RUSH,
        };
        // Calls succeed at the pace, so the steps of one second add up to the share per second.
        self.rate = (self.rate * (1.0 + (each_second / self.rate).min(each_call))).clamp(SLOWEST, FASTEST);
    }
}

impl Meter {
    fn note(&mut self, now: Timestamp) {
        let slot = usize::try_from(now.0.saturating_sub(self.from.0).max(0) / SLOT_MICROS).unwrap_or(usize::MAX);
        let past = slot.saturating_sub(SLOTS - 1);
        if past > 0 {
            self.counts.drain(..past.min(self.counts.len()));
            let past = i64::try_from(past).unwrap_or(i64::MAX);
            self.from = Timestamp(self.from.0.saturating_add(past.saturating_mul(SLOT_MICROS)));
        }
        let slot = slot - past;
        if self.counts.len() <= slot {
            self.counts.resize(slot + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(slot) {
            *count = count.saturating_add(1);
        }
    }

    /// Calls per second up to `now`, or in the busiest slot if that is more, since times with few calls say nothing about the limit.
    /// `None`: there were none.
    fn rate(&self, now: Timestamp) -> Option<f64> {
        let sum: f64 = self.counts.iter().copied().map(f64::from).sum();
        let mean = sum / seconds(self.from, now).max(0.1);
        let busiest = self.counts.iter().copied().max().map_or(0.0, f64::from);
        let rate = mean.max(busiest);
        (rate > 0.0).then_some(rate)
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    from.until(to).as_secs_f64()
}

fn interval(rate: f64) -> Duration {
    Duration::try_from_secs_f64(1.0 / rate.clamp(SLOWEST, FASTEST)).unwrap_or(Duration::ZERO)
}
