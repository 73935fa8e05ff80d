//! Budgets of attempts by class of failure, as they are stored and reported.

use interlock::proto::{FailureClass, RetryPolicy, RetryRule, StageSpec, StageState};

use crate::harness::*;

#[tokio::test]
async fn rate_limits_with_attempts_of_their_own_leave_the_other_attempts_alone() {
    let server = Server::start().await;
    let other = server.beside().await;
    let class = FailureClass::RateLimited;
    let rules = vec![RetryRule { failure_class: class.into(), max_attempts: Some(50), ..Default::default() }];
    let voice = StageSpec { retry_policy: Some(RetryPolicy { rules, ..at_once(3) }), ..new_stage("voice") };
    server.api.submit(new_job("film", vec![voice])).await;
    let rates = (1..=4).map(|n| (class, (class, n, 50), 3 + n));
    let others = (1..=3).map(|n| (FailureClass::ServerError, (FailureClass::Unspecified, n, 3), 7));
    for (i, (class, budget, max_attempts)) in rates.chain(others).enumerate() {
        // What one server counts the other goes on with.
        let api = if i % 2 == 0 { &server.api } else { &other.api };
        let lease = api.lease("default").await;
        assert!(lease.attempt <= lease.max_attempts, "attempt {} of {}", lease.attempt, lease.max_attempts);
        let stage = api.fail(&lease, failure(class)).await.stage.expect("a stage");
        let failure = stage.failure.clone().expect("a failure");
        assert_eq!((failure.budget_class(), failure.budget_used, failure.budget_max), budget);
        let attempt = i32::try_from(i).expect("few") + 1;
        assert_eq!((failure.attempt, failure.max_attempts), (attempt, max_attempts));
        assert_eq!((stage.attempt, stage.max_attempts), (attempt, max_attempts));
        let ready = if attempt == 7 { StageState::Failed } else { StageState::Ready };
        assert_eq!(stage.state(), ready, "after attempt {attempt}");
    }
    let failure = server.api.job("film").await.failure.expect("a failure");
    assert_eq!((failure.budget_class(), failure.budget_used), (FailureClass::Unspecified, 3));
}
