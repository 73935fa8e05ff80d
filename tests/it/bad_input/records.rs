//! Records and commits: lists that are empty or too long, operations that are none, names and numbers that cannot be.

use interlock::proto::commit_operation::Operation as Asked;
use interlock::proto::field_operation::Operation;
use interlock::proto::{
    self, BatchGetRecordsRequest, BatchUpdateRecordsRequest, BatchWriteRecordsRequest, CommitOperation, CommitRequest,
    FieldOperation, ListRecordsRequest, UpdateRecordRequest,
};
use serde_json::json;

use super::Scene;
use crate::harness::*;

fn one(operation: FieldOperation) -> UpdateRecordRequest {
    update("one", vec![increment("n", 1.0), operation])
}

#[tokio::test]
async fn invalid_operations_are_refused_with_the_field() {
    let scene = Scene::set().await;
    let mut deep = json!(1);
    for _ in 0..33 {
        deep = json!([deep]);
    }
    let deep_path = format!("operations[1].set{}", "[0]".repeat(32));
    let none = FieldOperation { field: "a".to_owned(), ..Default::default() };
    let negative = FieldOperation { expected_field_version: Some(-1), ..increment("n", 1.0) };
    let rows = vec![
        (one(none), "operations[1].operation"),
        (one(negative), "operations[1].expected_field_version"),
        (one(increment("", 1.0)), "operations[1].field"),
        (one(increment("a\0", 1.0)), "operations[1].field"),
        (one(increment(&"x".repeat(129), 1.0)), "operations[1].field"),
        (one(increment("n", f64::NAN)), "operations[1].increment"),
        (one(increment("n", 1e16)), "operations[1].increment"),
        (one(op("n", Operation::Maximum(f64::INFINITY))), "operations[1].maximum"),
        (one(op("n", Operation::Minimum(f64::NAN))), "operations[1].minimum"),
        (one(set("a", json!("x".repeat(65_536)))), "operations[1].set"),
        (one(set("a", json!({ "k": "a\0" }))), "operations[1].set.k"),
        (one(set("a", deep.clone())), &*deep_path),
        (one(append("l", &[json!(1), json!(["a\0"])])), "operations[1].append[1][0]"),
        (one(remove("l", &[json!("x".repeat(65_536))])), "operations[1].remove[0]"),
        (one(merge("m", json!({ "a b": "\0" }))), "operations[1].merge[\"a b\"]"),
        (update("one", Vec::new()), "operations"),
        (update("one", vec![increment("n", 1.0); 1_001]), "operations"),
        (update("", vec![increment("n", 1.0)]), "record_id"),
        (update(&"x".repeat(129), vec![increment("n", 1.0)]), "record_id"),
        (UpdateRecordRequest { collection: "a/b".to_owned(), ..one(increment("n", 1.0)) }, "collection"),
        (UpdateRecordRequest { expected_version: Some(-1), ..one(increment("n", 1.0)) }, "expected_version"),
        (UpdateRecordRequest { request_id: Some("x".to_owned()), ..one(increment("n", 1.0)) }, "request_id"),
    ];
    scene.refuses(rows, async |request| scene.api.records().update_record(request).await).await;
}

#[tokio::test]
async fn batches_are_neither_empty_nor_too_long() {
    let scene = Scene::set().await;
    let api = &scene.api;
    let batch = |updates: Vec<UpdateRecordRequest>| BatchUpdateRecordsRequest { updates, ..Default::default() };
    let bad = UpdateRecordRequest { request_id: request_id(), ..one(increment("n", 1.0)) };
    let many = UpdateRecordRequest { operations: vec![increment("n", 1.0); 1_000], ..one(increment("n", 1.0)) };
    let rows = vec![
        (batch(Vec::new()), "updates"),
        (batch(vec![one(increment("n", 1.0)); 501]), "updates"),
        (batch(vec![many.clone(); 11]), "updates"),
        (batch(vec![one(increment("n", 1.0)), bad]), "updates[1].request_id"),
        (batch(vec![one(increment("n", 1.0)), one(increment("", 1.0))]), "updates[1].operations[1].field"),
    ];
    scene.refuses(rows, async |request| api.records().batch_update_records(request).await).await;
    let write = |updates: Vec<UpdateRecordRequest>| BatchWriteRecordsRequest { updates };
    let rows = vec![
        (write(Vec::new()), "updates"),
        (write(vec![one(increment("n", 1.0)); 501]), "updates"),
        (write(vec![many; 11]), "updates"),
    ];
    scene.refuses(rows, async |request| api.records().batch_write_records(request).await).await;
    let named = proto::RecordRef { collection: COLLECTION.to_owned(), record_id: "one".to_owned() };
    let rows = vec![
        (BatchGetRecordsRequest { records: Vec::new(), ..Default::default() }, "records"),
        (BatchGetRecordsRequest { records: vec![named.clone(); 501], ..Default::default() }, "records"),
        (
            BatchGetRecordsRequest { records: vec![named, proto::RecordRef::default()], ..Default::default() },
            "records[1].collection",
        ),
    ];
    scene.refuses(rows, async |request| api.records().batch_get_records(request).await).await;
    let list = |filter: &str, order_by: &str| ListRecordsRequest {
        collection: COLLECTION.to_owned(),
        filter: filter.to_owned(),
        order_by: order_by.to_owned(),
        ..Default::default()
    };
    let rows = vec![
        (list("fields.a < true", ""), "filter"),
        (list("state = RUNNING", ""), "filter"),
        (list("", "fields.a"), "order_by"),
        (ListRecordsRequest { page_token: "AAAA".to_owned(), ..list("", "") }, "page_token"),
        (ListRecordsRequest::default(), "collection"),
    ];
    scene.refuses(rows, async |request| api.records().list_records(request).await).await;
}

#[tokio::test]
async fn invalid_parts_of_a_commit_are_refused_with_the_field() {
    let scene = Scene::set().await;
    let part = |operation: Asked| CommitOperation { operation: Some(operation) };
    let fine = || part(Asked::UpdateRecord(one(increment("n", 1.0))));
    let commit = |operations: Vec<CommitOperation>| CommitRequest { operations, ..Default::default() };
    let job = |request: proto::SubmitJobRequest| commit(vec![fine(), part(Asked::SubmitJob(request))]);
    let rows = vec![
        (commit(Vec::new()), "operations"),
        (commit(vec![fine(); 101]), "operations"),
        (commit(vec![fine(), CommitOperation::default()]), "operations[1].operation"),
        (CommitRequest { lease_fence: Some("x".to_owned()), ..commit(vec![fine()]) }, "lease_fence"),
        (CommitRequest { lease_fence: Some(String::new()), ..commit(vec![fine()]) }, "lease_fence"),
        // The token of a denial.
        (
            CommitRequest { permit_fence: Some(proto::Permit::default().permit_token), ..commit(vec![fine()]) },
            "permit_fence",
        ),
        (
            job(proto::SubmitJobRequest { validate_only: true, ..new_job("", Vec::new()) }),
            "operations[1].submit_job.validate_only",
        ),
        (
            job(proto::SubmitJobRequest { request_id: request_id(), ..new_job("", Vec::new()) }),
            "operations[1].submit_job.request_id",
        ),
        // What only the decision can see, too.
        (job(new_job("", vec![new_stage_after("a", &["none"])])), "operations[1].submit_job.stages[0].depends_on[0]"),
        (
            commit(vec![fine(), part(Asked::UpdateRecord(one(increment("", 1.0))))]),
            "operations[1].update_record.operations[1].field",
        ),
        (
            commit(vec![fine(), part(Asked::CompleteStage(proto::CompleteStageRequest::default()))]),
            "operations[1].complete_stage.target",
        ),
    ];
    scene.refuses(rows, async |request| scene.api.transactions().commit(request).await).await;
}
