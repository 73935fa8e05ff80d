//! Commit: operations of all services as one, and only for who holds the lease.

use interlock::proto::commit_operation::Operation;
use interlock::proto::{self, CommitOperation, CommitRequest, FailureClass, JobState, StageState, UpdateJobRequest};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn part(operation: Operation) -> CommitOperation {
    CommitOperation { operation: Some(operation) }
}

fn completion(lease: &proto::Lease) -> CommitOperation {
    let artifacts = struct_of(json!({ "by": lease.stage_name }));
    part(Operation::CompleteStage(proto::CompleteStageRequest {
        target: token(lease),
        artifacts,
        ..Default::default()
    }))
}

fn writing(record_id: &str, by: f64) -> CommitOperation {
    part(Operation::UpdateRecord(update(record_id, vec![increment("n", by)])))
}

fn submission(job_id: &str) -> CommitOperation {
    part(Operation::SubmitJob(new_job(job_id, vec![new_stage("s")])))
}

fn commit(operations: Vec<CommitOperation>) -> CommitRequest {
    CommitRequest { operations, ..Default::default() }
}

fn fenced(lease: &proto::Lease, operations: Vec<CommitOperation>) -> CommitRequest {
    CommitRequest { lease_fence: Some(lease.lease_token.clone()), ..commit(operations) }
}

async fn jobs(api: &Api) -> usize {
    ok(api.jobs().list_jobs(proto::ListJobsRequest { page_size: 100, ..Default::default() }).await).jobs.len()
}

#[tokio::test]
async fn commit_applies_all_operations_or_none() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", vec![new_stage("voice"), new_stage_after("render", &["voice"])])).await;
    let lease = api.lease("default").await;
    let fields = (0..5).map(|i| set(&format!("url{i}"), json!(format!("s3://{i}")))).collect();
    let record = part(Operation::UpdateRecord(update("film", fields)));
    let request = CommitRequest {
        request_id: request_id(),
        ..fenced(&lease, vec![completion(&lease), record, submission("next"), writing("film", 2.0)])
    };
    let done = ok(api.transactions().commit(request.clone()).await);
    let received: Vec<(bool, i64)> =
        done.results.iter().map(|result| (result.applied, result.applied_version)).collect();
    assert_eq!(received, [(true, 3), (true, 1), (true, 1), (true, 2)]);
    assert_eq!(done.results[0].stage.as_ref().expect("a stage").state(), StageState::Succeeded);
    assert_eq!(done.results[2].job.as_ref().expect("a job").job_id, "next");
    let record = api.record("film").await;
    assert_eq!((record.fields.len(), done.results[3].record.as_ref()), (6, Some(&record)));
    assert_eq!(state_of(&api.job("film").await, "render"), StageState::Ready);
    assert_eq!(api.job("next").await.state(), JobState::Pending);

    api.update_record("film", vec![increment("n", 1.0)]).await;
    let again = ok(api.transactions().commit(request.clone()).await);
    assert!(again.replayed);
    let received_again: Vec<(bool, i64)> = again.results.iter().map(|r| (r.applied, r.applied_version)).collect();
    assert_eq!(received_again, received);
    assert_eq!(again.results[3].record, Some(api.record("film").await));
    assert_eq!(again.results[0].stage.as_ref().expect("a stage").name, "voice");
    // Without the id, the ended stage shows that it is a repeat.
    for repeat in [CommitRequest { request_id: None, ..request.clone() }, commit(request.operations)] {
        refused(api.transactions().commit(repeat).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    }
    assert_eq!(fields_of(&api.record("film").await)["n"], json!(3));
}

#[tokio::test]
async fn a_refusal_names_the_operation_and_undoes_the_others() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", vec![new_stage("voice")])).await;
    let lease = api.lease("default").await;
    api.update_record("text", vec![set("n", json!("a"))]).await;
    let before = api.job("film").await;
    for (bad, code, reason, path) in [
        (writing("text", 1.0), Code::FailedPrecondition, "WRONG_TYPE", "operations[3].update_record.operations[0]"),
        (submission("film"), Code::AlreadyExists, "JOB_ALREADY_EXISTS", "operations[3].submit_job"),
        (submission("next"), Code::AlreadyExists, "JOB_ALREADY_EXISTS", "operations[3].submit_job"),
        (writing("", 1.0), Code::InvalidArgument, "INVALID_FIELD", "operations[3].update_record.record_id"),
        (completion(&lease), Code::FailedPrecondition, "INVALID_TRANSITION", "operations[3].complete_stage"),
    ] {
        let all = vec![completion(&lease), writing("film", 1.0), submission("next"), bad];
        let received = refused(api.transactions().commit(fenced(&lease, all)).await, code, reason);
        assert_eq!((&*received.metadata["path"], &*received.metadata["index"]), (path, "3"));
        assert!(received.field.is_none_or(|field| field == path));
    }
    assert_eq!(api.job("film").await, before);
    assert_eq!((jobs(api).await, server.column("SELECT record_id FROM records").await), (1, texts(&["text"])));
}

#[tokio::test]
async fn commit_under_a_lost_lease_is_refused() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", vec![new_stage_with_attempts("voice", 3)])).await;
    let lost = api.lease("default").await;
    api.fail(&lost, failure(FailureClass::ServerError)).await;
    let newer = api.lease("default").await;
    // By the fence alone, and by a completion alone.
    for request in [
        fenced(&lost, vec![writing("film", 1.0)]),
        commit(vec![writing("film", 1.0), completion(&lost)]),
        fenced(&lost, vec![writing("film", 1.0), completion(&newer)]),
    ] {
        refused(api.transactions().commit(request).await, Code::FailedPrecondition, "LEASE_LOST");
    }
    assert!(server.column("SELECT record_id FROM records").await.is_empty());
    ok(api.transactions().commit(fenced(&newer, vec![writing("film", 1.0)])).await);
    // A job that is gone is a lost lease, too.
    let gone = proto::Lease { lease_token: lost.lease_token.replace(&lost.lease_token[..4], "AAAA"), ..lost };
    let request = fenced(&gone, vec![writing("film", 1.0)]);
    refused(api.transactions().commit(request).await, Code::FailedPrecondition, "LEASE_LOST");
    assert_eq!(fields_of(&api.record("film").await), json!({ "n": 1 }));
}

/// Another server takes the stage away; this one has the old lease in its memory.
#[tokio::test]
async fn a_fence_holds_against_other_servers() {
    let server = Server::start().await;
    let other = server.beside().await;
    let (api, elsewhere) = (&server.api, &other.api);
    for i in 0..10 {
        let job_id = format!("film{i}");
        api.submit(new_job(&job_id, vec![new_stage_with_attempts("voice", 3)])).await;
        let lease = api.lease("default").await;
        // It remembers the job as it is now.
        ok(api.transactions().commit(fenced(&lease, vec![writing(&job_id, 1.0)])).await);
        elsewhere.fail(&lease, failure(FailureClass::ServerError)).await;
        let late = api.transactions().commit(fenced(&lease, vec![writing(&job_id, 1.0)])).await;
        refused(late, Code::FailedPrecondition, "LEASE_LOST");
        assert_eq!(fields_of(&api.record(&job_id).await), json!({ "n": 1 }));
        let newer = elsewhere.lease("default").await;
        elsewhere.complete(&newer, json!({})).await;
    }
}

#[tokio::test]
async fn commit_takes_every_kind_of_operation() {
    let server = Server::start().await;
    let api = &server.api;
    let stages = ["a", "b", "c"].map(|name| new_stage_with_attempts(name, 3)).to_vec();
    api.submit(new_job("film", stages)).await;
    api.submit(new_job("other", vec![new_stage("s")])).await;
    let leases = api.lease_now("default", 3).await;
    let job_id = || "film".to_owned();
    let operations = vec![
        part(Operation::UpdateStageProgress(proto::UpdateStageProgressRequest {
            target: token(&leases[0]),
            progress: Some(0.5),
            ..Default::default()
        })),
        part(Operation::AddStages(proto::AddStagesRequest {
            target: token(&leases[0]),
            stages: vec![new_stage("d")],
            ..Default::default()
        })),
        part(Operation::FailStage(proto::FailStageRequest {
            target: token(&leases[1]),
            failure: Some(failure(FailureClass::ServerError)),
            ..Default::default()
        })),
        part(Operation::ReleaseStage(proto::ReleaseStageRequest { target: token(&leases[2]), ..Default::default() })),
        part(Operation::UpdateJob(UpdateJobRequest {
            job_id: job_id(),
            priority: Some(5),
            context_operations: vec![set("k", json!(1))],
            ..Default::default()
        })),
        part(Operation::PauseJob(proto::PauseJobRequest { job_id: job_id(), ..Default::default() })),
        part(Operation::ResumeJob(proto::ResumeJobRequest { job_id: job_id(), ..Default::default() })),
        part(Operation::CancelJob(proto::CancelJobRequest { job_id: "other".into(), ..Default::default() })),
        part(Operation::RetryJob(proto::RetryJobRequest { job_id: "other".into(), ..Default::default() })),
        writing("x", 1.0),
        part(Operation::DeleteRecord(deletion("x"))),
        writing("x", 5.0),
    ];
    let done = ok(api.transactions().commit(commit(operations)).await).results;
    assert!(done.iter().all(|result| result.applied), "{done:?}");
    let film = api.job("film").await;
    assert_eq!((film.priority, film.context.clone()), (5, struct_of(json!({ "k": 1 }))));
    assert_eq!((state_of(&film, "b"), state_of(&film, "d")), (StageState::Ready, StageState::Ready));
    assert_eq!((api.job("other").await.run, film.version), (2, 2 + 7));
    let record = api.record("x").await;
    assert_eq!((record.version, fields_of(&record)), (1, json!({ "n": 5 })));
    let versions: Vec<i64> = api.events("film").await.iter().map(|event| event.version).collect();
    assert_eq!(versions.last(), Some(&film.version));
}

#[tokio::test]
async fn a_job_that_is_new_can_end_or_be_paused_in_the_same_commit() {
    let server = Server::start().await;
    let api = &server.api;
    let end = part(Operation::CompleteStage(proto::CompleteStageRequest {
        target: Target::named("done", "s"),
        job_result: struct_of(json!({ "frames": 7 })),
        ..Default::default()
    }));
    let new = |job_id: &str| {
        let payload = struct_of(json!({ "title": "Rain" }));
        let timeout = seconds(3_600);
        part(Operation::SubmitJob(proto::SubmitJobRequest {
            payload,
            timeout,
            ..new_job(job_id, vec![new_stage("s")])
        }))
    };
    ok(api.transactions().commit(commit(vec![new("done"), end])).await);
    let job = api.job("done").await;
    assert_eq!((job.state(), job.result), (JobState::Succeeded, struct_of(json!({ "frames": 7 }))));
    assert_eq!(job.payload, struct_of(json!({ "title": "Rain" })));

    // What is left of the timeout is stored with a job that is paused from the first: a server that reads it later goes on with it.
    let pause = part(Operation::PauseJob(proto::PauseJobRequest { job_id: "waits".to_owned(), ..Default::default() }));
    ok(api.transactions().commit(commit(vec![new("waits"), pause])).await);
    let left = "SELECT round(timeout_left_us / 6e7)::text FROM jobs WHERE job_id = 'waits'";
    assert_eq!(server.column(left).await, ["60"]);
    let other = server.beside().await;
    let resume = proto::ResumeJobRequest { job_id: "waits".to_owned(), ..Default::default() };
    ok(other.api.jobs().resume_job(resume).await);
    let ends = "SELECT round(extract(epoch FROM times_out_at - now()) / 60)::text FROM jobs WHERE job_id = 'waits'";
    assert_eq!(server.column(ends).await, ["60"]);
}
