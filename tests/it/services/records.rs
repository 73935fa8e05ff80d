//! Records: what their rpcs do, one by one and in batches.

use interlock::proto::{
    BatchGetRecordsRequest, BatchUpdateRecordsRequest, BatchWriteRecordsRequest, DeleteRecordRequest, RecordRef,
    UpdateRecordRequest,
};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn named(record_id: &str) -> RecordRef {
    RecordRef { collection: COLLECTION.to_owned(), record_id: record_id.to_owned() }
}

fn batch(updates: Vec<UpdateRecordRequest>) -> BatchUpdateRecordsRequest {
    BatchUpdateRecordsRequest { updates, ..Default::default() }
}

#[tokio::test]
async fn operations_on_a_record_are_applied_in_order() {
    let server = Server::start().await;
    let api = &server.api;
    let made = api
        .update_record("one", vec![set("title", json!("Rain")), increment("views", 2.0), append("tags", &[json!("a")])])
        .await;
    assert_eq!((made.applied, made.replayed, made.applied_version), (true, false, 1));
    let long = "x".repeat(5_000);
    let changes = vec![
        increment("views", 0.5),
        append("tags", &[json!("b"), json!("a")]),
        add_to_set("people", &[json!({ "id": 1 }), json!({ "id": 1 })]),
        merge("meta", json!({ "size": { "w": 1, "h": null } })),
        set("text", json!(long)),
        remove("tags", &[json!("a")]),
        unset("title"),
    ];
    let changed = api.update_record("one", changes).await.record.expect("the record");
    let expected = json!({
        "views": 2.5, "tags": ["b"], "people": [{ "id": 1 }], "meta": { "size": { "w": 1 } }, "text": long,
    });
    assert_eq!(fields_of(&changed), expected);
    let record = api.record("one").await;
    assert_eq!(record, changed);
    assert_eq!(record.version, 2);
    assert!(record.field_versions.values().all(|version| *version == 2));
    // A large value stays where it is while others change, and goes when it becomes small.
    api.update_record("one", vec![set("views", json!(null))]).await;
    assert_eq!(fields_of(&api.record("one").await)["text"], json!(long));
    assert_eq!(server.column("SELECT count(*)::text FROM record_values").await, ["1"]);
    let small = api.update_record("one", vec![set("text", json!("short"))]).await.record.expect("the record");
    assert_eq!(server.column("SELECT count(*)::text FROM record_values").await, ["0"]);
    assert_eq!(small, api.record("one").await);
    assert_eq!(small.field_versions["tags"], 2);
}

#[tokio::test]
async fn operations_without_effect_make_no_version() {
    let server = Server::start().await;
    let api = &server.api;
    api.update_record("one", vec![set("a", json!(1))]).await;
    let same = api.update_record("one", vec![set("a", json!(1)), unset("b")]).await;
    assert_eq!((same.applied, same.applied_version), (false, 0));
    assert_eq!(same.record, Some(api.record("one").await));
    assert_eq!(api.record("one").await.version, 1);
}

#[tokio::test]
async fn versions_are_compared_for_the_record_and_for_each_field() {
    let server = Server::start().await;
    let api = &server.api;
    let expecting =
        |version, operations| UpdateRecordRequest { expected_version: Some(version), ..update("one", operations) };
    let first = ok(api.records().update_record(expecting(0, vec![set("a", json!(1))])).await);
    assert_eq!(first.applied_version, 1);
    let again = api.records().update_record(expecting(0, vec![set("a", json!(2))])).await;
    let refused_with = refused(again, Code::Aborted, "VERSION_MISMATCH").metadata;
    assert_eq!((&*refused_with["expected"], &*refused_with["actual"]), ("0", "1"));
    api.update_record("one", vec![set("b", json!(1))]).await;
    let mut on_field = set("a", json!(2));
    on_field.expected_field_version = Some(1);
    assert_eq!(api.update_record("one", vec![on_field.clone()]).await.applied_version, 3);
    let stale = api.records().update_record(update("one", vec![set("c", json!(1)), on_field])).await;
    let stale = refused(stale, Code::Aborted, "VERSION_MISMATCH");
    assert_eq!((&*stale.metadata["field"], &*stale.metadata["actual"]), ("a", "3"));
    assert_eq!(stale.field.as_deref(), Some("operations[1]"));
    let mut missing = set("c", json!(1));
    missing.expected_field_version = Some(0);
    assert_eq!(api.update_record("one", vec![missing]).await.applied_version, 4);
    let absent = UpdateRecordRequest { allow_missing: false, ..update("none", vec![unset("a")]) };
    refused(api.records().update_record(absent).await, Code::NotFound, "RECORD_NOT_FOUND");
}

#[tokio::test]
async fn a_batch_is_done_as_a_whole_and_in_order() {
    let server = Server::start().await;
    let api = &server.api;
    let updates = vec![
        update("one", vec![increment("n", 1.0)]),
        update("two", vec![increment("n", 1.0)]),
        update("one", vec![increment("n", 10.0)]),
    ];
    let done = ok(api.records().batch_update_records(batch(updates)).await);
    let versions: Vec<i64> = done.results.iter().map(|result| result.applied_version).collect();
    assert_eq!(versions, [1, 1, 2]);
    assert_eq!(fields_of(done.results[2].record.as_ref().expect("a record")), json!({ "n": 11 }));
    let wrong = vec![update("one", vec![increment("n", 1.0)]), update("two", vec![append("n", &[json!(1)])])];
    let wrong = refused(api.records().batch_update_records(batch(wrong)).await, Code::FailedPrecondition, "WRONG_TYPE");
    assert_eq!((wrong.field.as_deref(), &*wrong.metadata["index"]), (Some("updates[1].operations[0]"), "1"));
    assert_eq!(fields_of(&api.record("one").await), json!({ "n": 11 }));
    let records = vec![named("two"), named("none"), named("one"), named("two")];
    let found = ok(api.records().batch_get_records(BatchGetRecordsRequest { records, ..Default::default() }).await);
    let ids: Vec<&str> = found.records.iter().map(|record| &*record.record_id).collect();
    assert_eq!((ids, found.missing), (vec!["two", "one", "two"], vec![named("none")]));
}

#[tokio::test]
async fn independent_updates_have_a_status_each() {
    let server = Server::start().await;
    let api = &server.api;
    let updates = vec![
        update("one", vec![increment("n", 1.0)]),
        update("two", vec![append("n", &[json!(1)]), increment("n", 1.0)]),
        update("one", vec![increment("n", 1.0)]),
        update("", vec![increment("n", 1.0)]),
        UpdateRecordRequest { request_id: Some("x".to_owned()), ..update("three", vec![increment("n", 1.0)]) },
        UpdateRecordRequest { omit_fields: true, ..update("four", vec![increment("n", 1.0)]) },
    ];
    let done = ok(api.records().batch_write_records(BatchWriteRecordsRequest { updates }).await).results;
    let status = |i: usize| done[i].status.as_ref().expect("a status");
    let codes: Vec<i32> = (0..done.len()).map(|i| status(i).code).collect();
    let (wrong, invalid) = (Code::FailedPrecondition as i32, Code::InvalidArgument as i32);
    assert_eq!(codes, [0, wrong, 0, invalid, invalid, 0]);
    assert!(status(1).details.iter().any(|detail| detail.type_url.ends_with("google.rpc.ErrorInfo")));
    assert_eq!((done[0].applied_version, done[2].applied_version), (1, 2));
    assert!(done[5].record.as_ref().is_some_and(|record| record.fields_omitted && record.fields.is_empty()));
    assert_eq!(fields_of(&api.record("one").await), json!({ "n": 2 }));
    assert_eq!(server.column("SELECT record_id FROM records ORDER BY 1").await, ["four", "one"]);
}

#[tokio::test]
async fn a_repeat_is_answered_and_not_applied_again() {
    let server = Server::start().await;
    let api = &server.api;
    let once = UpdateRecordRequest { request_id: request_id(), ..update("one", vec![increment("n", 1.0)]) };
    ok(api.records().update_record(once.clone()).await);
    api.update_record("one", vec![increment("n", 10.0)]).await;
    let again = ok(api.records().update_record(once.clone()).await);
    assert_eq!((again.applied, again.replayed, again.applied_version), (true, true, 1));
    assert_eq!(again.record, Some(api.record("one").await));
    let other = UpdateRecordRequest { operations: vec![increment("n", 2.0)], ..once };
    refused(api.records().update_record(other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");

    let updates = vec![update("one", vec![set("n", json!(11))]), update("two", vec![increment("n", 1.0)])];
    let once = BatchUpdateRecordsRequest { request_id: request_id(), ..batch(updates) };
    let first = ok(api.records().batch_update_records(once.clone()).await);
    let again = ok(api.records().batch_update_records(once).await);
    assert_eq!((first.replayed, again.replayed), (false, true));
    assert_eq!(first.results, again.results);
    assert_eq!((again.results[0].applied, again.results[1].applied_version), (false, 1));

    let gone = DeleteRecordRequest { request_id: request_id(), ..deletion("two") };
    assert_eq!(ok(api.records().delete_record(gone.clone()).await).applied_version, 1);
    assert!(ok(api.records().delete_record(gone).await).replayed);
    refused(api.records().delete_record(deletion("two")).await, Code::NotFound, "RECORD_NOT_FOUND");
}

#[tokio::test]
async fn a_deleted_record_is_gone_with_all_it_had() {
    let server = Server::start().await;
    let api = &server.api;
    api.update_record("one", vec![set("long", json!("x".repeat(1_000))), set("a", json!(1))]).await;
    let stale = DeleteRecordRequest { expected_version: Some(2), ..deletion("one") };
    refused(api.records().delete_record(stale).await, Code::Aborted, "VERSION_MISMATCH");
    ok(api.records().delete_record(deletion("one")).await);
    let left = "SELECT count(*)::text FROM records UNION ALL SELECT count(*)::text FROM record_values";
    assert_eq!(server.column(left).await, ["0", "0"]);
    let recreated = api.update_record("one", vec![set("b", json!(1))]).await.record.expect("the record");
    assert_eq!((recreated.version, fields_of(&recreated)), (1, json!({ "b": 1 })));
}

#[tokio::test]
async fn a_record_cannot_grow_beyond_its_limits() {
    let server = Server::start().await;
    let api = &server.api;
    let limits =
        ok(api.admin().get_server_info(interlock::proto::GetServerInfoRequest {}).await).limits.expect("limits");
    let received = (limits.fields_per_record, limits.field_bytes, limits.record_bytes, limits.records_per_batch);
    assert_eq!(received, (1_000, 64 << 10, 1 << 20, 500));
    let full = (0..1_000).map(|i| increment(&format!("f{i}"), 1.0)).collect();
    api.update_record("one", full).await;
    let more = api.records().update_record(update("one", vec![increment("g", 1.0)])).await;
    refused(more, Code::FailedPrecondition, "LIMIT_EXCEEDED");
    api.update_record("one", vec![increment("g", 1.0), unset("f0")]).await;
    let text = json!("x".repeat(60_000));
    api.update_record("two", vec![append("l", std::slice::from_ref(&text))]).await;
    let longer = api.records().update_record(update("two", vec![append("l", std::slice::from_ref(&text))])).await;
    let longer = refused(longer, Code::FailedPrecondition, "LIMIT_EXCEEDED");
    assert_eq!(longer.field.as_deref(), Some("operations[0]"));
    for i in 0..17 {
        api.update_record("three", vec![set(&format!("f{i}"), text.clone())]).await;
    }
    let larger = api.records().update_record(update("three", vec![set("last", text)])).await;
    refused(larger, Code::FailedPrecondition, "LIMIT_EXCEEDED");
    assert_eq!(api.record("three").await.fields.len(), 17);
}

#[tokio::test]
async fn increment_beyond_exact_numbers_is_refused() {
    let server = Server::start().await;
    let api = &server.api;
    let edge = 9_007_199_254_740_992.0;
    let start = vec![set("n", json!(edge - 5.0))];
    api.update_record("one", start.clone()).await;
    api.submit(new_job("film", vec![new_stage("voice")])).await;
    let change = |context_operations| interlock::proto::UpdateJobRequest {
        job_id: "film".to_owned(),
        context_operations,
        ..Default::default()
    };
    ok(api.jobs().update_job(change(start)).await);
    for i in 0..10 {
        let record = api.records().update_record(update("one", vec![increment("n", 1.0)])).await;
        let context = api.jobs().update_job(change(vec![increment("n", 1.0)])).await;
        if i < 5 {
            assert!(ok(record).applied && ok(context).applied, "increment {i}");
        } else {
            let received = refused(record, Code::FailedPrecondition, "LIMIT_EXCEEDED");
            assert_eq!(received.field.as_deref(), Some("operations[0]"));
            let received = refused(context, Code::FailedPrecondition, "LIMIT_EXCEEDED");
            assert_eq!(received.field.as_deref(), Some("context_operations[0]"));
        }
    }
    assert_eq!(json_of(&api.record("one").await.fields["n"]), json!(edge));
    assert_eq!(api.job("film").await.context, struct_of(json!({ "n": edge })));
}

#[tokio::test]
async fn a_namespace_with_a_record_is_not_empty() {
    let server = Server::start().await;
    let api = &server.api;
    let name = "other".to_owned();
    let create = interlock::proto::CreateNamespaceRequest { name: name.clone(), ..Default::default() };
    ok(api.admin().create_namespace(create).await);
    ok(api.records().update_record(within("other", update("one", vec![increment("n", 1.0)]))).await);
    let remove = interlock::proto::DeleteNamespaceRequest { name, ..Default::default() };
    refused(api.admin().delete_namespace(remove.clone()).await, Code::FailedPrecondition, "NAMESPACE_NOT_EMPTY");
    let get = interlock::proto::GetRecordRequest {
        collection: COLLECTION.to_owned(),
        record_id: "one".to_owned(),
        ..Default::default()
    };
    refused(api.records().get_record(get).await, Code::NotFound, "RECORD_NOT_FOUND");
    ok(api.records().delete_record(within("other", deletion("one"))).await);
    ok(api.admin().delete_namespace(remove).await);
}
