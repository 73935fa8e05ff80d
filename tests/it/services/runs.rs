//! RetryJob and DeleteJob: other runs, and the end of all.

use interlock::proto::{self, FailureClass, JobState, StageOnFailure, StageState};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn retry(job_id: &str, from_stage: &str) -> proto::RetryJobRequest {
    proto::RetryJobRequest { job_id: job_id.to_owned(), from_stage: from_stage.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_failed_job_is_run_again_where_it_failed() {
    let server = Server::start().await;
    let stages = vec![new_stage("voice"), new_stage_after("mix", &["voice"]), new_stage_after("render", &["mix"])];
    server.api.submit(new_job("film", stages)).await;
    server.api.complete(&server.api.lease("default").await, json!({ "wav": 1 })).await;
    let first = server.api.lease("default").await;
    server.api.fail(&first, failure(FailureClass::ClientError)).await;
    let failed = server.api.job("film").await;
    assert_eq!((failed.state(), state_of(&failed, "render")), (JobState::Failed, StageState::Skipped));

    let response = ok(server.api.jobs().retry_job(retry("film", "")).await);
    let job = response.job.expect("a job");
    assert_eq!((job.state(), job.run, job.version), (JobState::Pending, 2, failed.version + 1));
    assert_eq!(response.applied_version, job.version);
    assert_eq!((&job.failure, &job.end_time, &job.start_time), (&None, &None, &None));
    assert_eq!(state_of(&job, "voice"), StageState::Succeeded);
    assert_eq!(stage(&job, "voice").artifacts, struct_of(json!({ "wav": 1 })));
    assert_eq!((state_of(&job, "mix"), stage(&job, "mix").attempt), (StageState::Ready, 0));
    assert_eq!(state_of(&job, "render"), StageState::Blocked);
    assert!(job.progress < 0.34, "a new run begins at zero: {}", job.progress);
    // What held it in the run before is lost for good.
    let late = proto::CompleteStageRequest { target: token(&first), ..Default::default() };
    refused(server.api.workers().complete_stage(late).await, Code::FailedPrecondition, "LEASE_LOST");
    let second = server.api.lease("default").await;
    assert_eq!((second.attempt, &*second.stage_name), (1, "mix"));
    assert!(second.fencing_token > first.fencing_token, "fencing tokens go on");
    server.api.complete(&second, json!({})).await;
    server.api.complete(&server.api.lease("default").await, json!({})).await;
    assert_eq!(server.api.job("film").await.state(), JobState::Succeeded);
    let runs: Vec<i32> = server.api.events("film").await.iter().map(|event| event.run).collect();
    assert!(runs.is_sorted() && runs.first() == Some(&1) && runs.last() == Some(&2), "{runs:?}");
}

#[tokio::test]
async fn a_stage_is_run_again_with_all_that_depends_on_it() {
    let server = Server::start().await;
    let stages = vec![
        new_stage("a"),
        new_stage("b"),
        new_stage_after("after-a", &["a"]),
        new_stage_after("after-b", &["b"]),
        new_stage_after("end", &["after-a"]),
    ];
    server.api.submit(new_job("film", stages)).await;
    for _ in 0..5 {
        let lease = server.api.lease("default").await;
        let request = proto::CompleteStageRequest {
            target: token(&lease),
            artifacts: struct_of(json!({ "run": 1 })),
            job_result: struct_of(json!({ "by": lease.stage_name })),
            ..Default::default()
        };
        ok(server.api.workers().complete_stage(request).await);
    }
    let job = server.api.job("film").await;
    assert_eq!(job.state(), JobState::Succeeded);
    assert!(job.result.is_some());
    refused(server.api.jobs().retry_job(retry("film", "")).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    let job = ok(server.api.jobs().retry_job(retry("film", "a")).await).job.expect("a job");
    assert_eq!((job.state(), job.run), (JobState::Pending, 2));
    let states = ["a", "b", "after-a", "after-b", "end"].map(|name| state_of(&job, name));
    use StageState::{Blocked, Ready, Succeeded};
    assert_eq!(states, [Ready, Succeeded, Blocked, Succeeded, Blocked]);
    assert_eq!((&stage(&job, "a").artifacts, stage(&job, "b").artifacts.is_some()), (&None, true));
    for expected in ["a", "after-a", "end"] {
        let lease = server.api.lease("default").await;
        assert_eq!((&*lease.stage_name, lease.attempt), (expected, 1));
        server.api.complete(&lease, json!({ "run": 2 })).await;
    }
    let job = server.api.job("film").await;
    assert_eq!((job.state(), job.progress), (JobState::Succeeded, 1.0));
    assert_eq!(stage(&job, "end").artifacts, struct_of(json!({ "run": 2 })));
}

#[tokio::test]
async fn a_cancelled_job_is_run_again() {
    let server = Server::start().await;
    server.api.submit(new_job("film", Vec::new())).await;
    let cancel = proto::CancelJobRequest { job_id: "film".into(), reason: "x".into(), ..Default::default() };
    ok(server.api.jobs().cancel_job(cancel).await);
    let request = proto::RetryJobRequest { request_id: request_id(), ..retry("film", "") };
    let job = ok(server.api.jobs().retry_job(request.clone()).await).job.expect("a job");
    assert_eq!((job.state(), job.run, &*job.cancel_reason), (JobState::Pending, 2, ""));
    let again = ok(server.api.jobs().retry_job(request).await);
    assert!(again.replayed);
    assert_eq!(again.job.expect("a job").run, 2, "a repeat starts no third run");
    server.api.complete(&server.api.lease("default").await, json!({})).await;
    assert_eq!(server.api.job("film").await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn stages_that_were_only_skipped_for_others_are_run_again_too() {
    let server = Server::start().await;
    let optional = proto::StageSpec { on_failure: StageOnFailure::Continue.into(), ..new_stage("optional") };
    let after =
        proto::StageSpec { on_failure: StageOnFailure::Continue.into(), ..new_stage_after("after", &["optional"]) };
    server.api.submit(new_job("film", vec![optional, after])).await;
    server.api.fail(&server.api.lease("default").await, failure(FailureClass::ClientError)).await;
    let job = server.api.job("film").await;
    assert_eq!((job.state(), state_of(&job, "after")), (JobState::Succeeded, StageState::Skipped));
    let job = ok(server.api.jobs().retry_job(retry("film", "optional")).await).job.expect("a job");
    assert_eq!((state_of(&job, "optional"), state_of(&job, "after")), (StageState::Ready, StageState::Blocked));
}

#[tokio::test]
async fn a_deleted_job_is_gone_with_its_history_and_its_tokens() {
    let server = Server::start().await;
    server.api.submit(new_job("film", Vec::new())).await;
    let lease = server.api.lease("default").await;
    let delete = || proto::DeleteJobRequest { job_id: "film".into(), ..Default::default() };
    refused(server.api.jobs().delete_job(delete()).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    server.api.complete(&lease, json!({ "a": 1 })).await;
    let last = server.api.job("film").await.version;
    let deleted = ok(server.api.jobs().delete_job(delete()).await);
    assert_eq!((deleted.replayed, deleted.applied_version), (false, last));
    refused(server.api.jobs().delete_job(delete()).await, Code::NotFound, "JOB_NOT_FOUND");
    let events = proto::ListJobEventsRequest { job_id: "film".into(), ..Default::default() };
    refused(server.api.jobs().list_job_events(events).await, Code::NotFound, "JOB_NOT_FOUND");
    let complete = proto::CompleteStageRequest { target: token(&lease), ..Default::default() };
    refused(server.api.workers().complete_stage(complete).await, Code::FailedPrecondition, "LEASE_LOST");

    // Another job of the same name is another job, and no old fencing token comes back.
    server.api.submit(new_job("film", Vec::new())).await;
    let events = server.api.events("film").await;
    assert_eq!(events.len(), 1, "{events:?}");
    let next = server.api.lease("default").await;
    assert!(next.fencing_token > lease.fencing_token);
    let complete = proto::CompleteStageRequest { target: token(&lease), ..Default::default() };
    refused(server.api.workers().complete_stage(complete).await, Code::FailedPrecondition, "LEASE_LOST");
}
