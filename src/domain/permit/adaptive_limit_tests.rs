//! What an adaptive limit makes of outcomes, as a table and as a model.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[path = "simulation.rs"]
mod simulation;

fn at(millis: i64) -> Timestamp {
    Timestamp(millis * 1000)
}

fn end(limit: &mut AdaptiveLimit, policy: &AdaptivePolicy, class: Option<FailureClass>, from: i64, to: i64) {
    limit.ended(policy, class, Some(at(from).until(at(to))), None, at(from), true, at(to));
}

#[test]
fn an_adaptive_limit_grows_by_one_per_limit_of_saturated_successes() {
    let policy = AdaptivePolicy::up_to(10);
    let mut limit = AdaptiveLimit::new(&policy);
    let mut successes = 0;
    for expected in 2..=10 {
        while limit.limit(&policy) < expected {
            end(&mut limit, &policy, None, 0, 1);
            successes += 1;
        }
    }
    assert!((45..=55).contains(&successes), "{successes}");
    (0..100).for_each(|_| end(&mut limit, &policy, None, 0, 1));
    assert_eq!(limit.limit(&policy), 10);

    let mut idle = AdaptiveLimit::new(&policy);
    (0..100).for_each(|_| idle.ended(&policy, None, None, None, at(0), false, at(1)));
    assert_eq!(idle.limit(&policy), 1);
}

#[test]
fn one_congestion_event_decreases_an_adaptive_limit_once() {
    let policy = AdaptivePolicy { latency_target: Some(Duration::from_millis(500)), ..AdaptivePolicy::up_to(64) };
    let overloads = [
        (Some(FailureClass::RateLimited), 10),
        (Some(FailureClass::ServerError), 10),
        (Some(FailureClass::Network), 10),
        (Some(FailureClass::Timeout), 10),
        (None, 501),
    ];
    for (class, took) in overloads {
        let mut limit = AdaptiveLimit { limit: 64.0, ..AdaptiveLimit::new(&policy) };
        (0..10).for_each(|_| end(&mut limit, &policy, class, 0, took));
        assert_eq!(limit.limit(&policy), 32, "{class:?}");
        end(&mut limit, &policy, class, took, 2 * took);
        assert_eq!(limit.limit(&policy), 16, "{class:?}");
    }
    for class in [FailureClass::ClientError, FailureClass::Cancelled, FailureClass::Internal] {
        let mut limit = AdaptiveLimit { limit: 64.0, ..AdaptiveLimit::new(&policy) };
        end(&mut limit, &policy, Some(class), 0, 1);
        assert_eq!(limit.limit(&policy), 64, "{class:?}");
    }
}

#[test]
fn retry_after_holds_grants_for_at_most_a_day() {
    let policy = AdaptivePolicy::up_to(8);
    let mut limit = AdaptiveLimit::new(&policy);
    let limited = Some(FailureClass::RateLimited);
    limit.ended(&policy, limited, None, Some(Duration::from_secs(5)), at(0), true, at(0));
    limit.ended(&policy, limited, None, Some(Duration::from_secs(1)), at(0), true, at(0));
    assert_eq!(limit.wait(&policy, at(2000)), Duration::from_secs(3));
    limit.granted(at(5000));
    assert_eq!(limit.hold_until(), None);
    limit.ended(&policy, limited, None, Some(Duration::MAX), at(0), true, at(0));
    assert_eq!(limit.wait(&policy, at(0)), MAX_RETRY_AFTER);
}

#[test]
fn a_refusal_lowers_the_learned_rate_and_sparse_calls_do_not_raise_it() {
    let policy = AdaptivePolicy { learn_rate: true, ..AdaptivePolicy::up_to(8) };
    let mut limit = AdaptiveLimit::new(&policy);
    for call in 0..=50 {
        limit.granted(at(call * 100));
        end(&mut limit, &policy, None, call * 100, call * 100);
    }
    assert_eq!(limit.learned_rate(), None);
    end(&mut limit, &policy, Some(FailureClass::RateLimited), 5100, 5100);
    let learned = limit.learned_rate().unwrap_or_default();
    assert!((8.0..=10.0).contains(&learned), "{learned}");
    // Half of the pace.
    for call in 30..200 {
        limit.granted(at(call * 250));
        end(&mut limit, &policy, None, call * 250, call * 250);
    }
    assert_eq!(limit.learned_rate(), Some(learned));
    limit.adopt(&AdaptivePolicy::up_to(8));
    assert_eq!((limit.learned_rate(), limit.wait(&policy, at(0))), (None, Duration::ZERO));
}

#[test]
fn adopting_a_policy_clamps_the_adaptive_limit() {
    let policy = AdaptivePolicy::up_to(64);
    let mut limit = AdaptiveLimit { limit: 40.0, ..AdaptiveLimit::new(&policy) };
    limit.adopt(&AdaptivePolicy::up_to(10));
    assert_eq!(limit.limit(&policy), 10);
    limit.adopt(&AdaptivePolicy { min: 20, ..AdaptivePolicy::up_to(5) });
    assert_eq!(limit.limit(&policy), 20);
}

#[test]
fn an_adaptive_limit_is_stored_compactly() -> Result<(), serde_json::Error> {
    let policy = AdaptivePolicy { learn_rate: true, ..AdaptivePolicy::up_to(8) };
    let mut limit = AdaptiveLimit::new(&policy);
    assert_eq!(serde_json::to_string(&limit)?, r#"{"n":1.0}"#);
    for call in 0..2000 {
        let now = 1_800_000_000_000 + call * 70;
        limit.granted(at(now));
        let class = (call % 300 == 299).then_some(FailureClass::RateLimited);
        limit.ended(&policy, class, None, class.map(|_| Duration::from_secs(1)), at(now), true, at(now));
        let text = serde_json::to_string(&limit)?;
        assert!(text.len() < 320, "{}: {text}", text.len());
        assert_eq!(serde_json::from_str::<AdaptiveLimit>(&text)?, limit);
    }
    Ok(())
}

proptest! {
    #[test]
    fn an_adaptive_limit_stays_within_its_bounds(
        (min, max) in (any::<i64>(), any::<i64>()),
        (increase, decrease) in (any::<f64>(), any::<f64>()),
        steps in vec((any::<i64>(), any::<i64>(), 0..10usize, any::<bool>(), any::<u64>()), 1..60),
    ) {
        let policy = AdaptivePolicy {
            min, max, increase, decrease, latency_target: Some(Duration::from_secs(1)), learn_rate: true,
        };
        let mut limit = AdaptiveLimit::new(&policy);
        for (granted_at, now, class, flag, number) in steps {
            let (granted_at, now) = (Timestamp(granted_at), Timestamp(now));
            let class = FailureClass::ALL.get(class).copied();
            let number = Duration::from_micros(number);
            limit.granted(now);
            limit.ended(&policy, class, Some(number), flag.then_some(number), granted_at, flag, now);
            prop_assert!((min.max(1)..=max.max(min).max(1)).contains(&limit.limit(&policy)));
            prop_assert!(limit.limit.is_finite());
            prop_assert!(limit.learned_rate().is_none_or(|rate| (0.1..=1e6).contains(&rate)));
            limit.wait(&policy, now);
            let text = serde_json::to_string(&limit).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(serde_json::from_str::<AdaptiveLimit>(&text).ok(), Some(limit.clone()));
        }
    }
}
