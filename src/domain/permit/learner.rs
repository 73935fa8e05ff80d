//! Learns how many calls a second a service allows, from its refusals.
//!
//! A refusal says that the present rate is too much, and the rate of what got through before it says how much was not. From
//! then on grants are paced. The pace soon returns to just below the limit, as that is probably still the same, and stays
//! there for a while; after that it grows ever faster, so that a limit that was raised is found within seconds. It grows
//! only with calls that get through, and only while it is what holds calls back: who asks for little learns nothing new.
//! The numbers were found by simulation (`simulation.rs`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::is_zero;
use crate::domain::time::Timestamp;

/// The slowest rate that is learned, per second: one call in ten seconds finds out whether the service allows more.
const SLOWEST: f64 = 0.1;
/// The rate after a refusal before which nothing got through, per second.
const FIRST: f64 = 1.0;
/// The fastest rate, per second: an interval of a microsecond.
const FASTEST: f64 = 1e6;
/// How much later than its turn a grant may be and the next one still keeps its own turn. Who asks seldom gathers no burst.
const TOLERANCE: Duration = Duration::from_millis(25);
/// The measure covers at most so many slots.
const SLOTS: usize = 5;
/// How long a slot is, in microseconds.
const SLOT_MICROS: i64 = 1_000_000;
/// What is taken of the measured rate after a refusal.
const STEP_BACK: f64 = 0.9;
/// The same where refusals follow each other closely: then the rate is far off, and the measure is of a gathered burst.
const LEAP_BACK: f64 = 0.7;
/// What is then taken as the limit, of the refused rate.
const LEAP_CEILING: f64 = 0.92;
/// A search that was refused late, as a gathered burst hid the limit, ran beyond it by no more than this factor undoes.
const OVERSHOT: f64 = 0.8;
/// Above this share of the ceiling the pace is near it, and beyond the other far above it.
const NEAR: f64 = 0.92;
/// See `NEAR`.
const FAR: f64 = 1.2;
/// Refusals within so many seconds of use follow each other closely; or within so many calls.
const CLOSELY: (f64, f64) = (3.0, 6.0);
/// After so many seconds of use and so many calls without a refusal, the limit may have been raised.
const CALM: (f64, u32) = (11.0, 30);

/// How a pace grows: by a share in each second, but no more than another share with each call.
struct Growth(f64, f64);

/// While nothing is known of a limit.
const START: Growth = Growth(0.70, 0.25);
/// Back to where it was refused.
const RETURN: Growth = Growth(0.20, 0.02);
/// Just below where it was refused.
const HOVER: Growth = Growth(0.003, 0.003);
/// Beyond it.
const SEARCH: Growth = Growth(0.075, 0.025);
/// Far beyond it.
const RUSH: Growth = Growth(0.35, 0.06);

/// What is known about the rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Learner {
    /// What got through lately.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    meter: Option<Meter>,
    /// What was learned, after the first refusal.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pace: Option<Pace>,
}

/// Calls that got through, after the first of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Meter {
    /// Where the oldest slot begins.
    #[serde(rename = "t")]
    from: Timestamp,
    /// Calls of each slot, the last one of the present.
    #[serde(rename = "n", default, skip_serializing_if = "Vec::is_empty")]
    counts: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pace {
    /// Grants per second.
    #[serde(rename = "r")]
    rate: f64,
    /// What got through per second before the last refusal.
    #[serde(rename = "c")]
    ceiling: f64,
    /// When grants begin again after the last refusal.
    #[serde(rename = "t")]
    since: Timestamp,
    /// Calls that got through since.
    #[serde(rename = "k", default, skip_serializing_if = "is_zero")]
    calls: u32,
    /// When it is the next grant's turn.
    #[serde(rename = "x")]
    next: Timestamp,
    /// Whether the last grant came in its turn, so that the pace is what holds calls back.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    busy: bool,
}

impl Learner {
    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Grants per second, once there was a refusal.
    pub(super) fn rate(&self) -> Option<f64> {
        self.pace.as_ref().map(|pace| pace.rate)
    }

    /// How long until the next grant's turn.
    pub(super) fn wait(&self, now: Timestamp) -> Duration {
        self.pace.as_ref().map_or(Duration::ZERO, |pace| now.until(pace.next))
    }

    /// The clock stepped back: what happened was earlier, and the next turn comes earlier.
    pub(super) fn step_back(&mut self, by: Duration) {
        if let Some(meter) = &mut self.meter {
            meter.from = meter.from.before(by);
        }
        if let Some(pace) = &mut self.pace {
            (pace.since, pace.next) = (pace.since.before(by), pace.next.before(by));
        }
    }

    /// Notes a grant.
    pub(super) fn granted(&mut self, now: Timestamp) {
        let Some(pace) = &mut self.pace else { return };
        pace.busy = now <= pace.next.after(TOLERANCE);
        let tolerance = i64::try_from(TOLERANCE.as_micros()).unwrap_or(0);
        pace.next = pace.next.max(Timestamp(now.0.saturating_sub(tolerance))).after(interval(pace.rate));
    }

    /// Notes that a call got through that was granted since the last refusal.
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

    /// Notes the refusal of a call that was granted since the last one; grants begin again at `resume`.
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
            Some(Pace { rate, ceiling: ceiling.clamp(SLOWEST, FASTEST), since: next, calls: 0, next, busy: true });
    }
}

impl Pace {
    /// Rate and ceiling after a refusal, where `measured` per second got through before it.
    fn step_back(&self, measured: Option<f64>, now: Timestamp) -> (f64, f64) {
        if seconds(self.since, now) < CLOSELY.0.max(CLOSELY.1 / self.rate) {
            return (self.rate * LEAP_BACK, self.rate * LEAP_CEILING);
        }
        // While the pace is what holds calls back, just so many of them got through; a mean over a time of growth is less.
        let reached =
            if self.busy { self.rate } else { measured.map_or(self.rate, |measured| measured.min(self.rate)) };
        let ceiling = if reached > self.ceiling && self.ceiling > SLOWEST {
            // The limit is somewhere between what was held for long and what was refused after a search.
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
        // Calls get through at the pace, so that the steps of a second come to its share.
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

    /// Calls per second up to `now`, or in the busiest slot, if that is more: who asked for little for most of the time says
    /// nothing about the limit. `None` if there were none.
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
