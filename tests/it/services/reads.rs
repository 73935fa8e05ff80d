//! WaitJob, ExplainJob, ListJobEvents: how a job is followed and understood.

use std::time::{Duration, Instant};

use interlock::proto::{self, FailureClass, JobEventType, JobState, StageWaitReason};
use serde_json::json;
use tonic::{Code, Request};

use crate::harness::*;

fn wait(job_id: &str, wait_ms: i64) -> proto::WaitJobRequest {
    proto::WaitJobRequest { job_id: job_id.to_owned(), wait: millis(wait_ms) }
}

#[tokio::test]
async fn wait_for_a_job_returns_at_its_end() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("a"), new_stage_after("b", &["a"])])).await;
    let waiting = (0..5).map(|_| {
        let api = server.api.clone();
        tokio::spawn(async move { ok(api.jobs().wait_job(wait("film", 60_000)).await) })
    });
    let waiting: Vec<_> = waiting.collect();
    eventually("the waits", async || {
        let rpcs = server.api.statistics().await.rpcs;
        let waits = rpcs.iter().find(|rpc| rpc.method.ends_with("WaitJob"))?;
        (waits.in_flight == 5).then_some(())
    })
    .await;
    server.api.complete(&server.api.lease("default").await, json!({})).await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "a change is not the end");
    let began = Instant::now();
    server.api.complete(&server.api.lease("default").await, json!({ "done": 1 })).await;
    for waiting in waiting {
        let response = waiting.await.expect("no panic");
        assert!(response.terminal);
        let job = response.job.expect("a job");
        assert_eq!((job.state(), job.progress), (JobState::Succeeded, 1.0));
        assert_eq!(stage(&job, "b").artifacts, struct_of(json!({ "done": 1 })));
    }
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn wait_that_ends_without_a_change_is_no_error() {
    let server = Server::start().await;
    server.api.submit(new_job("film", Vec::new())).await;
    for wait_ms in [0, 150] {
        let began = Instant::now();
        let response = ok(server.api.jobs().wait_job(wait("film", wait_ms)).await);
        assert!(!response.terminal);
        assert_eq!(response.job.expect("a job").state(), JobState::Pending);
        assert!(began.elapsed() >= Duration::from_millis(wait_ms.unsigned_abs()));
    }
    // A deadline that comes before the end of the wait ends it in time for an answer.
    let mut request = Request::new(wait("film", 60_000));
    request.set_timeout(Duration::from_secs(2));
    assert!(!ok(server.api.jobs().wait_job(request).await).terminal);
    server.api.complete(&server.api.lease("default").await, json!({})).await;
    assert!(ok(server.api.jobs().wait_job(wait("film", 60_000)).await).terminal);
}

#[tokio::test]
async fn wait_for_a_job_returns_not_found_when_it_is_deleted() {
    let server = Server::start().await;
    let short = proto::SubmitJobRequest { retention: seconds(0), ..new_job("film", Vec::new()) };
    server.api.submit(short).await;
    let lease = server.api.lease("default").await;
    let complete = async {
        server.api.complete(&lease, json!({})).await;
        // No caller waits for an end that has been; a new wait finds the job gone.
        eventually("the clean-up", async || {
            let answer = server.api.jobs().wait_job(wait("film", 5_000)).await;
            answer.is_err().then_some(answer)
        })
        .await
    };
    refused(complete.await, Code::NotFound, "JOB_NOT_FOUND");
}

#[tokio::test]
async fn history_has_each_change_and_its_author() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage_with_attempts("a", 2), new_stage_after("b", &["a"])])).await;
    let lease = server.api.lease("default").await;
    server.api.progress(&lease, 0.5).await;
    server.api.fail(&lease, failure(FailureClass::Timeout)).await;
    server.api.complete(&server.api.lease("default").await, json!({})).await;
    let id = || "film".to_owned();
    ok(server.api.jobs().pause_job(proto::PauseJobRequest { job_id: id(), ..Default::default() }).await);
    ok(server.api.jobs().resume_job(proto::ResumeJobRequest { job_id: id(), ..Default::default() }).await);
    let update = proto::UpdateJobRequest { job_id: id(), priority: Some(1), ..Default::default() };
    ok(server.api.jobs().update_job(update).await);
    let cancel = proto::CancelJobRequest { job_id: id(), ..Default::default() };
    ok(server.api.jobs().cancel_job(cancel).await);

    let events = server.api.events("film").await;
    let received: Vec<_> = events.iter().map(|event| (event.event_type(), &*event.actor, event.job_state())).collect();
    use JobEventType as E;
    use JobState as S;
    assert_eq!(
        received,
        [
            (E::Submitted, "client", S::Pending),
            (E::StageStarted, "worker:worker", S::Running),
            (E::StageFailed, "worker:worker", S::Running),
            (E::StageStarted, "worker:worker", S::Running),
            (E::StageCompleted, "worker:worker", S::Running),
            (E::Paused, "client", S::Paused),
            (E::Resumed, "client", S::Running),
            (E::Updated, "client", S::Running),
            (E::CancelRequested, "client", S::Cancelled),
        ]
    );
    assert!(events.is_sorted_by_key(|event| event.version));
    let failed = &events[2].stage_changes[0];
    assert_eq!((&*failed.stage_name, failed.attempt, &*failed.worker_id), ("a", 1, "worker"));
    assert_eq!(failed.failure.as_ref().map(|failure| failure.failure_class()), Some(FailureClass::Timeout));
    let completed: Vec<_> =
        events[4].stage_changes.iter().map(|change| (&*change.stage_name, change.state())).collect();
    use proto::StageState::{Ready, Succeeded};
    assert_eq!(completed, [("a", Succeeded), ("b", Ready)]);

    // In pages, and from a version on.
    let mut page = proto::ListJobEventsRequest { job_id: id(), page_size: 4, ..Default::default() };
    let mut paged = Vec::new();
    loop {
        let response = ok(server.api.jobs().list_job_events(page.clone()).await);
        assert!(response.events.len() <= 4);
        paged.extend(response.events);
        if response.next_page_token.is_empty() {
            break;
        }
        page.page_token = response.next_page_token;
    }
    assert_eq!(paged, events);
    let from = proto::ListJobEventsRequest { job_id: id(), from_version: events[5].version, ..Default::default() };
    assert_eq!(ok(server.api.jobs().list_job_events(from).await).events, events[6..]);
}

/// The reasons of a job's stages, by name.
async fn reasons(api: &Api, job_id: &str) -> Vec<(String, StageWaitReason, String)> {
    let response = ok(api.jobs().explain_job(proto::ExplainJobRequest { job_id: job_id.to_owned() }).await);
    assert!(!response.headline.is_empty());
    response.stages.into_iter().map(|it| (it.stage_name.clone(), it.reason(), it.blocker)).collect()
}

#[tokio::test]
async fn explanations_name_the_reason_and_the_blocker() {
    let server = Server::start().await;
    let queue = |stage: proto::StageSpec, queue: &str| proto::StageSpec { queue: queue.into(), ..stage };
    let slow = proto::RetryPolicy { initial_backoff: seconds(3_600), ..at_once(3) };
    let stages = vec![
        queue(new_stage("runs"), "one"),
        queue(new_stage_after("waits", &["runs"]), "one"),
        queue(proto::StageSpec { retry_policy: Some(slow), ..new_stage("failed") }, "two"),
        queue(new_stage("next"), "one"),
        proto::StageSpec { direct: true, ..new_stage("direct") },
    ];
    server.api.submit(new_job("film", stages)).await;
    server.api.lease("one").await;
    server.api.fail(&server.api.lease("two").await, failure(FailureClass::Network)).await;
    let found = reasons(&server.api, "film").await;
    use StageWaitReason as R;
    let expected = [
        ("runs", R::Running, "worker"),
        ("waits", R::Dependency, "runs"),
        ("failed", R::Backoff, ""),
        ("next", R::Queued, "one"),
        ("direct", R::Queued, ""),
    ];
    assert_eq!(found, expected.map(|(name, reason, blocker)| (name.to_owned(), reason, blocker.to_owned())));
    let response = ok(server.api.jobs().explain_job(proto::ExplainJobRequest { job_id: "film".into() }).await);
    let until = |name: &str| response.stages.iter().find(|it| it.stage_name == name).and_then(|it| it.until_time);
    let job = server.api.job("film").await;
    assert_eq!(until("runs"), stage(&job, "runs").lease.as_ref().and_then(|lease| lease.expire_time));
    assert_eq!(until("failed"), stage(&job, "failed").next_attempt_time);
    assert_eq!(response.job_version, job.version);

    ok(server.api.jobs().pause_job(proto::PauseJobRequest { job_id: "film".into(), ..Default::default() }).await);
    let paused = reasons(&server.api, "film").await;
    assert!(paused.contains(&("next".to_owned(), R::Paused, String::new())), "{paused:?}");
    let later = prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 };
    let delayed = proto::SubmitJobRequest { start_time: Some(later), ..new_job("later", Vec::new()) };
    server.api.submit(delayed).await;
    assert_eq!(reasons(&server.api, "later").await, [("main".to_owned(), R::StartTime, String::new())]);
    ok(server.api.jobs().cancel_job(proto::CancelJobRequest { job_id: "later".into(), ..Default::default() }).await);
    assert_eq!(reasons(&server.api, "later").await, []);
}
