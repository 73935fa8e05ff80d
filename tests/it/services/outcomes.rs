//! StartStage, UpdateStageProgress, CompleteStage, FailStage, ReleaseStage: by token and by name, once and again.

use interlock::proto::{self, FailureClass, JobState, StageDependsWhen, StageOnFailure, StageSpec, StageState};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn start(stage_name: &str) -> proto::StartStageRequest {
    let stage_ref = Some(proto::StageRef { job_id: "film".into(), stage_name: stage_name.to_owned() });
    proto::StartStageRequest { stage_ref, worker_id: "me".into(), ..Default::default() }
}

#[tokio::test]
async fn an_orchestrator_runs_its_stages_by_name() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("a"), new_stage("b"), new_stage("c"), new_stage("d")])).await;
    let workers = || server.api.workers();
    let response = ok(workers().start_stage(start("a")).await);
    let stage = response.stage.expect("a stage");
    assert_eq!((stage.state(), stage.attempt, &stage.lease), (StageState::Running, 1, &None));
    assert_eq!((&response.lease, response.replayed), (&None, false));
    assert_eq!(server.api.job("film").await.state(), JobState::Running);
    let again = workers().start_stage(start("a")).await;
    refused(again, Code::FailedPrecondition, "INVALID_TRANSITION");

    // A write to a ready stage starts it.
    let progress = |name: &str, progress| proto::UpdateStageProgressRequest {
        target: Target::named("film", name),
        progress: Some(progress),
        message: Some("half".into()),
        ..Default::default()
    };
    let stage = ok(workers().update_stage_progress(progress("b", 0.5)).await).stage.expect("a stage");
    assert_eq!((stage.state(), stage.attempt, stage.progress, &*stage.message), (StageState::Running, 1, 0.5, "half"));
    assert_eq!(server.api.lease_now("default", 10).await.len(), 2, "c and d are still to be had");
    // And what a worker holds cannot be written by name.
    refused(workers().update_stage_progress(progress("c", 0.5)).await, Code::FailedPrecondition, "INVALID_TRANSITION");

    let complete = |name: &str| proto::CompleteStageRequest {
        target: Target::named("film", name),
        artifacts: struct_of(json!({ "of": name })),
        request_id: request_id(),
        ..Default::default()
    };
    let request = complete("b");
    let stage = ok(workers().complete_stage(request.clone()).await).stage.expect("a stage");
    assert_eq!((stage.state(), &stage.artifacts), (StageState::Succeeded, &struct_of(json!({ "of": "b" }))));
    assert!(ok(workers().complete_stage(request).await).replayed);
    refused(workers().complete_stage(complete("b")).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    let fail = proto::FailStageRequest {
        target: Target::named("film", "a"),
        failure: Some(failure(FailureClass::ClientError)),
        ..Default::default()
    };
    assert_eq!(ok(workers().fail_stage(fail).await).stage.expect("a stage").state(), StageState::Failed);
}

#[tokio::test]
async fn a_stage_can_be_completed_by_name_in_one_step() {
    let server = Server::start().await;
    let direct = StageSpec { direct: true, ..new_stage("mine") };
    server.api.submit(new_job("film", vec![direct])).await;
    let complete = proto::CompleteStageRequest {
        target: Target::named("film", "mine"),
        job_result: struct_of(json!({ "mp4": "s3://film" })),
        message: Some("done".into()),
        ..Default::default()
    };
    let response = ok(server.api.workers().complete_stage(complete).await);
    assert_eq!((response.applied_job_version, response.job_version), (2, 2), "one operation, one version");
    let job = server.api.job("film").await;
    assert_eq!((job.state(), job.result), (JobState::Succeeded, struct_of(json!({ "mp4": "s3://film" }))));
    assert_eq!((job.stages[0].attempt, &*job.stages[0].message), (1, "done"));
}

#[tokio::test]
async fn a_stage_started_by_name_can_be_leased_too() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("a")])).await;
    let request = proto::StartStageRequest { lease_duration: seconds(1), request_id: request_id(), ..start("a") };
    let first = ok(server.api.workers().start_stage(request.clone()).await);
    let lease = first.lease.expect("a lease");
    assert_eq!((&*lease.stage_name, lease.attempt, lease.fencing_token), ("a", 1, 1));
    let again = ok(server.api.workers().start_stage(request.clone()).await);
    assert_eq!((again.replayed, again.applied_job_version), (true, first.applied_job_version));
    assert_eq!(again.lease.map(|lease| lease.lease_token), Some(lease.lease_token.clone()), "the lease got lost once");
    // It expires like any other; then the repeat has no lease to give.
    server.api.job_where("film", "the reaper", |job| state_of(job, "a") == StageState::Ready).await;
    let again = ok(server.api.workers().start_stage(request).await);
    assert_eq!((again.replayed, again.lease), (true, None));
    server.api.complete(&lease, json!({})).await;
}

#[tokio::test]
async fn a_completion_is_replayed_by_token_and_content() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("a"), new_stage("b")])).await;
    let lease = server.api.lease("default").await;
    let first = server.api.complete(&lease, json!({ "x": 1, "y": [1, 2] })).await;
    assert!(first.applied && !first.replayed);
    let before = server.api.job("film").await;
    let again = server.api.complete(&lease, json!({ "y": [1, 2], "x": 1 })).await;
    assert_eq!((again.replayed, again.applied_job_version), (true, first.applied_job_version));
    let other = proto::CompleteStageRequest {
        target: token(&lease),
        artifacts: struct_of(json!({ "x": 2 })),
        ..Default::default()
    };
    let received =
        refused(server.api.workers().complete_stage(other).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    assert_eq!(received.metadata["state"], "SUCCEEDED");
    let fail = proto::FailStageRequest { target: token(&lease), ..Default::default() };
    refused(server.api.workers().fail_stage(fail).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    assert_eq!(server.api.job("film").await, before);
}

#[tokio::test]
async fn a_failure_repeats_only_where_the_stage_has_ended() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage_with_attempts("a", 2)])).await;
    let first = server.api.lease("default").await;
    server.api.fail(&first, failure(FailureClass::Network)).await;
    let again = proto::FailStageRequest {
        target: token(&first),
        failure: Some(failure(FailureClass::Network)),
        ..Default::default()
    };
    refused(server.api.workers().fail_stage(again).await, Code::FailedPrecondition, "LEASE_LOST");
    let second = server.api.lease("default").await;
    let ended = server.api.fail(&second, failure(FailureClass::Network)).await;
    let again = server.api.fail(&second, failure(FailureClass::Network)).await;
    assert_eq!((again.replayed, again.applied_job_version), (true, ended.applied_job_version));
    assert_eq!(server.api.job("film").await.state(), JobState::Failed);
}

#[tokio::test]
async fn a_released_stage_is_ready_at_once_and_its_attempt_not_counted() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage_with_attempts("a", 1)])).await;
    let first = server.api.lease("default").await;
    server.api.progress(&first, 0.6).await;
    let release = proto::ReleaseStageRequest { target: token(&first), ..Default::default() };
    let stage = ok(server.api.workers().release_stage(release.clone()).await).stage.expect("a stage");
    assert_eq!((stage.state(), stage.attempt, &stage.failure), (StageState::Ready, 0, &None));
    refused(server.api.workers().release_stage(release).await, Code::FailedPrecondition, "LEASE_LOST");
    let second = server.api.lease("default").await;
    assert_eq!((second.attempt, second.fencing_token), (1, 2));
    assert_eq!(server.api.stage("film", "a").await.progress, 0.0);
    let job = server.api.job("film").await;
    assert!((job.progress - 0.6).abs() < 1e-9, "the job's never decreases: {}", job.progress);
}

#[tokio::test]
async fn failures_follow_the_arrows() {
    let server = Server::start().await;
    let on = |stage: StageSpec| StageSpec { on_failure: StageOnFailure::Continue.into(), ..stage };
    let stages = vec![
        on(new_stage("optional")),
        on(new_stage_after("follows", &["optional"])),
        StageSpec {
            depends_when: StageDependsWhen::AllFinished.into(),
            ..new_stage_after("cleanup", &["optional", "follows"])
        },
    ];
    server.api.submit(new_job("film", stages)).await;
    let lease = server.api.lease("default").await;
    server.api.fail(&lease, failure(FailureClass::ClientError)).await;
    let job = server.api.job("film").await;
    assert_eq!((job.state(), &job.failure), (JobState::Running, &None));
    use StageState::{Failed, Ready, Skipped};
    assert_eq!(["optional", "follows", "cleanup"].map(|name| state_of(&job, name)), [Failed, Skipped, Ready]);
    let cleanup = server.api.lease("default").await;
    assert_eq!(cleanup.dependencies.len(), 2);
    server.api.complete(&cleanup, json!({})).await;
    let job = server.api.job("film").await;
    assert_eq!((job.state(), job.progress), (JobState::Succeeded, 1.0));
    let counts = job.stage_counts.expect("counts");
    assert_eq!((counts.failed, counts.skipped, counts.succeeded), (1, 1, 1));
}

#[tokio::test]
async fn a_skipped_stage_that_the_job_needs_fails_it() {
    let server = Server::start().await;
    let optional = StageSpec { on_failure: StageOnFailure::Continue.into(), ..new_stage("optional") };
    server.api.submit(new_job("film", vec![optional, new_stage_after("render", &["optional"])])).await;
    server.api.fail(&server.api.lease("default").await, failure(FailureClass::ClientError)).await;
    let job = server.api.job("film").await;
    assert_eq!((job.state(), state_of(&job, "render")), (JobState::Failed, StageState::Skipped));
    assert!(job.failure.is_some());
}

#[tokio::test]
async fn failing_job_cancels_its_running_stages_and_waits_for_them() {
    let server = Server::start().await;
    server.api.submit(new_job("film", ["a", "b", "c"].map(new_stage).to_vec())).await;
    let leases = server.api.lease_now("default", 2).await;
    server.api.fail(&leases[0], failure(FailureClass::ClientError)).await;
    let job = server.api.job("film").await;
    assert!(job.failure.is_some() && job.cancel_deadline_time.is_some() && job.end_time.is_none());
    assert_eq!(state_of(&job, "c"), StageState::Skipped, "nothing more is started");
    assert_eq!(server.api.renew_lease(&leases[1], None).await.directive(), proto::LeaseDirective::Cancel);
    server.api.complete(&leases[1], json!({ "kept": 1 })).await;
    let job = server.api.job("film").await;
    assert_eq!((job.state(), state_of(&job, &leases[1].stage_name)), (JobState::Failed, StageState::Succeeded));
    assert!(job.progress < 1.0, "a failed job keeps its last: {}", job.progress);
}
