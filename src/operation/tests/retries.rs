//! The retry table: when a failed attempt is followed by another one, after what wait, and how the failure says so.

use std::sync::Arc;
use std::time::Duration;

use super::bench::Bench;
use super::build::{BuildStage, job, report, rule, secs, stage};
use crate::domain::failure::FailureClass::{self, *};
use crate::domain::failure::FailureReport;
use crate::domain::retry::{FailureCounts, RetryBudget, RetryPolicy, RetryRule};
use crate::domain::stage::{StagePhase, StageState};

/// What follows from one failed attempt: the wait, or `None` for no further attempt.
fn wait_after(bench: &mut Bench, name: &str, report: FailureReport, jitter: f64) -> Option<Duration> {
    let token = bench.lease(name);
    let at = bench.now;
    bench.report(token, report, jitter).expect("recorded");
    let stage = bench.stage(name);
    let failure = stage.failure.clone().expect("it failed");
    assert_eq!(failure.attempt, stage.attempt, "the failure says which attempt it was");
    assert_eq!(failure.failure_time, at);
    let wait = match stage.state {
        StageState::Ready => Some(Duration::ZERO),
        StageState::Backoff { until } => Some(at.until(until)),
        StageState::Failed => None,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(failure.retry_wait, wait, "the failure says the wait");
    wait
}

/// The waits after each attempt until there is none, with the clock set to the end of each.
fn waits(policy: Option<RetryPolicy>, report: &FailureReport, jitter: f64) -> Vec<Duration> {
    let one = stage("a");
    let mut bench = Bench::with(vec![match policy {
        Some(policy) => one.policy(policy),
        None => one,
    }]);
    let mut waits = Vec::new();
    while let Some(wait) = wait_after(&mut bench, "a", report.clone(), jitter) {
        if !wait.is_zero() {
            bench.pass(wait - Duration::from_micros(1));
            assert!(!bench.wake(Some("a")), "not a microsecond too early");
            bench.pass(Duration::from_micros(1));
            assert!(bench.wake(Some("a")), "exactly when the wait is over");
        }
        assert_eq!(bench.phase("a"), StagePhase::Ready);
        waits.push(wait);
    }
    assert_eq!(bench.phase("a"), StagePhase::Failed);
    assert_eq!(bench.stage("a").attempt as usize, waits.len() + 1);
    waits
}

fn millis(waits: &[u64]) -> Vec<Duration> {
    waits.iter().map(|wait| Duration::from_millis(*wait)).collect()
}

#[test]
fn the_default_table_by_class_and_jitter() {
    let none: &[u64] = &[];
    let table: [(FailureClass, f64, &[u64]); 16] = [
        (ServerError, 0.0, &[1_000, 2_000]),
        (ServerError, 0.5, &[1_500, 2_500]),
        (ServerError, 0.999, &[1_999, 2_999]),
        (RateLimited, 0.0, &[2_000, 4_000]),
        (RateLimited, 0.5, &[2_500, 4_500]),
        (RateLimited, 0.999, &[2_999, 4_999]),
        (Network, 0.0, &[1_000, 2_000]),
        (Network, 0.999, &[1_999, 2_999]),
        (Timeout, 0.0, &[1_000, 2_000]),
        (Timeout, 0.5, &[1_500, 2_500]),
        (Internal, 0.0, &[1_000, 2_000]),
        (Internal, 0.5, &[1_500, 2_500]),
        (Internal, 0.999, &[1_999, 2_999]),
        (ClientError, 0.0, none),
        (ClientError, 0.999, none),
        (Cancelled, 0.5, none),
    ];
    for (class, jitter, expected) in table {
        assert_eq!(waits(None, &report(class), jitter), millis(expected), "{class:?} with jitter {jitter}");
    }
}

#[test]
fn retry_after_replaces_the_base_and_is_bounded_by_a_day() {
    let day = 24 * 3_600;
    let table = [
        (ServerError, secs(7), 0.0, millis(&[7_000, 7_000])),
        (RateLimited, secs(7), 0.5, millis(&[7_500, 7_500])),
        (RateLimited, secs(0), 0.5, millis(&[500, 500])),
        (RateLimited, secs(0), 0.0, millis(&[0, 0])),
        // Longer than the policy's longest wait, which bounds only what the policy itself computes.
        (Network, secs(3_600), 0.0, millis(&[3_600_000, 3_600_000])),
        (ServerError, secs(day), 0.0, vec![secs(day); 2]),
        (ServerError, secs(day + 1), 0.0, vec![secs(day); 2]),
        (ServerError, Duration::MAX, 0.5, vec![secs(day) + Duration::from_millis(500); 2]),
        (ClientError, secs(7), 0.0, vec![]),
    ];
    for (class, asked, jitter, expected) in table {
        let report = FailureReport { retry_after: Some(asked), ..report(class) };
        assert_eq!(waits(None, &report, jitter), expected, "{class:?} asked for {asked:?}");
    }
}

#[test]
fn max_attempts_counts_the_first() {
    for max_attempts in 1..=5 {
        let policy = RetryPolicy { max_attempts, ..RetryPolicy::default() };
        let expected = [1, 2, 4, 8][..max_attempts as usize - 1].iter().map(|wait| secs(*wait));
        assert_eq!(waits(Some(policy), &report(ServerError), 0.0), expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_policy_sets_first_wait_growth_longest_wait_and_jitter() {
    let policy = RetryPolicy {
        max_attempts: 6,
        initial_backoff: Duration::from_millis(500),
        multiplier: 3.0,
        max_backoff: secs(10),
        jitter: secs(4),
        rules: vec![],
    };
    assert_eq!(waits(Some(policy.clone()), &report(Network), 0.0), millis(&[500, 1_500, 4_500, 10_000, 10_000]));
    assert_eq!(waits(Some(policy.clone()), &report(Network), 0.25)[0], Duration::from_millis(1_500));
    assert_eq!(waits(Some(policy), &report(RateLimited), 0.0), millis(&[1_000, 3_000, 9_000, 10_000, 10_000]));
    let endless = RetryPolicy { max_attempts: 100, multiplier: 10.0, ..RetryPolicy::default() };
    let waits = waits(Some(endless), &report(Network), 0.0);
    assert_eq!((waits.len(), waits[3], waits[98]), (99, secs(300), secs(300)), "no overflow however often");
}

#[test]
fn a_rule_differs_for_its_class_alone() {
    let rules = vec![
        RetryRule { max_attempts: Some(2), initial_backoff: Some(secs(10)), ..rule(RateLimited) },
        RetryRule { retryable: Some(false), ..rule(Timeout) },
        RetryRule { retryable: Some(true), jitter: Some(secs(10)), ..rule(ClientError) },
        RetryRule { multiplier: Some(5.0), max_backoff: Some(secs(4)), ..rule(Network) },
    ];
    let policy = RetryPolicy { rules, ..RetryPolicy::default() };
    let table: [(FailureClass, f64, &[u64]); 6] = [
        (RateLimited, 0.0, &[10_000]),
        (Timeout, 0.0, &[]),
        (ClientError, 0.5, &[6_000, 7_000]),
        (Network, 0.0, &[1_000, 4_000]),
        (ServerError, 0.0, &[1_000, 2_000]),
        (Internal, 0.0, &[1_000, 2_000]),
    ];
    for (class, jitter, expected) in table {
        assert_eq!(waits(Some(policy.clone()), &report(class), jitter), millis(expected), "{class:?}");
    }
}

#[test]
fn retry_policy_of_the_stage_precedes_the_jobs_and_the_default() {
    let mut film = job(vec![stage("own").attempts(1), stage("inherits").after(&["own"]).or_continue()]);
    film.meta.retry = Arc::new(RetryPolicy { max_attempts: 5, ..RetryPolicy::default() });
    let mut bench = Bench::of(film);
    assert_eq!(bench.stage("own").spec.retry.max_attempts, 1);
    assert_eq!(bench.stage("inherits").spec.retry.max_attempts, 5);
    // A stage that is added later takes the same default.
    let token = bench.lease("own");
    bench.add(token, vec![stage("late"), stage("late-own").attempts(2)]).expect("added");
    assert_eq!(bench.stage("late").spec.retry.max_attempts, 5);
    assert_eq!(bench.stage("late-own").spec.retry.max_attempts, 2);
    assert_eq!(Bench::with(vec![stage("a")]).stage("a").spec.retry.max_attempts, 3);
}

#[test]
fn a_failure_contains_attempt_max_attempts_budget_and_wait() {
    let rules = vec![RetryRule { max_attempts: Some(2), ..rule(RateLimited) }];
    let policy = RetryPolicy { rules, ..RetryPolicy::default() };
    let mut bench = Bench::with(vec![stage("a").policy(policy)]);
    let mut reported = Vec::new();
    for class in [Network, RateLimited, ServerError, RateLimited] {
        wait_after(&mut bench, "a", report(class), 0.0);
        let failure = bench.stage("a").failure.clone().expect("it failed");
        assert_eq!((&*failure.stage_name, &failure.report), ("a", &report(class)));
        let budget = failure.budget.expect("of an attempt");
        let counted = (budget.class, budget.used, budget.max);
        reported.push((failure.attempt, failure.max_attempts, counted, failure.retry_wait));
        assert_eq!(bench.stage("a").max_attempts(), failure.max_attempts);
        bench.pass(secs(5));
        bench.wake(Some("a"));
    }
    let rates = Some(RateLimited);
    let expected = [
        (1, 3, (None, 1, 3), Some(secs(1))),
        (2, 4, (rates, 1, 2), Some(secs(2))),
        (3, 4, (None, 2, 3), Some(secs(2))),
        (4, 5, (rates, 2, 2), None),
    ];
    assert_eq!(reported, expected, "no attempt is beyond the last");
    // The last word of the stage is that of the job.
    assert_eq!(bench.job().failure.as_deref(), bench.stage("a").failure.as_deref());
}

#[test]
fn an_expired_lease_is_ready_at_once_the_first_time_and_waits_from_the_second_on() {
    let mut bench = Bench::with(vec![stage("a").attempts(4)]);
    for (attempt, wait) in [(1, Some(0)), (2, Some(2)), (3, Some(4)), (4, None)] {
        bench.lease("a");
        bench.pass(secs(90));
        assert!(bench.reap("a").expect("taken").applied);
        let failure = bench.stage("a").failure.clone().expect("recorded");
        assert_eq!(failure.report.class, LeaseExpired);
        assert_eq!((failure.attempt, failure.max_attempts, failure.retry_wait), (attempt, 4, wait.map(secs)));
        assert_eq!(bench.stage("a").attempt, attempt);
        let phase = match wait {
            Some(0) => StagePhase::Ready,
            Some(_) => StagePhase::Backoff,
            None => StagePhase::Failed,
        };
        assert_eq!(bench.phase("a"), phase);
        bench.pass(secs(wait.unwrap_or(0)));
        bench.wake(Some("a"));
    }
}

#[test]
fn an_attempt_timeout_ends_the_attempt_despite_heartbeats() {
    let mut bench = Bench::with(vec![stage("a").spec(|spec| spec.timeout = Some(secs(100)))]);
    for attempt in 1..=3u32 {
        let token = bench.lease("a");
        for _ in 0..9 {
            bench.pass(secs(11));
            bench.heartbeat(token).expect("alive");
            assert!(!bench.wake(Some("a")), "its time is not up");
        }
        bench.pass(secs(1));
        assert!(bench.wake(Some("a")));
        let stage = bench.stage("a");
        let failure = stage.failure.clone().expect("recorded");
        assert_eq!((failure.report.class, failure.attempt), (Timeout, attempt));
        for outcome in [bench.heartbeat(token), bench.complete(token), bench.fail(token, Network)] {
            assert_eq!(outcome.expect_err("revoked"), crate::domain::refusal::Refusal::LeaseLost);
        }
        if attempt < 3 {
            let wait = secs(1 << (attempt - 1));
            assert_eq!(stage.state, StageState::Backoff { until: bench.now.after(wait) });
            bench.pass(wait);
            bench.wake(Some("a"));
        } else {
            assert_eq!(stage.phase(), StagePhase::Failed);
        }
    }
}

#[test]
fn a_released_attempt_is_not_counted() {
    let mut bench = Bench::with(vec![stage("a").attempts(2)]);
    for round in 1..=5 {
        let token = bench.lease("a");
        assert_eq!((bench.stage("a").attempt, token.fencing_token), (1, round));
        bench.progress(token, Some(0.5), Some("half")).expect("noted");
        bench.release(token).expect("given back");
        let stage = bench.stage("a");
        assert_eq!((stage.phase(), stage.attempt, stage.progress), (StagePhase::Ready, 0, 0.0));
        assert_eq!((&stage.message, &stage.failure), (&None, &None));
    }
    assert_eq!(wait_after(&mut bench, "a", report(Network), 0.0), Some(secs(1)));
    bench.pass(secs(1));
    bench.wake(Some("a"));
    let token = bench.lease("a");
    bench.release(token).expect("given back");
    assert_eq!(bench.stage("a").attempt, 1, "only the released attempt is given back");
    assert_eq!(wait_after(&mut bench, "a", report(Network), 0.0), None);
}

/// Leases a stage and fails it, with the clock set to the end of the wait.
fn fail_and_wait(bench: &mut Bench, class: FailureClass) -> Option<Duration> {
    let wait = wait_after(bench, "a", report(class), 0.0)?;
    bench.pass(wait);
    bench.wake(Some("a"));
    Some(wait)
}

#[test]
fn a_class_with_its_own_max_attempts_uses_no_other_budget() {
    let rules = vec![RetryRule { max_attempts: Some(50), ..rule(RateLimited) }];
    let mut bench = Bench::with(vec![stage("a").policy(RetryPolicy { rules, ..RetryPolicy::default() })]);
    let of_rates: Vec<_> = (0..8).map(|_| fail_and_wait(&mut bench, RateLimited).expect("of 50")).collect();
    assert_eq!(of_rates, [2, 4, 8, 16, 32, 64, 128, 256].map(secs));
    // The first real errors wait as first ones do, and there are as many as without the rate limits.
    assert_eq!(fail_and_wait(&mut bench, ServerError), Some(secs(1)));
    assert_eq!(fail_and_wait(&mut bench, RateLimited), Some(secs(300)), "the longest wait");
    assert_eq!(fail_and_wait(&mut bench, Network), Some(secs(2)), "one budget for all other classes");
    assert_eq!(fail_and_wait(&mut bench, ServerError), None);
}

#[test]
fn budgets_ignore_releases_and_restart_with_each_run() {
    let rules = vec![RetryRule { max_attempts: Some(2), ..rule(RateLimited) }];
    let policy = RetryPolicy { max_attempts: 1, rules, ..RetryPolicy::default() };
    let mut bench = Bench::with(vec![stage("a").policy(policy)]);
    for _ in 0..2 {
        assert_eq!(fail_and_wait(&mut bench, RateLimited), Some(secs(2)));
        let token = bench.lease("a");
        assert_eq!((bench.stage("a").attempt, bench.stage("a").max_attempts()), (2, 2));
        bench.release(token).expect("given back");
        assert_eq!(fail_and_wait(&mut bench, RateLimited), None);
        assert_eq!((bench.stage("a").attempt, bench.stage("a").max_attempts()), (2, 3));
        bench.retry(None).expect("another run");
        assert_eq!((bench.stage("a").attempt, bench.stage("a").max_attempts()), (0, 1));
    }
}

#[test]
fn attempts_that_were_not_counted_by_class_count_against_the_policys_budget() {
    let rules = vec![RetryRule { max_attempts: Some(50), ..rule(RateLimited) }];
    let policy = RetryPolicy { rules, ..RetryPolicy::default() };
    let mut failures = FailureCounts::default();
    failures.add(ServerError);
    let budget = policy.budget(ServerError, 3, &failures);
    assert_eq!(budget, RetryBudget { class: None, used: 3, max: 3 });
}
