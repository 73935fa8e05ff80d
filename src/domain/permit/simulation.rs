//! Simulation of the learned rate (experimental, see `learner.rs`): a vendor with a rate limit, and callers that always have more calls.
//! Deterministic: the delays of callers are a fixed series. The constants of `learner.rs` were chosen so that these tests pass.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// Properties of the vendor and of the callers.
#[derive(Clone, Copy, Debug)]
struct Vendor {
    /// Size of the vendor's token bucket, in seconds of its rate; at least one call.
    burst: f64,
    /// Wait that its refusals ask for.
    retry_after: Option<Duration>,
    /// Duration of a call, refused or not.
    latency: Duration,
    /// Maximum delay of a caller behind its scheduled time, in microseconds.
    late: u64,
    /// Whether the vendor's bucket is full at the start.
    full: bool,
}

/// A time during which the vendor's rate does not change.
#[derive(Clone, Copy, Debug)]
struct RatePhase {
    /// Calls per second that the vendor allows.
    rate: f64,
    /// Duration of the phase in seconds.
    seconds: u64,
}

/// Results of a phase after its first ten seconds, and over all of it.
#[derive(Debug)]
struct PhaseFigures {
    /// Share of the allowed calls that were made.
    used: f64,
    /// Share of calls that were refused.
    refused: f64,
    /// Share of calls that were refused, the first ten seconds included.
    refused_in_all: f64,
}

/// A running call, ordered by its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    end: Timestamp,
    number: u64,
    granted_at: Timestamp,
    refused: bool,
    saturated: bool,
}

struct Simulation {
    vendor: Vendor,
    policy: AdaptivePolicy,
    limit: AdaptiveLimit,
    now: Timestamp,
    /// Tokens in the vendor's bucket at `filled_at`.
    level: f64,
    filled_at: Timestamp,
    out: BinaryHeap<Reverse<Call>>,
    /// Time at which the callers notice that the next call is scheduled.
    awake_at: Timestamp,
    random: u64,
    calls: u64,
}

impl Simulation {
    fn new(vendor: Vendor, first_rate: f64) -> Self {
        let policy = AdaptivePolicy { learn_rate: true, ..AdaptivePolicy::up_to(200) };
        Self {
            vendor,
            limit: AdaptiveLimit::new(&policy),
            policy,
            now: Timestamp(0),
            level: if vendor.full { (first_rate * vendor.burst).max(1.0) } else { 0.0 },
            filled_at: Timestamp(0),
            out: BinaryHeap::new(),
            awake_at: Timestamp(0),
            random: 1,
            calls: 0,
        }
    }

    fn has_room(&self) -> bool {
        (self.out.len() as i64) < self.limit.limit(&self.policy)
    }

    fn phase(&mut self, phase: RatePhase) -> PhaseFigures {
        let settled = self.now.after(Duration::from_secs(10));
        let end = self.now.after(Duration::from_secs(phase.seconds));
        // Successful and refused calls: in the first ten seconds, and later.
        let mut counts = [[0u32; 2]; 2];
        while self.now < end {
            self.finish_calls();
            while self.has_room() && self.awake_at <= self.now && self.limit.wait(&self.policy, self.now).is_zero() {
                let refused = self.call(phase.rate);
                counts[usize::from(self.now >= settled)][usize::from(refused)] += 1;
            }
            let mut next = self.out.peek().map_or(end, |Reverse(call)| call.end);
            if self.has_room() {
                next = next.min(self.now.after(self.limit.wait(&self.policy, self.now)).max(self.awake_at));
            }
            self.now = next.max(Timestamp(self.now.0 + 1)).min(end);
        }
        let [[early, early_refused], [ok, refused]] = counts.map(|pair| pair.map(f64::from));
        PhaseFigures {
            used: ok / (phase.rate * (phase.seconds - 10) as f64),
            refused: refused / (ok + refused).max(1.0),
            refused_in_all: (refused + early_refused) / (ok + refused + early + early_refused).max(1.0),
        }
    }

    fn finish_calls(&mut self) {
        while let Some(Reverse(call)) = self.out.peek().copied().filter(|Reverse(call)| call.end <= self.now) {
            self.out.pop();
            let class = call.refused.then_some(FailureClass::RateLimited);
            let retry_after = self.vendor.retry_after.filter(|_| call.refused);
            let latency = Some(self.vendor.latency);
            self.limit.ended(&self.policy, class, latency, retry_after, call.granted_at, call.saturated, self.now);
        }
    }

    /// Starts a call. Returns whether the vendor refuses it.
    fn call(&mut self, rate: f64) -> bool {
        self.limit.granted(self.now);
        let arrived = rate * self.filled_at.until(self.now).as_secs_f64();
        self.level = (self.level + arrived).min((rate * self.vendor.burst).max(1.0));
        self.filled_at = self.now;
        let refused = self.level < 1.0 - 1e-9;
        if !refused {
            self.level -= 1.0;
        }
        let saturated = (self.out.len() as i64 + 1) * 2 >= self.limit.limit(&self.policy);
        let end = self.now.after(self.vendor.latency);
        self.calls += 1;
        self.out.push(Reverse(Call { end, number: self.calls, granted_at: self.now, refused, saturated }));
        let wait = self.limit.wait(&self.policy, self.now);
        if self.vendor.late > 0 && !wait.is_zero() {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.awake_at = self.now.after(wait).after(Duration::from_micros((self.random >> 33) % self.vendor.late));
        }
        refused
    }
}

/// Runs the phases one after another and checks each.
fn check(vendor: Vendor, rates: &[f64], seconds: u64, least_used: f64, most_refused: f64) -> String {
    let mut simulation = Simulation::new(vendor, rates[0]);
    let mut line = String::new();
    for &rate in rates {
        let figures = simulation.phase(RatePhase { rate, seconds });
        line += &format!(
            " | {rate:5}/s {:5.1} % used {:4.1} % refused ({:4.1} %)",
            figures.used * 100.0,
            figures.refused * 100.0,
            figures.refused_in_all * 100.0
        );
        let good = figures.used >= least_used && figures.refused < most_refused;
        assert!(good, "{rate}/s after {rates:?} of {seconds} s in {vendor:?}: {figures:?}");
    }
    line
}

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

/// Every combination of these bursts with waits and delays.
fn vendors(bursts: &[f64]) -> Vec<Vendor> {
    let mut vendors = Vec::new();
    for &burst in bursts {
        for retry_after in [None, SECOND] {
            for (late, full) in [(0, true), (10_000, true), (0, false)] {
                vendors.push(Vendor { burst, retry_after, latency: Duration::from_millis(100), late, full });
            }
        }
    }
    vendors
}

#[test]
fn learned_rate_follows_a_changing_limit() {
    for vendor in vendors(&[0.25, 1.0, 5.0]) {
        let line = check(vendor, &[20.0, 8.0, 30.0], 60, 0.85, 0.05);
        println!("{:4} s burst, retry after {:?}, late {:5}{line}", vendor.burst, vendor.retry_after, vendor.late);
    }
}

#[test]
fn learned_rate_finds_slow_and_fast_limits() {
    for vendor in vendors(&[0.25, 1.0]) {
        for rate in [3.0, 5.0, 10.0, 30.0, 75.0, 200.0] {
            let line = check(vendor, &[rate; 3], 60, 0.85, 0.05);
            println!("{:4} s burst, retry after {:?}, late {:5}{line}", vendor.burst, vendor.retry_after, vendor.late);
        }
    }
}

#[test]
fn learned_rate_survives_jumps_and_odd_vendors() {
    for vendor in vendors(&[0.1, 0.25, 1.0, 5.0]) {
        for rates in [[3.0, 10.0, 5.0], [50.0, 100.0, 50.0], [200.0, 80.0, 200.0], [30.0, 3.0, 30.0]] {
            let line = check(vendor, &rates, 60, 0.75, 0.06);
            println!("{:4} s burst, retry after {:?}, late {:5}{line}", vendor.burst, vendor.retry_after, vendor.late);
        }
    }
}
