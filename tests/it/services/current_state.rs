//! `return_current`: a refused compare-and-set brings along what was compared, so that a retry needs no read.

use interlock::proto::{self, CurrentState, current_state::State};
use prost::Message;
use serde_json::json;
use tonic::{Code, Response, Status};
use tonic_types::pb;

use crate::harness::*;

/// The detail of a status. None: it has no such detail.
fn detail(details: &[u8]) -> Option<CurrentState> {
    let status = pb::Status::decode(details).expect("a status");
    let of_ours = status.details.iter().find(|any| any.type_url.ends_with("/interlock.v1.CurrentState"))?;
    Some(CurrentState::decode(&*of_ours.value).expect("a state"))
}

/// The state that a refusal by version shows. None: none that fits.
#[track_caller]
fn current<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> Option<State> {
    let status = answer.as_ref().err().cloned().expect("a refusal");
    refused(answer, Code::Aborted, "VERSION_MISMATCH");
    detail(status.details()).expect("a detail").state
}

fn expecting(version: i64, id: &str) -> proto::UpdateRecordRequest {
    proto::UpdateRecordRequest {
        expected_version: Some(version),
        return_current: true,
        ..update(id, vec![increment("n", 1.0)])
    }
}

#[tokio::test]
async fn refused_updates_of_records_show_the_record() {
    let server = Server::start().await;
    let api = &server.api;
    api.update_record("r", vec![set("n", json!(1))]).await;
    api.update_record("r", vec![set("n", json!(2))]).await;
    let stored = api.record("r").await;
    let state = current(api.records().update_record(expecting(1, "r")).await);
    assert_eq!(state, Some(State::Record(stored.clone())));
    // The retry begins from what was shown.
    let Some(State::Record(shown)) = state else { panic!("a record") };
    let done = ok(api.records().update_record(expecting(shown.version, "r")).await);
    assert_eq!(fields_of(&done.record.expect("the record")), json!({ "n": 3 }));

    let stored = api.record("r").await;
    let deletion = proto::DeleteRecordRequest { expected_version: Some(1), return_current: true, ..deletion("r") };
    assert_eq!(current(api.records().delete_record(deletion.clone()).await), Some(State::Record(stored.clone())));
    let mut by_field = proto::UpdateRecordRequest { expected_version: None, ..expecting(0, "r") };
    by_field.operations[0].expected_field_version = Some(1);
    assert_eq!(current(api.records().update_record(by_field).await), Some(State::Record(stored.clone())));
    let request = proto::BatchUpdateRecordsRequest {
        updates: vec![expecting(0, "new"), expecting(1, "r")],
        ..Default::default()
    };
    let mut request = request;
    request.updates[0].allow_missing = true;
    assert_eq!(current(api.records().batch_update_records(request).await), Some(State::Record(stored.clone())));
    let request = proto::BatchWriteRecordsRequest { updates: vec![expecting(1, "r")] };
    let written = ok(api.records().batch_write_records(request).await);
    let status = written.results[0].status.as_ref().expect("a status");
    assert_eq!(
        detail(&status.encode_to_vec()).and_then(|received| received.state),
        Some(State::Record(stored.clone()))
    );
    let operation = proto::commit_operation::Operation::DeleteRecord(deletion);
    let commit = proto::CommitRequest {
        operations: vec![proto::CommitOperation { operation: Some(operation) }],
        ..Default::default()
    };
    assert_eq!(current(api.transactions().commit(commit).await), Some(State::Record(stored)));

    // Not asked for, or larger than an error may be: nothing is shown.
    let unasked = proto::UpdateRecordRequest { return_current: false, ..expecting(1, "r") };
    let status = api.records().update_record(unasked).await.expect_err("the version differs");
    assert_eq!(detail(status.details()), None);
    api.update_record("large", vec![set("text", json!("x".repeat(4_000)))]).await;
    assert_eq!(current(api.records().update_record(expecting(7, "large")).await), None);
}

#[tokio::test]
async fn refused_writes_of_jobs_and_stages_show_them() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", vec![new_stage("s")])).await;
    let pause = proto::PauseJobRequest {
        job_id: "film".into(),
        expected_version: Some(7),
        return_current: true,
        ..Default::default()
    };
    let Some(State::Job(job)) = current(api.jobs().pause_job(pause).await) else { panic!("a job") };
    assert_eq!((&*job.job_id, job.version, job.stages.len()), ("film", api.job("film").await.version, 0));
    let lease = api.lease("default").await;
    let complete = proto::CompleteStageRequest {
        target: token(&lease),
        expected_version: Some(7),
        return_current: true,
        ..Default::default()
    };
    let Some(State::Stage(stage)) = current(api.workers().complete_stage(complete).await) else { panic!("a stage") };
    assert_eq!((&*stage.name, stage.version), ("s", api.stage("film", "s").await.version));
    let delete = proto::DeleteJobRequest {
        job_id: "film".into(),
        expected_version: Some(1_000),
        return_current: true,
        ..Default::default()
    };
    assert!(matches!(current(api.jobs().delete_job(delete).await), Some(State::Job(_))));
}

/// Compare-and-set loops on one key: each try begins from what the refusal before it showed, and none reads.
#[tokio::test]
async fn loops_over_one_record_need_no_read() {
    let server = Server::start().await;
    server.api.update_record("r", vec![set("n", json!(0))]).await;
    let one = async || {
        let mut version = 1;
        loop {
            match server.api.records().update_record(expecting(version, "r")).await {
                Ok(_) => return,
                answer => match current(answer) {
                    Some(State::Record(shown)) => version = shown.version,
                    other => panic!("a record: {other:?}"),
                },
            }
        }
    };
    futures::future::join_all((0..20).map(|_| one())).await;
    assert_eq!(fields_of(&server.api.record("r").await), json!({ "n": 20 }));
}
