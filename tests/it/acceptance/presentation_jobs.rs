//! Presentation jobs: many tasks report on a job, many clients look at it, workers fall silent, and old jobs go.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use interlock::proto::{self, FailureClass, JobEventType, JobState, LeaseDirective, StageState};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn presentation(i: usize) -> proto::SubmitJobRequest {
    let avatar = proto::StageSpec { weight: Some(3.0), ..new_stage("avatar") };
    let video = proto::StageSpec { weight: Some(2.0), ..new_stage_after("video", &["slides", "avatar"]) };
    new_job(&format!("presentation-{i}"), vec![new_stage("slides"), avatar, video])
}

/// Does one stage; three tasks report its progress at once, out of step with each other.
async fn perform(api: &Api, lease: &proto::Lease) {
    let report = async |task: u32| {
        for step in 0..12_u32 {
            let progress = f64::from((step * 7 + task * 5) % 12) / 12.0;
            if task == 0 {
                api.renew_lease(lease, Some(progress)).await;
            } else {
                api.progress(lease, progress).await;
            }
        }
    };
    join_all((0..3).map(report)).await;
    api.complete(lease, json!({ "of": lease.job_id, "stage": lease.stage_name })).await;
}

/// Reads a job again and again until it has ended; what it sees only ever grows. Returns how often it looked.
async fn watch(api: &Api, job_id: &str) -> usize {
    let (mut last, mut looks) = (api.job(job_id).await, 1);
    while last.state() != JobState::Succeeded {
        let now = api.job(job_id).await;
        looks += 1;
        assert!(now.version >= last.version, "{job_id}: {} after {}", now.version, last.version);
        assert!(now.progress >= last.progress, "{job_id}: {} after {}", now.progress, last.progress);
        assert!(now != last || now.version == last.version);
        for (stage, before) in now.stages.iter().zip(&last.stages) {
            assert!(stage.version >= before.version);
            assert!(stage.attempt > before.attempt || stage.progress >= before.progress, "{job_id} {}", stage.name);
        }
        last = now;
    }
    looks
}

#[tokio::test(flavor = "multi_thread")]
async fn five_presentations_at_once_each_with_its_own_progress() {
    let (server, other) = {
        let server = Server::start().await;
        let other = server.beside().await;
        (server, other)
    };
    let (finished, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    let presentations = async {
        join_all((0..5).map(|i| server.api.submit(presentation(i)))).await;
        let readers = join_all((0..5).flat_map(|i| [(i, &server), (i, &other)]).map(async |(i, server)| {
            looks.fetch_add(watch(&server.api, &format!("presentation-{i}")).await, Ordering::Relaxed);
        }));
        readers.await;
        finished.store(true, Ordering::Relaxed);
    };
    let workers = join_all((0..4).map(async |i| {
        let api = if i % 2 == 0 { &server.api } else { &other.api };
        while !finished.load(Ordering::Relaxed) {
            for lease in api.lease_now("default", 2).await {
                perform(api, &lease).await;
            }
        }
    }));
    join(presentations, workers).await;
    println!("{} looks saw no step backwards", looks.load(Ordering::Relaxed));
    for i in 0..5 {
        let job = server.api.job(&format!("presentation-{i}")).await;
        assert_eq!((job.state(), job.progress), (JobState::Succeeded, 1.0));
        for stage in &job.stages {
            let expected = struct_of(json!({ "of": job.job_id, "stage": stage.name }));
            assert_eq!((stage.attempt, &stage.artifacts), (1, &expected));
        }
    }
}

#[tokio::test]
async fn progress_is_the_weighted_mean_of_the_stages() {
    let server = Server::start().await;
    server.api.submit(presentation(0)).await;
    let leases = server.api.lease_now("default", 2).await;
    let lease = |name: &str| leases.iter().find(|lease| lease.stage_name == name).expect("leased");
    server.api.progress(lease("slides"), 0.5).await;
    server.api.progress(lease("avatar"), 0.25).await;
    let mean = (0.5 + 0.25 * 3.0) / 6.0;
    let job = server.api.job("presentation-0").await;
    assert!((job.progress - mean).abs() < 1e-9, "{}", job.progress);
    server.api.complete(lease("slides"), json!({})).await;
    let mean = (1.0 + 0.25 * 3.0) / 6.0;
    assert!((server.api.job("presentation-0").await.progress - mean).abs() < 1e-9);
}

#[tokio::test]
async fn heartbeats_keep_a_lease_beyond_its_first_end() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("render")])).await;
    let lease = server.api.lease_for("default", 1).await;
    assert!(lease.heartbeat_interval.is_some_and(|it| it.seconds == 0 && it.nanos <= 333_333_334));
    let before = server.api.job("film").await;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let mut last_end = lease.expire_time.expect("an end");
    while began.elapsed() < Duration::from_millis(2_600) {
        ticks.tick().await;
        let status = server.api.renew_lease(&lease, None).await;
        assert_eq!(status.directive(), LeaseDirective::Continue);
        let end = status.expire_time.expect("an end");
        assert!((end.seconds, end.nanos) >= (last_end.seconds, last_end.nanos));
        last_end = end;
        assert_eq!(server.api.lease_now("default", 1).await, [], "no other worker gets it");
    }
    let after = server.api.job("film").await;
    assert_eq!(after.version, before.version, "renewals are no change");
    assert_eq!(server.api.complete(&lease, json!({ "ok": true })).await.stage.expect("a stage").attempt, 1);
}

#[tokio::test]
async fn heartbeats_never_overwrite_newer_values() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("render")])).await;
    let lease = server.api.lease("default").await;
    server.api.progress(&lease, 0.8).await;
    for late in [0.1, 0.79] {
        server.api.renew_lease(&lease, Some(late)).await;
    }
    let stage = server.api.stage("film", "render").await;
    assert_eq!(stage.progress, 0.8);
    // A message is news, even with an old progress.
    let renewal = proto::LeaseRenewal {
        lease_token: lease.lease_token.clone(),
        progress: Some(0.2),
        message: Some("muxing".to_owned()),
    };
    ok(server.api.workers().heartbeat(proto::HeartbeatRequest { renewals: vec![renewal] }).await);
    let after = server.api.stage("film", "render").await;
    assert_eq!((after.progress, &*after.message, after.version), (0.8, "muxing", stage.version + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stage_of_a_silent_worker_moves_to_another() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("render")])).await;
    let silent = server.api.lease_for("default", 1).await;
    server.api.progress(&silent, 0.7).await;
    // The other worker waits in line and is woken by the reaper.
    let next = server.api.lease("default").await;
    assert_eq!((&*next.stage_name, next.attempt), ("render", 2));
    assert!(next.fencing_token > silent.fencing_token);
    assert_ne!(next.lease_token, silent.lease_token);

    assert_eq!(server.api.renew_lease(&silent, Some(0.9)).await.directive(), LeaseDirective::Lost);
    let progress =
        proto::UpdateStageProgressRequest { target: token(&silent), progress: Some(0.9), ..Default::default() };
    let lost = (Code::FailedPrecondition, "LEASE_LOST");
    refused(server.api.workers().update_stage_progress(progress).await, lost.0, lost.1);
    let completion = proto::CompleteStageRequest { target: token(&silent), ..Default::default() };
    refused(server.api.workers().complete_stage(completion).await, lost.0, lost.1);
    let failing = proto::FailStageRequest { target: token(&silent), ..Default::default() };
    refused(server.api.workers().fail_stage(failing).await, lost.0, lost.1);
    let releasing = proto::ReleaseStageRequest { target: token(&silent), ..Default::default() };
    refused(server.api.workers().release_stage(releasing).await, lost.0, lost.1);

    let job = server.api.job("film").await;
    let stage = stage(&job, "render");
    assert_eq!((stage.state(), stage.attempt), (StageState::Running, 2));
    let expired = stage.failure.as_ref().expect("the expiry is reported");
    assert_eq!((expired.failure_class(), expired.attempt), (FailureClass::LeaseExpired, 1));
    server.api.complete(&next, json!({ "by": "the second" })).await;
    let job = server.api.job_in("film", JobState::Succeeded).await;
    assert_eq!(job.stages[0].artifacts, struct_of(json!({ "by": "the second" })));
    let expiries: Vec<_> = server
        .api
        .events("film")
        .await
        .into_iter()
        .filter(|event| event.event_type() == JobEventType::LeaseExpired)
        .collect();
    assert_eq!(expiries.len(), 1);
    assert_eq!((&*expiries[0].actor, expiries[0].stage_changes[0].state()), ("server", StageState::Ready));
}

#[tokio::test]
async fn expired_leases_count_as_attempts_up_to_the_limit() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage_with_attempts("render", 2)])).await;
    for attempt in 1..=2 {
        let lease = server.api.lease_for("default", 1).await;
        assert_eq!(lease.attempt, attempt);
    }
    let job = server.api.job_in("film", JobState::Failed).await;
    let failure = job.failure.expect("a failure");
    assert_eq!(failure.failure_class(), FailureClass::LeaseExpired);
    assert_eq!((failure.attempt, failure.max_attempts, &*failure.stage_name), (2, 2, "render"));
}

#[tokio::test]
async fn silent_worker_may_still_complete_a_stage_that_was_not_leased_again() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("render")])).await;
    let silent = server.api.lease_for("default", 1).await;
    server.api.job_where("film", "the reaper", |job| state_of(job, "render") == StageState::Ready).await;
    assert_eq!(server.api.renew_lease(&silent, None).await.directive(), LeaseDirective::Lost);
    let answer = server.api.complete(&silent, json!({ "late": true })).await;
    assert_eq!(answer.stage.expect("a stage").state(), StageState::Succeeded);
    assert_eq!(server.api.job("film").await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn a_failure_is_recorded_wherever_it_is_reported() {
    let server = Server::start().await;
    let other = server.beside().await;
    server.api.submit(new_job("film", vec![new_stage("render")])).await;
    let lease = server.api.lease("default").await;
    let received = proto::Failure {
        failure_class: FailureClass::ClientError.into(),
        code: "422".to_owned(),
        message: "no such avatar".to_owned(),
        details: struct_of(json!({ "avatar": { "id": "a-7", "tried": [true, null, 1.5] } })),
        ..Default::default()
    };
    let stage = other.api.fail(&lease, received.clone()).await.stage.expect("a stage");
    assert_eq!(stage.state(), StageState::Failed, "a client's error is not tried again");
    let failure = server.api.job("film").await.failure.expect("a failure");
    assert_eq!((failure.code, failure.message, failure.details), (received.code, received.message, received.details));
    assert_eq!((failure.attempt, &*failure.stage_name), (1, "render"));
}

#[tokio::test]
async fn finished_jobs_are_cleaned_up_after_their_retention() {
    let server = Server::start().await;
    let short = proto::SubmitJobRequest { retention: seconds(1), ..new_job("short", vec![new_stage("s")]) };
    server.api.submit(short).await;
    server.api.submit(new_job("usual", vec![new_stage("s")])).await;
    for lease in server.api.lease_now("default", 2).await {
        server.api.complete(&lease, json!({})).await;
    }
    let kept = server.api.job("usual").await;
    let (end, expire) = (kept.end_time.expect("an end"), kept.expire_time.expect("an end"));
    assert_eq!((expire.seconds - end.seconds, expire.nanos), (7 * 86_400, end.nanos));
    let get = proto::GetJobRequest { job_id: "short".to_owned(), ..Default::default() };
    let gone = eventually("the clean-up", async || {
        let answer = server.api.jobs().get_job(get.clone()).await;
        answer.is_err().then_some(answer)
    });
    refused(gone.await, Code::NotFound, "JOB_NOT_FOUND");
    let events = proto::ListJobEventsRequest { job_id: "short".to_owned(), ..Default::default() };
    refused(server.api.jobs().list_job_events(events).await, Code::NotFound, "JOB_NOT_FOUND");
    let jobs = ok(server.api.jobs().list_jobs(proto::ListJobsRequest::default()).await).jobs;
    assert_eq!(jobs.iter().map(|job| &*job.job_id).collect::<Vec<_>>(), ["usual"]);
    // The id is free again, and its fencing tokens go on.
    server.api.submit(new_job("short", vec![new_stage("s")])).await;
    let lease = server.api.lease("default").await;
    assert!(lease.fencing_token > 1, "{}", lease.fencing_token);
}
