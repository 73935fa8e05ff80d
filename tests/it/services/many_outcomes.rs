//! CompleteStages: the ends of many attempts in one call, each on its own or all or none.

use interlock::proto::stage_outcome::Outcome;
use interlock::proto::{self, CompleteStagesRequest, FailureClass, JobState, StageOutcomeResult, StageState};
use prost::Message;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::*;

/// The code and the reason of a result, and the field that it names.
fn status_of(result: &StageOutcomeResult) -> (Code, String, Option<String>) {
    let status = result.status.as_ref().expect("each result has a status");
    let received =
        tonic::Status::with_details(Code::from(status.code), &*status.message, status.encode_to_vec().into());
    let details = received.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let violation = details.bad_request().and_then(|bad| bad.field_violations.first());
    (received.code(), reason, violation.map(|violation| violation.field.clone()))
}

fn refusal(code: Code, reason: &str) -> (Code, String, Option<String>) {
    (code, reason.to_owned(), None)
}

fn fine() -> (Code, String, Option<String>) {
    refusal(Code::Ok, "")
}

async fn queue_of(server: &Server, stages: usize) -> Vec<proto::Lease> {
    let specs = (0..stages).map(|i| new_stage_with_attempts(&format!("s{i}"), 2)).collect();
    server.api.submit(new_job("film", specs)).await;
    let leases = server.api.lease_now("default", 100).await;
    assert_eq!(leases.len(), stages);
    leases
}

#[tokio::test]
async fn each_outcome_has_a_result_of_its_own() {
    let server = Server::start().await;
    let leases = queue_of(&server, 6).await;
    server.api.complete(&leases[4], json!({})).await;
    let invalid = proto::CompleteStageRequest {
        target: token(&leases[3]),
        message: Some("x".repeat(2_000)),
        ..Default::default()
    };
    let outcomes = vec![
        completed(&leases[0]),
        failed(&leases[1], failure(FailureClass::Network)),
        released(&leases[2]),
        outcome(Outcome::CompleteStage(invalid)),
        failed(&leases[4], failure(FailureClass::Network)),
        completed(&leases[0]),
        proto::StageOutcome::default(),
    ];
    let request = CompleteStagesRequest { outcomes, return_stages: true, ..Default::default() };
    let done = ok(server.api.workers().complete_stages(request).await);
    let statuses: Vec<_> = done.results.iter().map(status_of).collect();
    let field = |path: &str| (Code::InvalidArgument, "INVALID_FIELD".to_owned(), Some(path.to_owned()));
    let ended = refusal(Code::FailedPrecondition, "INVALID_TRANSITION");
    assert_eq!(statuses, [fine(), fine(), fine(), field("message"), ended, fine(), field("outcome")]);
    let states: Vec<_> = done.results.iter().map(|result| result.stage.as_ref().map(proto::Stage::state)).collect();
    let (succeeded, ready) = (Some(StageState::Succeeded), Some(StageState::Ready));
    assert_eq!(states, [succeeded, ready, ready, None, None, succeeded, None]);
    let repeats: Vec<_> = done.results.iter().map(|result| (result.applied, result.replayed)).collect();
    let (new, none) = ((true, false), (false, false));
    assert_eq!(repeats, [new, new, new, none, none, (true, true), none]);
    assert_eq!(done.results[5].applied_job_version, done.results[0].applied_job_version);
    let job = server.api.job("film").await;
    assert_eq!(state_of(&job, "s3"), StageState::Running, "the refused one is still held");
    assert_eq!(state_of(&job, "s5"), StageState::Running, "and so is the one without an outcome");
}

#[tokio::test]
async fn outcomes_of_many_jobs_are_committed_in_few_groups() {
    let server = Server::start().await;
    let jobs: Vec<_> = (0..100).map(|i| new_job(&format!("job-{i}"), vec![new_stage("only")])).collect();
    ok(server.api.jobs().batch_submit_jobs(proto::BatchSubmitJobsRequest { jobs, ..Default::default() }).await);
    let leases = server.api.lease_now("default", 100).await;
    let before = server.api.statistics().await.writer.expect("a writer").groups;
    let request = CompleteStagesRequest { outcomes: leases.iter().map(completed).collect(), ..Default::default() };
    let done = ok(server.api.workers().complete_stages(request.clone()).await);
    let after = server.api.statistics().await.writer.expect("a writer").groups;
    assert!(after - before <= 5, "{} groups", after - before);
    assert!(done.results.iter().all(|result| status_of(result) == fine() && result.applied && result.stage.is_none()));
    let jobs = ok(server.api.jobs().list_jobs(proto::ListJobsRequest::default()).await).jobs;
    assert!(jobs.iter().all(|job| job.state() == JobState::Succeeded));
    // By token the repeat is a replay.
    let again = ok(server.api.workers().complete_stages(request).await);
    assert!(again.results.iter().all(|result| status_of(result) == fine() && result.replayed && result.applied));
}

#[tokio::test]
async fn all_or_none_is_one_commit_and_its_repeat_is_answered() {
    let server = Server::start().await;
    let leases = queue_of(&server, 3).await;
    server.api.complete(&leases[2], json!({})).await;
    let all = |outcomes| CompleteStagesRequest { outcomes, all_or_none: true, ..Default::default() };
    let with_refused = all(vec![completed(&leases[0]), released(&leases[2]), completed(&leases[1])]);
    let before = server.api.job("film").await;
    let received = server.api.workers().complete_stages(with_refused).await;
    let received = refused(received, Code::FailedPrecondition, "INVALID_TRANSITION");
    assert_eq!(received.metadata["index"], "1");
    assert_eq!(server.api.job("film").await, before, "nothing was done");

    let failing = failed(&leases[1], failure(FailureClass::ClientError));
    let outcomes = vec![completed(&leases[0]), failing];
    let request = CompleteStagesRequest { request_id: request_id(), return_stages: true, ..all(outcomes.clone()) };
    let first = ok(server.api.workers().complete_stages(request.clone()).await);
    assert!(!first.replayed);
    let versions: Vec<_> = first.results.iter().map(|result| (result.applied, result.applied_job_version)).collect();
    assert_eq!(versions, [(true, before.version + 1), (true, before.version + 2)]);
    let again = ok(server.api.workers().complete_stages(request.clone()).await);
    assert!(again.replayed && again.results.iter().all(|result| result.replayed));
    let again: Vec<_> = again.results.iter().map(|result| (result.applied, result.applied_job_version)).collect();
    assert_eq!(again, versions);
    let states: Vec<_> = first.results.iter().filter_map(|result| result.stage.as_ref()).map(|s| s.state()).collect();
    assert_eq!(states, [StageState::Succeeded, StageState::Failed]);
    let other = CompleteStagesRequest { outcomes: vec![completed(&leases[0])], ..request };
    refused(server.api.workers().complete_stages(other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    let received = server.api.workers().complete_stages(all(outcomes)).await;
    refused(received, Code::FailedPrecondition, "INVALID_TRANSITION");
}

#[tokio::test]
async fn an_outcome_with_a_request_id_is_replayed() {
    let server = Server::start().await;
    let leases = queue_of(&server, 2).await;
    let with_id = |lease: &proto::Lease| {
        outcome(Outcome::ReleaseStage(proto::ReleaseStageRequest {
            target: token(lease),
            request_id: request_id(),
            ..Default::default()
        }))
    };
    let outcomes = vec![with_id(&leases[0]), released(&leases[1])];
    let request = CompleteStagesRequest { outcomes, ..Default::default() };
    ok(server.api.workers().complete_stages(request.clone()).await);
    let again = ok(server.api.workers().complete_stages(request).await).results;
    assert_eq!(status_of(&again[0]), fine());
    assert!(again[0].replayed && again[0].applied && again[0].applied_job_version > 0);
    assert_eq!(status_of(&again[1]), refusal(Code::FailedPrecondition, "LEASE_LOST"));
}
