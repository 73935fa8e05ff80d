//! SubmitJob and BatchSubmitJobs: what comes back, dry runs, repeats.

use std::collections::BTreeSet;

use futures::future::join_all;
use interlock::proto::{self, JobState, StageDependsWhen, StageOnFailure, StageSpec, StageState, SubmitJobRequest};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn rich() -> SubmitJobRequest {
    let render = StageSpec {
        queue: "gpu".into(),
        input: struct_of(json!({ "codec": "h264", "size": [1920, 1080] })),
        weight: Some(2.5),
        depends_when: StageDependsWhen::AllFinished.into(),
        on_failure: StageOnFailure::Continue.into(),
        group_key: "kitchen".into(),
        retry_policy: Some(at_once(5)),
        ..new_stage_after("render", &["voice", "images"])
    };
    let review = StageSpec { direct: true, weight: Some(0.0), ..new_stage("review") };
    SubmitJobRequest {
        payload: struct_of(json!({ "title": "Über Katzen", "scenes": [{ "n": 1 }, null, true, -0.5, 1e20] })),
        labels: labels(&[("customer", "acme"), ("team/a.b", "")]),
        priority: -7,
        timeout: seconds(3_600),
        retry_policy: Some(at_once(2)),
        ..new_job("film", vec![new_stage("voice"), new_stage("images"), render, review])
    }
}

#[tokio::test]
async fn job_is_read_as_it_was_submitted() {
    let server = Server::start().await;
    let request = rich();
    let response = ok(server.api.jobs().submit_job(request.clone()).await);
    assert_eq!((response.replayed, response.applied_version), (false, 1));
    let job = response.job.expect("a job");
    assert_eq!(job, server.api.job("film").await);
    assert_eq!((job.state(), job.version, job.run, job.progress), (JobState::Pending, 1, 1, 0.0));
    assert_eq!((&job.kind, &job.payload, &job.labels), (&request.kind, &request.payload, &request.labels));
    assert_eq!((job.priority, job.timeout, job.stages_truncated), (-7, seconds(3_600), false));
    assert!(job.create_time.is_some() && job.start_time.is_none() && job.end_time.is_none());
    let counts = job.stage_counts.expect("counts");
    assert_eq!((counts.total, counts.ready, counts.blocked), (4, 3, 1));
    let names: Vec<_> = job.stages.iter().map(|stage| &*stage.name).collect();
    assert_eq!(names, ["voice", "images", "render", "review"], "in the order they were given");

    let voice = stage(&job, "voice");
    assert_eq!((&*voice.queue, voice.state(), voice.weight), ("default", StageState::Ready, 1.0));
    assert_eq!((voice.version, voice.attempt, voice.max_attempts), (1, 0, 2), "the job's policy");
    assert_eq!(voice.depends_when(), StageDependsWhen::AllSucceeded);
    assert_eq!(voice.on_failure(), StageOnFailure::FailJob);
    let render = stage(&job, "render");
    assert_eq!((&*render.queue, render.state(), render.weight), ("gpu", StageState::Blocked, 2.5));
    assert_eq!((render.max_attempts, &*render.group_key), (5, "kitchen"));
    assert_eq!(render.depends_on.iter().collect::<BTreeSet<_>>(), texts(&["images", "voice"]).iter().collect());
    assert_eq!(render.on_failure(), StageOnFailure::Continue);
    assert_eq!(render.depends_when(), StageDependsWhen::AllFinished);
    assert_eq!(render.input, None, "only GetStage and the lease have it");
    assert!(stage(&job, "review").direct);
    assert_eq!(server.api.stage("film", "render").await.input, request.stages[2].input);
}

#[tokio::test]
async fn a_job_without_stages_has_one() {
    let server = Server::start().await;
    let job = server.api.submit(new_job("", Vec::new())).await;
    assert!(!job.job_id.is_empty());
    let stages: Vec<_> = job.stages.iter().map(|stage| (&*stage.name, &*stage.queue, stage.state())).collect();
    assert_eq!(stages, [("main", "default", StageState::Ready)]);
    let other = server.api.submit(new_job("", Vec::new())).await;
    assert_ne!(job.job_id, other.job_id);
    let lease = server.api.lease("default").await;
    assert_eq!((lease.job_id, &*lease.stage_name), (job.job_id, "main"));
}

#[tokio::test]
async fn dry_run_returns_the_job_and_stores_nothing() {
    let server = Server::start().await;
    let dry = SubmitJobRequest { validate_only: true, ..rich() };
    let response = ok(server.api.jobs().submit_job(dry).await);
    let received = response.job.expect("a job");
    assert_eq!((received.version, response.applied_version, &*received.job_id), (0, 0, "film"));
    assert_eq!((received.stages.len(), state_of(&received, "render")), (4, StageState::Blocked));
    let nameless = SubmitJobRequest { validate_only: true, ..new_job("", Vec::new()) };
    assert_eq!(server.api.submit(nameless).await.job_id, "");
    let get = proto::GetJobRequest { job_id: "film".into(), ..Default::default() };
    refused(server.api.jobs().get_job(get).await, Code::NotFound, "JOB_NOT_FOUND");
    assert_eq!(ok(server.api.jobs().list_jobs(proto::ListJobsRequest::default()).await).jobs, []);
    assert_eq!(server.api.lease_now("default", 10).await, []);
    // Nor is its request_id spent.
    let id = request_id();
    let dry = SubmitJobRequest { validate_only: true, request_id: id.clone(), ..rich() };
    ok(server.api.jobs().submit_job(dry).await);
    let real = SubmitJobRequest { request_id: id, ..rich() };
    assert!(!ok(server.api.jobs().submit_job(real).await).replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_with_the_same_request_id_makes_one_job() {
    let server = Server::start().await;
    let other = server.beside().await;
    let request = SubmitJobRequest { request_id: request_id(), ..new_job("", vec![new_stage("s")]) };
    // Twenty at once, over two servers.
    let answers = join_all((0..20).map(async |i| {
        let api = if i % 2 == 0 { &server.api } else { &other.api };
        ok(api.jobs().submit_job(request.clone()).await)
    }));
    let answers = answers.await;
    let ids: BTreeSet<_> = answers.iter().filter_map(|answer| answer.job.as_ref()).map(|job| &job.job_id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| answer.applied_version == 1));
    assert_eq!(ok(server.api.jobs().list_jobs(proto::ListJobsRequest::default()).await).jobs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeat_after_a_restart_returns_the_current_job() {
    let server = Server::start().await;
    let request = SubmitJobRequest { request_id: request_id(), ..new_job("film", vec![new_stage("s")]) };
    server.api.submit(request.clone()).await;
    let lease = server.api.lease("default").await;
    let complete = proto::CompleteStageRequest {
        target: token(&lease),
        artifacts: struct_of(json!({ "a": 1 })),
        request_id: request_id(),
        ..Default::default()
    };
    let first = ok(server.api.workers().complete_stage(complete.clone()).await);
    let server = Server::over(server.stop().await, |_| {}).await;
    let again = ok(server.api.workers().complete_stage(complete.clone()).await);
    assert!(again.replayed && again.applied && !first.replayed);
    assert_eq!(again.applied_job_version, first.applied_job_version);
    assert_eq!(again.stage.expect("a stage").artifacts, complete.artifacts);
    let again = ok(server.api.jobs().submit_job(request.clone()).await);
    assert_eq!((again.replayed, again.applied_version), (true, 1));
    assert_eq!(again.job, Some(server.api.job("film").await), "as it is now");

    let delete = proto::DeleteJobRequest { job_id: "film".into(), request_id: request_id(), ..Default::default() };
    let deleted = ok(server.api.jobs().delete_job(delete.clone()).await);
    let repeated = ok(server.api.jobs().delete_job(delete).await);
    assert_eq!((repeated.replayed, repeated.applied_version), (true, deleted.applied_version));
    let again = ok(server.api.jobs().submit_job(request).await);
    assert_eq!((again.replayed, again.applied_version, again.job), (true, 1, None));
    let again = ok(server.api.workers().complete_stage(complete).await);
    assert_eq!((again.replayed, again.stage), (true, None));
}

#[tokio::test]
async fn a_batch_is_all_or_nothing_in_the_order_of_the_request() {
    let server = Server::start().await;
    let jobs: Vec<_> = (0..200).map(|i| new_job(&format!("job-{i}"), vec![new_stage("s")])).collect();
    let batch = proto::BatchSubmitJobsRequest { request_id: request_id(), jobs: jobs.clone() };
    let response = ok(server.api.jobs().batch_submit_jobs(batch.clone()).await);
    let ids = |jobs: &[proto::Job]| jobs.iter().map(|job| job.job_id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&response.jobs), jobs.iter().filter_map(|job| job.job_id.clone()).collect::<Vec<_>>());
    assert!(response.jobs.iter().all(|job| job.stages.is_empty() && job.stages_truncated && job.version == 1));
    let again = ok(server.api.jobs().batch_submit_jobs(batch).await);
    assert!(again.replayed);
    assert_eq!(ids(&again.jobs), ids(&response.jobs));

    let mut clashing: Vec<_> = (200..300).map(|i| new_job(&format!("job-{i}"), Vec::new())).collect();
    clashing.push(new_job("job-7", Vec::new()));
    let batch = proto::BatchSubmitJobsRequest { jobs: clashing, ..Default::default() };
    let received = refused(server.api.jobs().batch_submit_jobs(batch).await, Code::AlreadyExists, "JOB_ALREADY_EXISTS");
    assert_eq!(received.metadata["job_id"], "job-7");
    let list = proto::ListJobsRequest { page_size: 1_000, ..Default::default() };
    assert_eq!(ok(server.api.jobs().list_jobs(list).await).jobs.len(), 200);
}

#[tokio::test]
async fn a_thousand_jobs_are_one_batch() {
    let server = Server::start().await;
    let jobs: Vec<_> = (0..1_000).map(|_| new_job("", vec![new_stage("a"), new_stage_after("b", &["a"])])).collect();
    let batch = proto::BatchSubmitJobsRequest { jobs, ..Default::default() };
    let made = ok(server.api.jobs().batch_submit_jobs(batch).await).jobs;
    assert_eq!(made.iter().map(|job| &job.job_id).collect::<BTreeSet<_>>().len(), 1_000);
}
