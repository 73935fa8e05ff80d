//! Lists of records: filters on fields, orders, pages.

use interlock::proto::ListRecordsRequest;
use serde_json::{Value, json};

use crate::harness::*;

async fn ids(api: &Api, filter: &str, order_by: &str) -> Vec<String> {
    let request = ListRecordsRequest {
        collection: COLLECTION.to_owned(),
        filter: filter.to_owned(),
        order_by: order_by.to_owned(),
        ..Default::default()
    };
    let records = ok(api.records().list_records(request).await).records;
    records.into_iter().map(|record| record.record_id).collect()
}

#[tokio::test]
async fn records_are_found_by_their_fields() {
    let server = Server::start().await;
    let api = &server.api;
    let fields = |value: Value| match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| set(&name, value)).collect(),
        _ => Vec::new(),
    };
    let long = "y".repeat(400);
    for (record_id, value) in [
        ("a", json!({ "status": "done", "n": 3, "ok": true, "Voice URL": "x", "zero": 0 })),
        ("b", json!({ "status": "todo", "n": "3", "ok": false, "long": long, "zero": -0.0 })),
        ("c", json!({ "status": null, "n": 2.5, "ok": "true" })),
    ] {
        api.update_record(record_id, fields(value)).await;
    }
    for (filter, expected) in [
        ("", "a b c"),
        ("fields.status = done", "a"),
        ("fields.status != done", "b c"),
        ("fields.status = null", "c"),
        ("fields.missing = null", ""),
        ("fields.missing != null", "a b c"),
        ("fields.n = 3", "a"),
        ("fields.n = \"3\"", "b"),
        ("fields.n >= 2 AND fields.n < 3", "c"),
        ("fields.n != 3", "b c"),
        ("fields.zero = 0", "a b"),
        ("fields.zero = -0", "a b"),
        ("fields.zero < 0", ""),
        ("fields.ok = true OR fields.ok = false", "a b"),
        ("fields.ok = \"true\"", "c"),
        ("fields.\"Voice URL\" = x", "a"),
        (&format!("fields.long = {long}"), "b"),
        ("fields.long > x AND record_id != a", "b"),
        ("record_id > a AND create_time > \"2020-01-01T00:00:00Z\"", "b c"),
    ] {
        assert_eq!(ids(api, filter, "").await.join(" "), expected, "{filter}");
    }
    api.update_record("a", vec![set("n", json!(4))]).await;
    assert_eq!(ids(api, "", "record_id desc").await, ["c", "b", "a"]);
    assert_eq!(ids(api, "", "update_time").await, ["b", "c", "a"]);
    assert_eq!(ids(api, "", "create_time desc").await, ["c", "b", "a"]);
}

#[tokio::test]
async fn pages_go_through_a_collection_once() {
    let server = Server::start().await;
    let api = &server.api;
    for i in 0..7 {
        // So large that two do not fit into one reply with a third.
        let large = (0..16).map(|k| set(&format!("f{k}"), json!("x".repeat(64_000)))).collect();
        api.update_record(&format!("r{i}"), large).await;
    }
    for (order_by, page_size) in [("", 2), ("update_time desc", 3), ("create_time", 1_000)] {
        let mut request = ListRecordsRequest {
            collection: COLLECTION.to_owned(),
            order_by: order_by.to_owned(),
            page_size,
            ..Default::default()
        };
        let (mut seen, mut pages) = (Vec::new(), 0);
        loop {
            let page = ok(api.records().list_records(request.clone()).await);
            assert!(!page.records.is_empty());
            seen.extend(page.records.into_iter().map(|record| record.record_id));
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        if order_by.ends_with("desc") {
            seen.reverse();
        }
        assert_eq!(seen, ["r0", "r1", "r2", "r3", "r4", "r5", "r6"], "{order_by}");
        assert!(pages >= 3, "a page holds 3 MiB: {pages}");
    }
    let other = ListRecordsRequest { collection: "others".to_owned(), ..Default::default() };
    assert!(ok(api.records().list_records(other).await).records.is_empty());
}
