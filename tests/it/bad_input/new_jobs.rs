//! SubmitJob and BatchSubmitJobs: graphs that are none, sizes, ids that are taken.

use interlock::proto::{self, StageSpec, SubmitJobRequest};
use serde_json::json;
use tonic::Code;

use super::Scene;
use crate::harness::*;

fn with_stages(stages: Vec<StageSpec>) -> SubmitJobRequest {
    new_job("new", stages)
}

fn many(count: usize) -> Vec<StageSpec> {
    (0..count).map(|i| new_stage(&format!("s{i}"))).collect()
}

#[tokio::test]
async fn invalid_submissions_are_refused_with_the_field() {
    let scene = Scene::set().await;
    let base = || new_job("new", Vec::new());
    let huge = "x".repeat(100_000);
    let many_labels: Vec<(String, String)> = (0..65).map(|i| (format!("k{i}"), String::new())).collect();
    let twice = |class: i32| proto::RetryRule { failure_class: class, ..Default::default() };
    let rules = |rules| Some(proto::RetryPolicy { rules, ..Default::default() });
    let rows = vec![
        (SubmitJobRequest { kind: String::new(), ..base() }, "kind"),
        (SubmitJobRequest { kind: huge.clone(), ..base() }, "kind"),
        (SubmitJobRequest { kind: "a film".into(), ..base() }, "kind"),
        (SubmitJobRequest { job_id: Some(huge.clone()), ..base() }, "job_id"),
        (SubmitJobRequest { job_id: Some("x".repeat(129)), ..base() }, "job_id"),
        (SubmitJobRequest { job_id: Some(String::new()), ..base() }, "job_id"),
        (SubmitJobRequest { request_id: Some(String::new()), ..base() }, "request_id"),
        (SubmitJobRequest { job_id: Some("a/b".into()), ..base() }, "job_id"),
        (SubmitJobRequest { job_id: Some("ü".into()), ..base() }, "job_id"),
        (SubmitJobRequest { request_id: Some("not-a-uuid".into()), ..base() }, "request_id"),
        (SubmitJobRequest { request_id: Some("0".repeat(31)), ..base() }, "request_id"),
        (SubmitJobRequest { payload: struct_of(json!({ "text": "x".repeat(257 * 1_024) })), ..base() }, "payload.text"),
        (SubmitJobRequest { labels: labels(&[("a b", "c")]), ..base() }, r#"labels["a b"]"#),
        (SubmitJobRequest { labels: labels(&[("a", &"x".repeat(257))]), ..base() }, "labels.a"),
        (SubmitJobRequest { labels: many_labels.into_iter().collect(), ..base() }, "labels"),
        (SubmitJobRequest { priority: 1_001, ..base() }, "priority"),
        (SubmitJobRequest { priority: -1_001, ..base() }, "priority"),
        (SubmitJobRequest { timeout: seconds(0), ..base() }, "timeout"),
        (SubmitJobRequest { timeout: seconds(365 * 86_400 + 1), ..base() }, "timeout"),
        (SubmitJobRequest { timeout: millis(-1_000), ..base() }, "timeout"),
        (SubmitJobRequest { retention: seconds(365 * 86_400 + 1), ..base() }, "retention"),
        (SubmitJobRequest { retry_policy: Some(at_once(101)), ..base() }, "retry_policy.max_attempts"),
        (SubmitJobRequest { retry_policy: Some(at_once(-1)), ..base() }, "retry_policy.max_attempts"),
        (SubmitJobRequest { retry_policy: rules(vec![twice(0)]), ..base() }, "retry_policy.rules[0].failure_class"),
        (
            SubmitJobRequest { retry_policy: rules(vec![twice(1), twice(1)]), ..base() },
            "retry_policy.rules[1].failure_class",
        ),
        (with_stages(many(10_001)), "stages"),
        (with_stages(vec![new_stage("")]), "stages[0].name"),
        (with_stages(vec![new_stage("a"), new_stage(&huge)]), "stages[1].name"),
        (with_stages(vec![new_stage("a"), new_stage("b"), new_stage("a")]), "stages[2].name"),
        (with_stages(vec![new_stage_after("a", &["a"])]), "stages[0].depends_on"),
        (with_stages(vec![StageSpec { required_by: texts(&["a"]), ..new_stage("a") }]), "stages[0].depends_on"),
        (with_stages(vec![new_stage_after("a", &["b"]), new_stage_after("b", &["a"])]), "stages[0].depends_on"),
        (
            with_stages(vec![
                new_stage("free"),
                new_stage_after("a", &["c"]),
                new_stage_after("b", &["a"]),
                new_stage_after("c", &["b", "free"]),
            ]),
            "stages[1].depends_on",
        ),
        (with_stages(vec![new_stage("a"), new_stage_after("b", &["a", "ghost"])]), "stages[1].depends_on[1]"),
        (with_stages(vec![new_stage_after("a", &[""])]), "stages[0].depends_on[0]"),
        (with_stages(vec![StageSpec { required_by: texts(&["ghost"]), ..new_stage("a") }]), "stages[0].required_by[0]"),
        (with_stages(vec![StageSpec { queue: "a b".into(), ..new_stage("a") }]), "stages[0].queue"),
        (
            with_stages(vec![StageSpec { input: struct_of(json!({ "t": "x".repeat(65 * 1_024) })), ..new_stage("a") }]),
            "stages[0].input.t",
        ),
        (with_stages(vec![StageSpec { weight: Some(1_000_001.0), ..new_stage("a") }]), "stages[0].weight"),
        (with_stages(vec![StageSpec { lease_duration: millis(999), ..new_stage("a") }]), "stages[0].lease_duration"),
        (
            with_stages(vec![StageSpec { lease_duration: seconds(86_401), ..new_stage("a") }]),
            "stages[0].lease_duration",
        ),
        (with_stages(vec![StageSpec { timeout: seconds(0), ..new_stage("a") }]), "stages[0].timeout"),
        (with_stages(vec![StageSpec { timeout: seconds(7 * 86_400 + 1), ..new_stage("a") }]), "stages[0].timeout"),
        (with_stages(vec![StageSpec { group_key: "x".repeat(129), ..new_stage("a") }]), "stages[0].group_key"),
    ];
    // What is refused is refused with validate_only too, in the same words.
    let dry = rows.iter().map(|(request, path)| (SubmitJobRequest { validate_only: true, ..request.clone() }, *path));
    scene.refuses(dry.collect(), async |request| scene.api.jobs().submit_job(request).await).await;
    scene.refuses(rows, async |request| scene.api.jobs().submit_job(request).await).await;
}

#[tokio::test]
async fn ten_thousand_stages_are_the_most() {
    let scene = Scene::set().await;
    let job = scene.api.submit(with_stages(many(10_000))).await;
    assert_eq!(job.stage_counts.expect("counts").total, 10_000);
    // One more does not fit, however it comes.
    let start = proto::AddStagesRequest {
        target: Target::named("new", "s0"),
        stages: vec![new_stage("one-more")],
        ..Default::default()
    };
    let progress = proto::UpdateStageProgressRequest {
        target: Target::named("new", "s0"),
        progress: Some(0.1),
        ..Default::default()
    };
    ok(scene.api.workers().update_stage_progress(progress).await);
    field(scene.api.workers().add_stages(start).await, "stages");
}

#[tokio::test]
async fn taken_job_id_is_refused() {
    let scene = Scene::set().await;
    for job_id in ["film", "done"] {
        let answer = scene.api.jobs().submit_job(new_job(job_id, Vec::new())).await;
        refused(answer, Code::AlreadyExists, "JOB_ALREADY_EXISTS");
        let dry = SubmitJobRequest { validate_only: true, ..new_job(job_id, Vec::new()) };
        refused(scene.api.jobs().submit_job(dry).await, Code::AlreadyExists, "JOB_ALREADY_EXISTS");
        let batch = proto::BatchSubmitJobsRequest {
            jobs: vec![new_job("fresh", Vec::new()), new_job(job_id, Vec::new())],
            ..Default::default()
        };
        refused(scene.api.jobs().batch_submit_jobs(batch).await, Code::AlreadyExists, "JOB_ALREADY_EXISTS");
    }
    // A job of another namespace takes no id away.
    scene.is_unchanged().await;
    scene.api.submit(new_job("theirs", Vec::new())).await;
}

#[tokio::test]
async fn invalid_batches_are_refused_whole() {
    let scene = Scene::set().await;
    let batch = |jobs| proto::BatchSubmitJobsRequest { jobs, ..Default::default() };
    let good = || new_job("fresh", Vec::new());
    let anonymous = || new_job("", Vec::new());
    let rows = vec![
        (batch(Vec::new()), "jobs"),
        (batch(vec![anonymous(); 1_001]), "jobs"),
        (batch(vec![good(), good()]), "jobs[1].job_id"),
        (batch(vec![good(), SubmitJobRequest { request_id: request_id(), ..anonymous() }]), "jobs[1].request_id"),
        (batch(vec![good(), SubmitJobRequest { validate_only: true, ..anonymous() }]), "jobs[1].validate_only"),
        (batch(vec![good(), new_job("x", vec![new_stage("a"), new_stage("a")])]), "jobs[1].stages[1].name"),
        (batch(vec![good(), new_job("x", vec![new_stage_after("a", &["a"])])]), "jobs[1].stages[0].depends_on"),
        (batch(vec![good(), new_job("x", many(10_001))]), "jobs[1].stages"),
        (proto::BatchSubmitJobsRequest { request_id: Some("x".into()), ..batch(vec![good()]) }, "request_id"),
    ];
    scene.refuses(rows, async |request| scene.api.jobs().batch_submit_jobs(request).await).await;
}

#[tokio::test]
async fn a_request_id_belongs_to_one_content_and_one_rpc() {
    let scene = Scene::set().await;
    let id = request_id();
    let pause = proto::PauseJobRequest { job_id: "film".into(), request_id: id.clone(), ..Default::default() };
    let paused = ok(scene.api.jobs().pause_job(pause.clone()).await).job.expect("a job");
    let reused = (Code::InvalidArgument, "REQUEST_ID_REUSED");
    let api = &scene.api;

    let other = proto::PauseJobRequest { job_id: "done".into(), ..pause.clone() };
    refused(api.jobs().pause_job(other).await, reused.0, reused.1);
    let resume = proto::ResumeJobRequest { job_id: "film".into(), request_id: id.clone(), ..Default::default() };
    refused(api.jobs().resume_job(resume).await, reused.0, reused.1);
    let submit = SubmitJobRequest { request_id: id.clone(), ..new_job("fresh", Vec::new()) };
    refused(api.jobs().submit_job(submit).await, reused.0, reused.1);
    let cancel = proto::CancelJobRequest { job_id: "film".into(), request_id: id.clone(), ..Default::default() };
    refused(api.jobs().cancel_job(cancel).await, reused.0, reused.1);
    let complete = proto::CompleteStageRequest {
        target: token(&scene.lease),
        request_id: id.map(|id| id.to_uppercase()),
        ..Default::default()
    };
    let received = refused(api.workers().complete_stage(complete).await, reused.0, reused.1);
    assert_eq!(received.field.as_deref(), Some("request_id"));
    assert_eq!(api.job("film").await, paused);
    let replay = ok(api.jobs().pause_job(pause).await);
    assert!(replay.replayed);
    assert_eq!(replay.job, Some(paused));
}
