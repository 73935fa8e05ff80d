//! What opens and closes a breaker, as a table and against a model.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use FailureClass::{Cancelled, ClientError, RateLimited, ServerError, Timeout};

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One call from grant to end at the same moment.
fn call(breaker: &mut Breaker, policy: &BreakerPolicy, class: Option<FailureClass>, reporter: u64, now: Timestamp) {
    let pass = breaker.granted(policy, now);
    breaker.ended(policy, class, pass, reporter, now);
}

fn opened(policy: &BreakerPolicy) -> Breaker {
    let mut breaker = Breaker::default();
    for reporter in 0..3 {
        call(&mut breaker, policy, Some(ServerError), reporter, at(0));
    }
    assert_eq!(breaker.phase(at(0)), BreakerPhase::Open);
    breaker
}

#[test]
fn breaker_phase_after_call_sequences() {
    let usual = BreakerPolicy::default();
    let ratio = BreakerPolicy { failure_threshold: 0, failure_ratio: Some(0.5), ..usual.clone() };
    let both = BreakerPolicy { failure_ratio: Some(0.5), ..usual.clone() };
    // s: success, f: failure, c: the caller's fault, r: rate limited, n: cancelled; each a second after the last.
    let table: [(&str, &BreakerPolicy, &str, BreakerPhase); 15] = [
        ("nothing happened", &usual, "", BreakerPhase::Closed),
        ("too few", &usual, "ff", BreakerPhase::Closed),
        ("enough in a row", &usual, "fff", BreakerPhase::Open),
        ("a success between", &usual, "ffsff", BreakerPhase::Closed),
        ("a wrong call was answered", &usual, "ffcff", BreakerPhase::Closed),
        ("a rate limit says nothing", &usual, "ffrf", BreakerPhase::Open),
        ("nor does a cancellation", &usual, "fnfnf", BreakerPhase::Open),
        ("the share of too few calls", &ratio, "fffffffff", BreakerPhase::Closed),
        ("the share of enough calls", &ratio, "ffffffffff", BreakerPhase::Open),
        ("neutral ones are no calls", &ratio, "fffffffffn", BreakerPhase::Closed),
        ("exactly the share", &ratio, "sfsfsfsfsf", BreakerPhase::Open),
        ("below the share", &ratio, "ssfsfsfsfsf", BreakerPhase::Closed),
        ("a success completes the calls", &ratio, "fffffffffs", BreakerPhase::Open),
        ("either will do: the count", &both, "fff", BreakerPhase::Open),
        ("either will do: the share", &both, "ffsffsffsf", BreakerPhase::Open),
    ];
    for (name, policy, calls, expected) in table {
        let mut breaker = Breaker::default();
        for (second, call_kind) in calls.chars().enumerate() {
            let class = match call_kind {
                's' => None,
                'f' => Some(ServerError),
                'c' => Some(ClientError),
                'r' => Some(RateLimited),
                _ => Some(Cancelled),
            };
            call(&mut breaker, policy, class, 1, at(second as i64));
        }
        assert_eq!(breaker.phase(at(20)), expected, "{name}");
    }
}

#[test]
fn failures_of_one_reporter_do_not_open_a_breaker_that_needs_two() {
    let by_count = BreakerPolicy { min_reporters: 2, ..BreakerPolicy::default() };
    let by_ratio = BreakerPolicy { failure_threshold: 0, failure_ratio: Some(0.1), ..by_count.clone() };
    for policy in [by_count, by_ratio] {
        let mut breaker = Breaker::default();
        for second in 0..1000 {
            call(&mut breaker, &policy, Some(Timeout), 7, at(second));
        }
        assert_eq!(breaker.phase(at(1000)), BreakerPhase::Closed);
        call(&mut breaker, &policy, Some(Timeout), 8, at(1000));
        assert_eq!(breaker.phase(at(1000)), BreakerPhase::Open);
    }
}

#[test]
fn a_reporter_counts_only_in_its_streak_or_window() {
    let by_count = BreakerPolicy { min_reporters: 2, ..BreakerPolicy::default() };
    let mut breaker = Breaker::default();
    call(&mut breaker, &by_count, Some(Timeout), 8, at(0));
    call(&mut breaker, &by_count, None, 8, at(0));
    (0..10).for_each(|_| call(&mut breaker, &by_count, Some(Timeout), 7, at(0)));
    assert_eq!(breaker.phase(at(0)), BreakerPhase::Closed);

    let by_ratio = BreakerPolicy { failure_threshold: 0, failure_ratio: Some(0.1), ..by_count };
    let mut breaker = Breaker::default();
    call(&mut breaker, &by_ratio, Some(Timeout), 8, at(0));
    call(&mut breaker, &by_ratio, None, 8, at(0));
    (0..20).for_each(|_| call(&mut breaker, &by_ratio, Some(Timeout), 7, at(60)));
    assert_eq!(breaker.phase(at(60)), BreakerPhase::Closed);
    call(&mut breaker, &by_ratio, Some(Timeout), 8, at(61));
    assert_eq!(breaker.phase(at(61)), BreakerPhase::Open);
}

#[test]
fn failures_before_the_window_do_not_count() {
    let policy = BreakerPolicy { failure_threshold: 0, failure_ratio: Some(0.5), ..BreakerPolicy::default() };
    let mut breaker = Breaker::default();
    (0..9).for_each(|_| call(&mut breaker, &policy, Some(ServerError), 1, at(0)));
    call(&mut breaker, &policy, Some(ServerError), 1, at(60));
    assert_eq!(breaker.phase(at(60)), BreakerPhase::Closed);
}

#[test]
fn open_time_grows_with_each_failed_probe_until_a_probe_succeeds() {
    let policy = BreakerPolicy {
        open_multiplier: 2.0,
        max_open: seconds(300),
        open_for: seconds(60),
        ..BreakerPolicy::default()
    };
    let mut breaker = opened(&policy);
    let mut now = at(0);
    for expected in [60, 120, 240, 300, 300] {
        assert_eq!(breaker.changes_at(), Some(now.after(seconds(expected))));
        assert_eq!(breaker.admission(&policy, now), BreakerAdmission::Closed { until: breaker.changes_at() });
        now = now.after(seconds(expected));
        assert_eq!(breaker.admission(&policy, now), BreakerAdmission::Probe);
        call(&mut breaker, &policy, Some(Timeout), 1, now);
    }
    now = now.after(seconds(300));
    // A service that asks to slow down answers again.
    call(&mut breaker, &policy, Some(RateLimited), 1, now);
    assert_eq!(breaker, Breaker { state: BreakerState::default(), ..breaker.clone() });
    for reporter in 0..3 {
        call(&mut breaker, &policy, Some(ServerError), reporter, now);
    }
    assert_eq!(breaker.changes_at(), Some(now.after(seconds(60))));
}

#[test]
fn open_times_are_bounded_whatever_the_policy() {
    for open_multiplier in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        let policy = BreakerPolicy { open_multiplier, ..BreakerPolicy::default() };
        assert!(open_time(&policy, u32::MAX) <= policy.max_open && open_time(&policy, 0) == policy.open_for);
    }
}

#[test]
fn a_neutral_probe_allows_another_probe() {
    let policy = BreakerPolicy::default();
    let mut breaker = opened(&policy);
    let probe = breaker.granted(&policy, at(60));
    assert!(probe.probe);
    assert_eq!(breaker.admission(&policy, at(60)), BreakerAdmission::Closed { until: None });
    breaker.ended(&policy, Some(Cancelled), probe, 1, at(61));
    assert_eq!(breaker.admission(&policy, at(61)), BreakerAdmission::Probe);
}

#[test]
fn outcomes_of_another_epoch_do_not_count() {
    let policy = BreakerPolicy { probes: 2, ..BreakerPolicy::default() };
    let mut breaker = Breaker::default();
    let early: Vec<BreakerPass> = (0..6).map(|_| breaker.granted(&policy, at(0))).collect();
    for pass in &early[..3] {
        breaker.ended(&policy, Some(Timeout), *pass, 1, at(0));
    }
    let until = breaker.changes_at();
    breaker.ended(&policy, Some(Timeout), early[3], 1, at(30));
    assert_eq!(breaker.changes_at(), until, "a failure from before does not lengthen it");
    let stale = [breaker.granted(&policy, at(60)), breaker.granted(&policy, at(60))];
    breaker.ended(&policy, None, early[4], 1, at(60));
    breaker.ended(&policy, Some(Timeout), stale[0], 1, at(60));
    let fresh = [breaker.granted(&policy, at(120)), breaker.granted(&policy, at(120))];
    let before = breaker.clone();
    breaker.ended(&policy, None, stale[1], 1, at(120));
    assert_eq!(breaker, before, "a probe of an earlier half-open neither counts nor makes room");
    for pass in fresh {
        breaker.ended(&policy, None, pass, 1, at(121));
    }
    assert_eq!(breaker.phase(at(121)), BreakerPhase::Closed);
    let before = breaker.clone();
    breaker.ended(&policy, Some(Timeout), early[5], 1, at(122));
    assert_eq!(breaker, before, "nor does a very late failure count after it closed");
}

#[test]
fn an_open_limit_admits_one_permit_at_a_time() {
    let policy = BreakerPolicy { open_limit: 1, ..BreakerPolicy::default() };
    let mut breaker = opened(&policy);
    assert_eq!(breaker.admission(&policy, at(1)), BreakerAdmission::Alone);
    let before = breaker.clone();
    call(&mut breaker, &policy, None, 1, at(1));
    call(&mut breaker, &policy, Some(Timeout), 1, at(2));
    assert_eq!(breaker, before);
}

#[test]
fn a_reset_clears_counts_and_epoch() {
    let policy = BreakerPolicy::default();
    let mut breaker = Breaker::default();
    let passes = [breaker.granted(&policy, at(0)), breaker.granted(&policy, at(0))];
    breaker.ended(&policy, Some(Timeout), passes[0], 1, at(0));
    breaker.reset();
    breaker.ended(&policy, Some(Timeout), passes[1], 1, at(0));
    (0..2).for_each(|_| call(&mut breaker, &policy, Some(Timeout), 1, at(0)));
    assert_eq!(breaker.phase(at(0)), BreakerPhase::Closed);
    call(&mut breaker, &policy, Some(Timeout), 1, at(0));
    breaker.reset();
    assert_eq!(breaker.admission(&policy, at(0)), BreakerAdmission::Free);
}

#[test]
fn adopting_a_policy_shortens_an_open_time_and_never_extends_it() {
    let policy = BreakerPolicy { probes: 2, ..BreakerPolicy::default() };
    let mut breaker = opened(&policy);
    breaker.adopt(&BreakerPolicy { open_for: seconds(600), ..policy.clone() }, at(10));
    assert_eq!(breaker.changes_at(), Some(at(60)));
    breaker.adopt(&BreakerPolicy { open_for: seconds(20), ..policy.clone() }, at(10));
    assert_eq!(breaker.changes_at(), Some(at(30)));
    call(&mut breaker, &policy, None, 1, at(30));
    assert_eq!(breaker.phase(at(30)), BreakerPhase::HalfOpen);
    breaker.adopt(&BreakerPolicy { probes: 1, ..policy }, at(30));
    assert_eq!(breaker.phase(at(30)), BreakerPhase::Closed);
}

#[test]
fn a_breaker_is_stored_compactly() -> Result<(), serde_json::Error> {
    let policy = BreakerPolicy { failure_ratio: Some(0.9), min_reporters: 16, ..BreakerPolicy::default() };
    let mut breaker = Breaker::default();
    assert_eq!(serde_json::to_string(&breaker)?, "{}");
    for second in 0..500 {
        call(&mut breaker, &policy, Some(Timeout), u64::MAX - (second % 15) as u64, at(1_800_000_000 + second));
        let text = serde_json::to_string(&breaker)?;
        assert!(text.len() < 1500, "{}: {text}", text.len());
        assert_eq!(serde_json::from_str::<Breaker>(&text)?, breaker);
    }
    let mut breaker = opened(&BreakerPolicy::default());
    assert_eq!(serde_json::to_string(&breaker)?, r#"{"e":1,"s":{"o":{"u":60000000}}}"#);
    let pass = breaker.granted(&policy, at(60));
    assert_eq!(serde_json::to_string(&(&breaker, pass))?, r#"[{"e":2,"s":{"h":{"i":1}}},{"e":2,"p":true}]"#);
    Ok(())
}

/// Model of the breaker: the full history instead of counts, numbers of grants instead of epochs.
struct Model {
    history: Vec<(Timestamp, bool, u64)>,
    open: Option<(Timestamp, i32)>,
    /// Probes of this half-open that are out, by the number of their grant; and how many succeeded.
    probing: Option<(BTreeSet<usize>, u32)>,
    /// Grants from this one on are of the present closed time.
    closed_from: usize,
}

impl Model {
    fn granted(&mut self, grant: usize, now: Timestamp) {
        if self.open.is_some_and(|(until, _)| until <= now) && self.probing.is_none() {
            self.probing = Some((BTreeSet::new(), 0));
        }
        if let Some((out, _)) = &mut self.probing {
            out.insert(grant);
        }
    }

    fn reopen(&mut self, policy: &BreakerPolicy, times: i32, now: Timestamp) {
        let grown = policy.open_for.mul_f64(policy.open_multiplier.powi(times)).min(policy.max_open);
        self.open = Some((now.after(grown), times));
        self.probing = None;
        self.history.clear();
    }

    fn ended(&mut self, policy: &BreakerPolicy, grant: usize, ok: Option<bool>, who: u64, now: Timestamp, next: usize) {
        let Some((_, times)) = self.open else {
            if let (Some(ok), true) = (ok, grant >= self.closed_from) {
                self.history.push((now, ok, who));
                if self.opens(policy, now) {
                    self.reopen(policy, 0, now);
                }
            }
            return;
        };
        let Some((out, successes)) = &mut self.probing else { return };
        if !out.remove(&grant) {
            return;
        }
        match ok {
            Some(true) => {
                *successes += 1;
                if *successes == policy.probes {
                    (self.open, self.probing, self.closed_from) = (None, None, next);
                }
            }
            Some(false) => self.reopen(policy, times + 1, now),
            None => {}
        }
    }

    fn opens(&self, policy: &BreakerPolicy, now: Timestamp) -> bool {
        let streak: Vec<u64> = self.history.iter().rev().take_while(|(_, ok, _)| !ok).map(|(_, _, who)| *who).collect();
        let window: Vec<_> = self.history.iter().filter(|(then, _, _)| then.after(policy.window) > now).collect();
        let failed: Vec<u64> = window.iter().filter(|(_, ok, _)| !ok).map(|(_, _, who)| *who).collect();
        let quorum = |who: &[u64]| who.iter().collect::<BTreeSet<_>>().len() >= policy.min_reporters as usize;
        let by_count = policy.failure_threshold > 0 && streak.len() >= policy.failure_threshold as usize;
        let by_ratio = policy.failure_ratio.is_some_and(|ratio| failed.len() as f64 / window.len() as f64 >= ratio)
            && window.len() >= policy.min_calls as usize;
        by_count && quorum(&streak) || by_ratio && quorum(&failed)
    }
}

proptest! {
    #[test]
    fn breaker_equals_its_model(
        (threshold, ratio) in (0..5u32, prop_oneof![Just(None), Just(Some(0.3)), Just(Some(0.75))]),
        (min_calls, min_reporters, probes) in (1..8u32, 1..4u32, 1..4u32),
        (open_limit, multiplier) in (0..2u32, prop_oneof![Just(1.0), Just(2.0)]),
        // What happens: grants and ends in any order; seldom a leap beyond window and open time.
        steps in vec((0..20u8, any::<prop::sample::Index>(), 0..6u8, 0..4u64, 0..3_000_000i64), 1..300),
    ) {
        let policy = BreakerPolicy {
            failure_threshold: threshold, failure_ratio: ratio, min_calls, min_reporters, probes, open_limit,
            open_multiplier: multiplier, window: seconds(7200), open_for: seconds(20), max_open: seconds(100),
        };
        let mut breaker = Breaker::default();
        let mut model = Model { history: Vec::new(), open: None, probing: None, closed_from: 0 };
        let (mut now, mut grants, mut out) = (at(0), 0usize, Vec::<(usize, BreakerPass)>::new());
        for (what, which, class, who, micros) in steps {
            now = now.after(Duration::from_micros(micros.unsigned_abs()));
            if what == 0 {
                now = now.after(seconds(7200));
            }
            let expected = match (&model.open, &model.probing) {
                (None, _) => BreakerAdmission::Free,
                (Some(_), Some((probing, _))) if (probing.len() as u32) < probes => BreakerAdmission::Probe,
                (Some(_), Some(_)) => BreakerAdmission::Closed { until: None },
                (Some((until, _)), None) if *until <= now => BreakerAdmission::Probe,
                (Some(_), None) if open_limit == 1 => BreakerAdmission::Alone,
                (Some((until, _)), None) => BreakerAdmission::Closed { until: Some(*until) },
            };
            let admission = breaker.admission(&policy, now);
            prop_assert_eq!(admission, expected);
            if what % 2 == 0 {
                // What the breaker did not admit is given now and then too, and must not disturb it.
                if !matches!(admission, BreakerAdmission::Closed { .. }) || what == 2 {
                    let pass = breaker.granted(&policy, now);
                    prop_assert_eq!(pass.probe, admission == BreakerAdmission::Probe);
                    if pass.probe || model.open.is_none() {
                        model.granted(grants, now);
                    }
                    out.push((grants, pass));
                    grants += 1;
                }
            } else if !out.is_empty() {
                let (grant, pass) = out.swap_remove(which.index(out.len()));
                let (class, ok) = match class {
                    0 | 1 => (None, Some(true)),
                    2 | 3 => (Some(Timeout), Some(false)),
                    4 => (Some(Cancelled), None),
                    _ => (Some(RateLimited), pass.probe.then_some(true)),
                };
                breaker.ended(&policy, class, pass, who, now);
                model.ended(&policy, grant, ok, who, now, grants);
            }
            let current = out.iter().filter(|(_, pass)| pass.probe && pass.epoch == breaker.epoch).count();
            prop_assert!(current <= probes as usize);
            if let BreakerState::HalfOpen { in_flight, .. } = breaker.state {
                prop_assert_eq!(in_flight as usize, current);
            }
        }
    }
}
