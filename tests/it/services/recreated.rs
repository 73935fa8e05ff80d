//! What is deleted and made again under its id on another server, with as many changes as the one that a server remembers: its version
//! is the same number and says nothing about the new one. What is decided here is decided on what is there now.

use interlock::proto::{self, CommitRequest, JobState, StageState, UpdateStageProgressRequest};
use serde_json::json;
use tonic::{Code, Response, Status};

use crate::harness::*;

const FILM: &str = "film";

async fn two() -> (Server, Server) {
    let a = Server::start().await;
    let b = a.beside().await;
    (a, b)
}

/// Ends and deletes the job, and submits it again with these stages.
async fn recreate(api: &Api, stages: &[&str]) {
    let cancel = proto::CancelJobRequest { job_id: FILM.into(), grace_period: millis(0), ..Default::default() };
    ok(api.jobs().cancel_job(cancel).await);
    resubmit(api, stages).await;
}

async fn resubmit(api: &Api, stages: &[&str]) {
    ok(api.jobs().delete_job(proto::DeleteJobRequest { job_id: FILM.into(), ..Default::default() }).await);
    submit(api, stages).await;
}

async fn submit(api: &Api, stages: &[&str]) {
    api.submit(new_job(FILM, stages.iter().map(|name| new_stage(name)).collect())).await;
}

async fn start(api: &Api, stage_name: &str) -> Result<Response<proto::StartStageResponse>, Status> {
    let stage_ref = Some(proto::StageRef { job_id: FILM.into(), stage_name: stage_name.into() });
    api.workers().start_stage(proto::StartStageRequest { stage_ref, ..Default::default() }).await
}

async fn progress(
    api: &Api,
    stage_name: &str,
    progress: f64,
    expected_version: Option<i64>,
) -> Result<Response<proto::UpdateStageProgressResponse>, Status> {
    let (target, progress) = (Target::named(FILM, stage_name), Some(progress));
    let request = UpdateStageProgressRequest { target, progress, expected_version, ..Default::default() };
    api.workers().update_stage_progress(request).await
}

fn priority(priority: i32, expected_version: Option<i64>) -> proto::UpdateJobRequest {
    let priority = Some(priority);
    proto::UpdateJobRequest { job_id: FILM.into(), priority, expected_version, ..Default::default() }
}

/// A remembers `voice` as half done at version 3; at B it is a job of other stages with which nothing was done but that its
/// priority changed twice.
async fn half_done_here_and_new_there() -> (Server, Server) {
    let (a, b) = two().await;
    submit(&a.api, &["voice", "old"]).await;
    ok(start(&a.api, "voice").await);
    assert_eq!(ok(progress(&a.api, "voice", 0.5, None).await).job_version, 3);
    recreate(&b.api, &["voice", "new"]).await;
    for step in 1..=2 {
        ok(b.api.jobs().update_job(priority(step, None)).await);
    }
    assert_eq!(b.api.job(FILM).await.version, 3);
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn write_after_a_recreation_changes_the_new_job() {
    for expected in [Some(3), None] {
        let (a, b) = half_done_here_and_new_there().await;
        let updated = ok(a.api.jobs().update_job(priority(9, expected)).await);
        assert!(updated.applied);
        let job = b.api.job(FILM).await;
        assert_eq!(updated.job.expect("a job"), job);
        assert_eq!((job.version, job.priority), (4, 9));
        assert_eq!((job.state(), job.progress), (JobState::Pending, 0.0));
        let states: Vec<_> = job.stages.iter().map(|stage| (&*stage.name, stage.state())).collect();
        assert_eq!(states, [("voice", StageState::Ready), ("new", StageState::Ready)]);
        let versions: Vec<i64> = b.api.events(FILM).await.iter().map(|event| event.version).collect();
        assert_eq!(versions.first(), Some(&1), "{versions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_only_the_old_job_had_is_not_found() {
    let (a, b) = half_done_here_and_new_there().await;
    refused(start(&a.api, "old").await, Code::NotFound, "STAGE_NOT_FOUND");
    assert_eq!(b.api.job(FILM).await.version, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_only_the_new_job_has_is_found() {
    let (a, b) = half_done_here_and_new_there().await;
    assert_eq!(ok(start(&a.api, "new").await).job_version, 4);
    let job = b.api.job(FILM).await;
    assert_eq!((state_of(&job, "voice"), state_of(&job, "new")), (StageState::Ready, StageState::Running));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_of_the_old_job_does_not_reach_the_new_one() {
    for expected in [Some(3), None] {
        let (a, b) = two().await;
        submit(&a.api, &["voice", "old"]).await;
        ok(start(&a.api, "voice").await);
        assert_eq!(ok(progress(&a.api, "voice", 0.5, None).await).job_version, 3);
        recreate(&b.api, &["voice"]).await;
        ok(start(&b.api, "voice").await);
        assert_eq!(ok(progress(&b.api, "voice", 0.2, None).await).job_version, 3);
        // Less than the old one had, so for that it would be no change.
        let stage = b.api.stage(FILM, "voice").await;
        let noted = ok(progress(&a.api, "voice", 0.4, expected.map(|_| stage.version)).await);
        assert_eq!((noted.applied, noted.job_version), (true, 4));
        assert_eq!((b.api.job(FILM).await.progress, b.api.stage(FILM, "voice").await.progress), (0.4, 0.4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_of_the_old_job_does_not_delete_the_new_one() {
    for expected in [Some(2), None] {
        let (a, b) = two().await;
        submit(&a.api, &["voice"]).await;
        let cancel = proto::CancelJobRequest { job_id: FILM.into(), ..Default::default() };
        ok(a.api.jobs().cancel_job(cancel).await);
        resubmit(&b.api, &["voice"]).await;
        ok(b.api.jobs().update_job(priority(1, None)).await);
        let expected_version = expected;
        let delete = proto::DeleteJobRequest { job_id: FILM.into(), expected_version, ..Default::default() };
        refused(a.api.jobs().delete_job(delete).await, Code::FailedPrecondition, "INVALID_TRANSITION");
        assert_eq!(b.api.job(FILM).await.version, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_of_the_old_job_is_refused_as_a_fence() {
    let (a, b) = two().await;
    submit(&a.api, &["voice"]).await;
    let lease = a.api.lease("default").await;
    b.api.complete(&lease, json!({})).await;
    resubmit(&b.api, &["voice"]).await;
    ok(b.api.jobs().update_job(priority(1, None)).await);
    assert_eq!(b.api.job(FILM).await.version, lease.job_version);
    let write = proto::commit_operation::Operation::UpdateRecord(update("r", vec![increment("n", 1.0)]));
    let operations = vec![proto::CommitOperation { operation: Some(write) }];
    let fenced = CommitRequest { lease_fence: Some(lease.lease_token.clone()), operations, ..Default::default() };
    refused(a.api.transactions().commit(fenced).await, Code::FailedPrecondition, "LEASE_LOST");
    assert!(a.column("SELECT record_id FROM records").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn write_after_a_recreation_changes_the_new_record() {
    for expected in [Some(1), None] {
        let (a, b) = two().await;
        a.api.update_record("r", vec![set("n", json!(7)), set("old", json!(true))]).await;
        let (collection, record_id) = (COLLECTION.to_owned(), "r".to_owned());
        let delete = proto::DeleteRecordRequest { collection, record_id, ..Default::default() };
        ok(b.api.records().delete_record(delete).await);
        b.api.update_record("r", vec![set("n", json!(1)), set("new", json!(true))]).await;
        let change =
            proto::UpdateRecordRequest { expected_version: expected, ..update("r", vec![increment("n", 1.0)]) };
        assert_eq!(ok(a.api.records().update_record(change).await).applied_version, 2);
        assert_eq!(fields_of(&b.api.record("r").await), json!({ "n": 2, "new": true }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_after_a_recreation_shows_the_new_record() {
    let (a, b) = two().await;
    a.api.update_record("r", vec![set("n", json!(7))]).await;
    let (collection, record_id) = (COLLECTION.to_owned(), "r".to_owned());
    let delete = proto::DeleteRecordRequest { collection, record_id, ..Default::default() };
    ok(b.api.records().delete_record(delete).await);
    b.api.update_record("r", vec![set("n", json!(1))]).await;
    // For the old one it would be no change.
    assert!(a.api.update_record("r", vec![set("n", json!(7))]).await.applied);
    assert_eq!(fields_of(&b.api.record("r").await), json!({ "n": 7 }));
}
