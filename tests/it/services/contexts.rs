//! The context of a job: fields that change by the same operations as those of a record, under the job's versions.

use interlock::proto::{DeleteJobRequest, FieldOperation, UpdateJobRequest};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn change(job_id: &str, context_operations: Vec<FieldOperation>) -> UpdateJobRequest {
    UpdateJobRequest { job_id: job_id.to_owned(), context_operations, ..Default::default() }
}

#[tokio::test]
async fn a_context_changes_under_the_versions_of_its_job() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", vec![new_stage("voice")])).await;
    assert_eq!(api.job("film").await.context, None);
    let update = change("film", vec![set("script", json!("Rain")), increment("drafts", 1.0)]);
    let first = ok(api.jobs().update_job(update).await);
    assert_eq!((first.applied, first.applied_version), (true, 2));
    let lease = api.lease("default").await;
    let both = UpdateJobRequest { priority: Some(7), ..change("film", vec![increment("drafts", 1.0)]) };
    let job = ok(api.jobs().update_job(both).await).job.expect("the job");
    assert_eq!((job.version, job.priority), (4, 7));
    assert_eq!(job.context, struct_of(json!({ "script": "Rain", "drafts": 2 })));
    assert_eq!(job.context_versions.values().copied().collect::<Vec<_>>(), [4, 2]);
    let same = ok(api.jobs().update_job(change("film", vec![set("script", json!("Rain")), unset("none")])).await);
    assert_eq!((same.applied, same.job.expect("the job").version), (false, 4));

    let mut stale = set("drafts", json!(0));
    stale.expected_field_version = Some(2);
    let received = api.jobs().update_job(UpdateJobRequest { priority: Some(1), ..change("film", vec![stale]) }).await;
    let received = refused(received, Code::Aborted, "VERSION_MISMATCH");
    assert_eq!((received.field.as_deref(), &*received.metadata["actual"]), (Some("context_operations[0]"), "4"));
    let wrong = api.jobs().update_job(change("film", vec![increment("script", 1.0)])).await;
    refused(wrong, Code::FailedPrecondition, "WRONG_TYPE");
    let text = json!("x".repeat(40_000));
    let large = api.jobs().update_job(change("film", vec![set("a", text.clone()), set("b", text)])).await;
    refused(large, Code::FailedPrecondition, "LIMIT_EXCEEDED");
    assert_eq!(api.job("film").await, job);

    // It goes with its job, and a new job of the same id has none.
    api.complete(&lease, json!({})).await;
    ok(api.jobs().delete_job(DeleteJobRequest { job_id: "film".into(), ..Default::default() }).await);
    assert!(server.column("SELECT record_id FROM records").await.is_empty());
    api.submit(new_job("film", vec![new_stage("voice")])).await;
    assert_eq!(api.job("film").await.context, None);
}

#[tokio::test]
async fn repeat_of_a_context_update_returns_the_first_response() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", vec![new_stage("voice")])).await;
    let once = UpdateJobRequest { request_id: request_id(), ..change("film", vec![append("log", &[json!("a")])]) };
    for replayed in [false, true] {
        let answer = ok(api.jobs().update_job(once.clone()).await);
        assert_eq!((answer.replayed, answer.applied_version), (replayed, 2));
        assert_eq!(answer.job.expect("the job").context, struct_of(json!({ "log": ["a"] })));
    }
}
