//! A stage that runs again adds its own stages again, on any server: who added what is in the database.

use interlock::proto::{self, FailureClass, JobState, LeaseDirective, StageSpec, StageState};
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::*;

/// A part of the plan, which `join` waits for.
fn part(name: &str, queue: &str, input: Value) -> StageSpec {
    StageSpec {
        queue: queue.to_owned(),
        input: struct_of(input),
        required_by: texts(&["join"]),
        permits: vec![claim(&format!("{queue}-{name}"))],
        ..new_stage(name)
    }
}

fn plan(job_id: &str) -> proto::SubmitJobRequest {
    let plan = StageSpec { queue: "plans".into(), ..new_stage("plan") };
    let join = StageSpec { queue: "joins".into(), ..new_stage_after("join", &["plan"]) };
    proto::SubmitJobRequest { retry_policy: Some(at_once(5)), ..new_job(job_id, vec![plan, join]) }
}

async fn add(api: &Api, lease: &proto::Lease, stages: Vec<StageSpec>) -> Vec<proto::Stage> {
    let request = proto::AddStagesRequest { target: token(lease), stages, request_id: request_id() };
    ok(api.workers().add_stages(request).await).stages
}

async fn complete_with(api: &Api, lease: &proto::Lease, add_stages: Vec<StageSpec>) {
    let request = proto::CompleteStageRequest { target: token(lease), add_stages, ..Default::default() };
    ok(api.workers().complete_stage(request).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planner_that_failed_on_one_server_plans_again_on_another() {
    let a = Server::start().await;
    a.api.submit(plan("film")).await;
    let first = a.api.lease("plans").await;
    let parts = ["done", "same", "other", "moved", "gone"].map(|name| part(name, "parts", json!({ "n": 1 })));
    let added = add(&a.api, &first, parts.to_vec()).await;
    assert!(added.iter().all(|stage| stage.added_by == "plan" && stage.state() == StageState::Ready));
    let held = a.api.lease_now("parts", 3).await;
    let lease = |name: &str| held.iter().find(|lease| lease.stage_name == name).expect("in the order of arrival");
    a.api.complete(lease("done"), json!({ "wav": 1 })).await;
    a.api.fail(&first, failure(FailureClass::Network)).await;

    // All that this server knows it has read.
    let b = a.beside().await;
    let second = b.api.lease("plans").await;
    assert_eq!(second.attempt, 2);
    let again = vec![
        part("done", "parts", json!({ "n": 2 })),
        part("same", "parts", json!({ "n": 1 })),
        part("other", "parts", json!({ "n": 2 })),
        part("moved", "elsewhere", json!({ "n": 1 })),
    ];
    add(&b.api, &second, again.clone()).await;
    let taken = proto::AddStagesRequest { target: token(&second), stages: again, ..Default::default() };
    refused(b.api.workers().add_stages(taken).await, Code::AlreadyExists, "STAGE_ALREADY_EXISTS");
    assert_eq!(a.api.renew_lease(lease("same"), None).await.directive(), LeaseDirective::Continue);
    assert_eq!(a.api.renew_lease(lease("other"), None).await.directive(), LeaseDirective::Lost);
    assert_eq!(a.api.resource("parts-other").await.permit_count, 0, "its permit came back with it");
    complete_with(&a.api, &second, vec![part("new", "parts", json!({}))]).await;

    let job = b.api.job("film").await;
    let states = ["done", "same", "other", "moved", "gone", "new", "join"].map(|name| state_of(&job, name));
    let (ready, blocked) = (StageState::Ready, StageState::Blocked);
    let expected = [StageState::Succeeded, StageState::Running, ready, ready, StageState::Skipped, ready, blocked];
    assert_eq!(states, expected);
    assert_eq!(stage(&job, "done").artifacts, struct_of(json!({ "wav": 1 })));
    let moved = b.api.lease("elsewhere").await;
    assert_eq!(moved.stage_name, "moved");
    b.api.complete(&moved, json!({})).await;
    for (name, input) in [("other", json!({ "n": 2 })), ("new", json!({}))] {
        let lease = b.api.lease("parts").await;
        assert_eq!((&*lease.stage_name, lease.attempt, &lease.input), (name, 1, &struct_of(input)));
        b.api.complete(&lease, json!({})).await;
    }
    assert_eq!(a.api.lease_now("parts", 10).await, []);
    a.api.complete(lease("same"), json!({})).await;
    b.api.complete(&b.api.lease("joins").await, json!({})).await;
    assert_eq!(a.api.job("film").await.state(), JobState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_run_waits_for_the_new_plan() {
    let a = Server::start().await;
    a.api.submit(plan("film")).await;
    let parts = |names: &[&str]| names.iter().map(|name| part(name, "parts", json!({}))).collect::<Vec<_>>();
    complete_with(&a.api, &a.api.lease("plans").await, parts(&["a", "b"])).await;
    for queue in ["parts", "parts", "joins"] {
        a.api.complete(&a.api.lease(queue).await, json!({ "run": 1 })).await;
    }
    let retry = proto::RetryJobRequest { job_id: "film".into(), from_stage: "plan".into(), ..Default::default() };
    let job = ok(a.api.jobs().retry_job(retry).await).job.expect("a job");
    assert_eq!(["a", "b", "join"].map(|name| state_of(&job, name)), [StageState::Blocked; 3]);
    let explained = proto::ExplainJobRequest { job_id: "film".into() };
    let explained = ok(a.api.jobs().explain_job(explained).await).stages;
    let b_waits = explained.iter().find(|stage| stage.stage_name == "b").expect("it waits");
    assert_eq!((b_waits.reason(), &*b_waits.blocker), (proto::StageWaitReason::Dependency, "plan"));

    let b = a.beside().await;
    let lease = b.api.lease("plans").await;
    assert_eq!(b.api.lease_now("parts", 10).await, [], "nothing runs by the old plan");
    add(&b.api, &lease, parts(&["a"])).await;
    complete_with(&b.api, &lease, parts(&["c"])).await;
    let job = a.api.job("film").await;
    let states = ["a", "b", "c", "join"].map(|name| state_of(&job, name));
    assert_eq!(states, [StageState::Ready, StageState::Skipped, StageState::Ready, StageState::Blocked]);
    for queue in ["parts", "parts", "joins"] {
        a.api.complete(&a.api.lease(queue).await, json!({ "run": 2 })).await;
    }
    let job = b.api.job("film").await;
    assert_eq!((job.state(), job.progress, state_of(&job, "b")), (JobState::Succeeded, 1.0, StageState::Skipped));
}
