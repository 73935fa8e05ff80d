//! Values that have rows of their own: they are deleted with their record, by every kind of deletion, and other writes are not affected.

use interlock::proto::commit_operation::Operation;
use interlock::proto::{CommitOperation, CommitRequest, DeleteJobRequest, SubmitJobRequest, UpdateJobRequest};
use serde_json::json;

use crate::harness::*;

/// Three values, each too large for the record's own row.
fn large() -> Vec<interlock::proto::FieldOperation> {
    ["a", "b", "c"].map(|field| set(field, json!("x".repeat(1_000)))).to_vec()
}

async fn values_left(server: &Server) -> Vec<String> {
    server.column("SELECT record_id || ' ' || field FROM record_values").await
}

#[tokio::test]
async fn records_with_large_values_are_deleted_beside_writes_of_others() {
    let server = Server::start().await;
    let api = &server.api;
    for i in 0..20 {
        api.update_record(&format!("large-{i}"), large()).await;
    }
    let deletions = (0..20).map(|i| async move {
        ok(api.records().delete_record(deletion(&format!("large-{i}"))).await);
    });
    let updates = (0..200).map(|i| async move {
        api.update_record(&format!("small-{i}"), vec![increment("n", 1.0)]).await;
    });
    futures::future::join(futures::future::join_all(deletions), futures::future::join_all(updates)).await;
    assert_eq!(server.column("SELECT count(*)::text FROM records").await, ["200"]);
    assert!(values_left(&server).await.is_empty());
}

#[tokio::test]
async fn a_commit_deletes_a_record_with_large_values() {
    let server = Server::start().await;
    let api = &server.api;
    api.update_record("large", large()).await;
    let operations = [
        Operation::DeleteRecord(deletion("large")),
        Operation::UpdateRecord(update("small", vec![increment("n", 1.0)])),
    ];
    let operations = operations.map(|operation| CommitOperation { operation: Some(operation) }).to_vec();
    ok(api.transactions().commit(CommitRequest { operations, ..Default::default() }).await);
    assert_eq!(server.column("SELECT record_id FROM records").await, ["small"]);
    assert!(values_left(&server).await.is_empty());
    // The id is free, and what was large before is not there any more.
    api.update_record("large", vec![set("a", json!(1))]).await;
    assert_eq!(fields_of(&api.record("large").await), json!({ "a": 1 }));
}

#[tokio::test]
async fn jobs_with_large_contexts_are_deleted_on_request_and_by_retention() {
    let server = Server::start().await;
    let api = &server.api;
    let kept_for = |job_id: &str, retention| SubmitJobRequest { retention, ..new_job(job_id, vec![new_stage("s")]) };
    for (job_id, retention) in [("deleted", None), ("expires", seconds(1))] {
        api.submit(kept_for(job_id, retention)).await;
        let change = UpdateJobRequest { job_id: job_id.to_owned(), context_operations: large(), ..Default::default() };
        ok(api.jobs().update_job(change).await);
        let lease = api.lease("default").await;
        api.complete(&lease, json!({})).await;
    }
    ok(api.jobs().delete_job(DeleteJobRequest { job_id: "deleted".into(), ..Default::default() }).await);
    eventually("both jobs are gone", async || server.column("SELECT job_id FROM jobs").await.is_empty().then_some(()))
        .await;
    assert!(values_left(&server).await.is_empty());
}
