//! What the clock does: delayed starts, backoffs, timeouts of attempts and of jobs.

use std::time::{Duration, SystemTime};

use interlock::proto::{self, FailureClass, JobEventType, JobState, RetryPolicy, StageSpec, StageState};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn seconds_between(from: Option<prost_types::Timestamp>, to: Option<prost_types::Timestamp>) -> f64 {
    let at = |at: Option<prost_types::Timestamp>| {
        let at = at.expect("a time");
        at.seconds as f64 + f64::from(at.nanos) / 1e9
    };
    at(to) - at(from)
}

#[tokio::test]
async fn a_delayed_job_starts_at_its_time() {
    let server = Server::start().await;
    // The clock is the database's, which here is the machine's.
    let start_time = Some(prost_types::Timestamp::from(SystemTime::now() + Duration::from_millis(1_200)));
    let request =
        proto::SubmitJobRequest { start_time, ..new_job("film", vec![new_stage("a"), new_stage_after("b", &["a"])]) };
    let job = server.api.submit(request).await;
    assert_eq!((job.state(), state_of(&job, "a")), (JobState::Pending, StageState::Blocked));
    let shown = stage(&job, "a").next_attempt_time;
    assert!(seconds_between(shown, start_time).abs() < 0.001, "{shown:?}");
    assert_eq!(server.api.lease_now("default", 10).await, []);
    let lease = server.api.lease("default").await;
    assert_eq!(&*lease.stage_name, "a");
    let job = server.api.job("film").await;
    assert!(seconds_between(start_time, job.start_time) >= 0.0, "not before its time");
    assert!(seconds_between(start_time, job.start_time) < 10.0);
    assert_eq!((state_of(&job, "b"), stage(&job, "a").next_attempt_time), (StageState::Blocked, None));
    // A time that has passed delays nothing.
    let past = Some(prost_types::Timestamp { seconds: 1_000, nanos: 0 });
    let job = server.api.submit(proto::SubmitJobRequest { start_time: past, ..new_job("now", Vec::new()) }).await;
    assert_eq!(state_of(&job, "main"), StageState::Ready);
}

#[tokio::test]
async fn backoff_delays_the_next_attempt_and_is_reported() {
    let server = Server::start().await;
    let policy = RetryPolicy { initial_backoff: millis(300), multiplier: Some(2.0), ..at_once(3) };
    let voice = StageSpec { retry_policy: Some(policy), ..new_stage("voice") };
    server.api.submit(new_job("film", vec![voice])).await;
    for (attempt, wait) in [(1, 0.3), (2, 0.6)] {
        let lease = server.api.lease("default").await;
        assert_eq!(lease.attempt, attempt);
        let stage = server.api.fail(&lease, failure(FailureClass::ServerError)).await.stage.expect("a stage");
        assert_eq!(stage.state(), StageState::Backoff);
        let failure = stage.failure.expect("a failure");
        assert_eq!((failure.attempt, failure.max_attempts), (attempt, 3));
        let received = failure.retry_wait.expect("a wait");
        assert!((f64::from(received.nanos) / 1e9 - wait).abs() < 0.001, "{received:?}");
        assert!((seconds_between(failure.failure_time, stage.next_attempt_time) - wait).abs() < 0.001);
        assert_eq!(server.api.lease_now("default", 10).await, []);
    }
    let before = server.api.stage("film", "voice").await.next_attempt_time;
    let lease = server.api.lease("default").await;
    let stage = server.api.stage("film", "voice").await;
    assert!(seconds_between(before, stage.start_time) >= 0.0);
    assert_eq!((stage.attempt, &stage.next_attempt_time), (3, &None));
    let last = server.api.fail(&lease, failure(FailureClass::ServerError)).await.stage.expect("a stage");
    assert_eq!(last.state(), StageState::Failed);
}

#[tokio::test]
async fn default_backoff_depends_on_the_class_and_retry_after_overrides_it() {
    let server = Server::start().await;
    for (i, (class, retry_after, least, most)) in [
        (FailureClass::ServerError, None, 1.0, 2.0),
        (FailureClass::Network, None, 1.0, 2.0),
        (FailureClass::Timeout, None, 1.0, 2.0),
        (FailureClass::Internal, None, 1.0, 2.0),
        (FailureClass::Unspecified, None, 1.0, 2.0),
        (FailureClass::RateLimited, None, 2.0, 3.0),
        (FailureClass::RateLimited, seconds(600), 600.0, 601.0),
    ]
    .into_iter()
    .enumerate()
    {
        let job_id = format!("job-{i}");
        server.api.submit(new_job(&job_id, vec![StageSpec { queue: job_id.clone(), ..new_stage("s") }])).await;
        let lease = server.api.lease(&job_id).await;
        let stage = server.api.fail(&lease, proto::Failure { retry_after, ..failure(class) }).await.stage;
        let stage = stage.expect("a stage");
        let wait = seconds_between(stage.failure.and_then(|it| it.failure_time), stage.next_attempt_time);
        assert!((least..=most).contains(&wait), "{class:?}: {wait}");
    }
    for class in [FailureClass::ClientError, FailureClass::Cancelled] {
        let job_id = format!("job-{}", class.as_str_name());
        server.api.submit(new_job(&job_id, vec![StageSpec { queue: job_id.clone(), ..new_stage("s") }])).await;
        let stage = server.api.fail(&server.api.lease(&job_id).await, failure(class)).await.stage;
        assert_eq!(stage.expect("a stage").state(), StageState::Failed, "{class:?} is not tried again");
    }
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_revoked_despite_its_heartbeats() {
    let server = Server::start().await;
    let stage = StageSpec { timeout: millis(700), ..new_stage_with_attempts("a", 2) };
    server.api.submit(new_job("film", vec![stage])).await;
    let lease = server.api.lease("default").await;
    eventually("the end of the attempt", async || {
        let status = server.api.renew_lease(&lease, None).await;
        (status.directive() == proto::LeaseDirective::Lost).then_some(())
    })
    .await;
    let failure = server.api.stage("film", "a").await.failure.expect("a failure");
    assert_eq!((failure.failure_class(), failure.attempt), (FailureClass::Timeout, 1));
    // Revoked is more than expired: it cannot complete late.
    let complete = proto::CompleteStageRequest { target: token(&lease), ..Default::default() };
    refused(server.api.workers().complete_stage(complete).await, Code::FailedPrecondition, "LEASE_LOST");
    let second = server.api.lease("default").await;
    assert_eq!(second.attempt, 2);
    let job = server.api.job_in("film", JobState::Failed).await;
    assert_eq!(job.failure.expect("a failure").failure_class(), FailureClass::Timeout);
}

#[tokio::test]
async fn a_stage_that_runs_by_name_has_its_timeout_too() {
    let server = Server::start().await;
    let stage = StageSpec { timeout: millis(400), ..new_stage_with_attempts("a", 1) };
    server.api.submit(new_job("film", vec![stage])).await;
    let progress = proto::UpdateStageProgressRequest {
        target: Target::named("film", "a"),
        progress: Some(0.5),
        ..Default::default()
    };
    ok(server.api.workers().update_stage_progress(progress).await);
    server.api.job_in("film", JobState::Failed).await;
}

#[tokio::test]
async fn a_job_that_takes_too_long_fails() {
    let server = Server::start().await;
    let request = proto::SubmitJobRequest {
        timeout: millis(600),
        ..new_job("film", vec![new_stage("a"), new_stage("b"), new_stage_after("c", &["a"])])
    };
    server.api.submit(request).await;
    let lease = server.api.lease("default").await;
    let job = server.api.job_where("film", "the timeout", |job| job.failure.is_some()).await;
    let failure = job.failure.clone().expect("a failure");
    assert_eq!((failure.failure_class(), &*failure.stage_name, failure.attempt), (FailureClass::Timeout, "", 0));
    assert_eq!((state_of(&job, "b"), state_of(&job, "c")), (StageState::Skipped, StageState::Skipped));
    assert_eq!(server.api.renew_lease(&lease, None).await.directive(), proto::LeaseDirective::Cancel);
    server.api.complete(&lease, json!({})).await;
    assert_eq!(server.api.job("film").await.state(), JobState::Failed);
    let events = server.api.events("film").await;
    assert!(events.iter().any(|event| event.event_type() == JobEventType::TimedOut && event.actor == "server"));
}

#[tokio::test]
async fn first_expiry_makes_the_stage_ready_at_once_despite_the_backoff() {
    let server = Server::start().await;
    let policy = RetryPolicy { initial_backoff: seconds(3_600), ..at_once(3) };
    let stage = StageSpec { retry_policy: Some(policy), ..new_stage("a") };
    server.api.submit(new_job("film", vec![stage])).await;
    server.api.lease_for("default", 1).await;
    assert_eq!(server.api.lease("default").await.attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_of_a_paused_job_stands_still() {
    let server = Server::start().await;
    let timed = |job_id| proto::SubmitJobRequest { timeout: millis(2_000), ..new_job(job_id, Vec::new()) };
    server.api.submit(timed("film")).await;
    ok(server.api.jobs().pause_job(proto::PauseJobRequest { job_id: "film".into(), ..Default::default() }).await);
    // Another one tells when the time would be up.
    server.api.submit(timed("clock")).await;
    server.api.job_in("clock", JobState::Failed).await;
    let job = server.api.job("film").await;
    assert_eq!((job.state(), job.failure.is_some()), (JobState::Paused, false));
    let explain = proto::ExplainJobRequest { job_id: "film".into() };
    let received = ok(server.api.jobs().explain_job(explain).await).headline;
    assert!(received.ends_with("Its timeout stands still, with 2 s left."), "{received}");
    // What is left is stored.
    let server = Server::over(server.stop().await, |_| {}).await;
    let resume = proto::ResumeJobRequest { job_id: "film".into(), ..Default::default() };
    ok(server.api.jobs().resume_job(resume).await);
    let job = server.api.job_in("film", JobState::Failed).await;
    let events = server.api.events("film").await;
    let at = |event_type| {
        let event = events.iter().find(|event| event.event_type() == event_type).expect("it happened");
        event.event_time
    };
    let [began, paused] = [JobEventType::Submitted, JobEventType::Paused].map(at);
    let [resumed, ended] = [JobEventType::Resumed, JobEventType::TimedOut].map(at);
    let ran = seconds_between(began, paused) + seconds_between(resumed, ended);
    assert!((1.99..10.0).contains(&ran), "{ran} s although it was given 2 s");
    assert_eq!(job.failure.expect("a failure").failure_class(), FailureClass::Timeout);
}
