//! 256 writers of one record through two servers: each on a field of its own, all on the same fields by operations that merge, and
//! all by compare-and-set.

use futures::future::join_all;
use interlock::proto::{FieldOperation, UpdateRecordRequest, UpdateRecordResponse};
use serde_json::{Value, json};

use super::answers::Answer;
use super::{any, scale};
use crate::harness::*;

const WRITERS: usize = 256;
/// Updates of each writer, for each unit of scale.
const UPDATES: usize = 8;
/// Updates of each writer that are put down in a list, whose size has a limit.
const NOTED: usize = 8;

/// Sends an update until it is done; others may be in its way for longer than a server tries.
async fn done(apis: &[Api], request: UpdateRecordRequest) -> UpdateRecordResponse {
    loop {
        match Answer::of(any(apis).records().update_record(request.clone()).await) {
            Answer::Done(answer) => return answer,
            Answer::NotNow(reason) => assert_eq!(reason, "CONFLICT"),
            Answer::Refused(refusal) => panic!("{refusal:?}"),
            Answer::Unknown(what) => panic!("nothing is broken here: {what}"),
        }
    }
}

async fn two_servers() -> (Server, Server, Vec<Api>) {
    let server = Server::start().await;
    let other = server.beside().await;
    let mut apis = Vec::new();
    for _ in 0..4 {
        apis.push(Api::connect(server.address).await);
        apis.push(Api::connect(other.address).await);
    }
    (server, other, apis)
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_the_same_fields_lose_nothing() {
    let (_server, _other, apis) = two_servers().await;
    let updates = UPDATES * scale();
    let operations = |writer: usize, i: usize| -> Vec<FieldOperation> {
        vec![
            set(&format!("own{writer}"), json!(i)),
            increment("sum", 1.0),
            append("log", &[json!(format!("{writer}.{i}"))][..usize::from(i < NOTED)]),
            add_to_set("writers", &[json!(writer)]),
            op("max", interlock::proto::field_operation::Operation::Maximum((writer * updates + i) as f64)),
        ]
    };
    let writers = (0..WRITERS).map(|writer| {
        let (apis, operations) = (&apis, &operations);
        async move {
            let mut versions = Vec::new();
            for i in 0..updates {
                let request = UpdateRecordRequest { omit_fields: true, ..update("hot", operations(writer, i)) };
                versions.push(done(apis, request).await.applied_version);
            }
            versions
        }
    });
    let mut versions = join_all(writers).await.concat();
    versions.sort_unstable();
    let total = WRITERS * updates;
    let committed: Vec<i64> = (1..=i64::try_from(total).expect("few")).collect();
    assert_eq!(versions, committed, "each change is a version of its own");
    let record = apis[0].record("hot").await;
    let fields = fields_of(&record);
    assert_eq!((record.version, &fields["sum"]), (committed[total - 1], &json!(total)));
    assert_eq!(fields["max"], json!(total - 1));
    let sorted = |list: &Value| {
        let mut list: Vec<String> = list.as_array().expect("a list").iter().map(Value::to_string).collect();
        list.sort_unstable();
        list.dedup();
        list
    };
    let noted = WRITERS * NOTED.min(updates);
    assert_eq!(fields["log"].as_array().map(Vec::len), Some(noted));
    assert_eq!((sorted(&fields["log"]).len(), sorted(&fields["writers"]).len()), (noted, WRITERS));
    for writer in 0..WRITERS {
        assert_eq!(fields[format!("own{writer}")], json!(updates - 1), "{writer}");
    }
    println!("{total} updates of {WRITERS} writers, all there");
}

#[tokio::test(flavor = "multi_thread")]
async fn compare_and_set_applies_only_on_equal_versions() {
    let (_server, _other, apis) = two_servers().await;
    apis[0].update_record("hot", vec![set("sum", json!(0))]).await;
    let writers = (0..WRITERS).map(|writer| {
        let apis = &apis;
        async move {
            let mut refused = 0;
            loop {
                let record = any(apis).record("hot").await;
                let sum = fields_of(&record)["sum"].as_i64().expect("a number");
                let mut operation = set("sum", json!(sum + 1));
                let mut request = update("hot", Vec::new());
                // Every other one compares the field alone.
                match writer % 2 {
                    0 => request.expected_version = Some(record.version),
                    _ => operation.expected_field_version = Some(record.field_versions["sum"]),
                }
                request.operations.push(operation);
                match Answer::of(any(apis).records().update_record(request).await) {
                    Answer::Done(answer) => {
                        assert!(answer.applied);
                        return refused;
                    }
                    Answer::Refused(refusal) => assert_eq!(refusal.reason, "VERSION_MISMATCH", "{refusal:?}"),
                    Answer::NotNow(reason) => assert_eq!(reason, "CONFLICT"),
                    Answer::Unknown(what) => panic!("nothing is broken here: {what}"),
                }
                refused += 1;
            }
        }
    });
    let refused: usize = join_all(writers).await.into_iter().sum();
    let record = apis[0].record("hot").await;
    assert_eq!(fields_of(&record), json!({ "sum": WRITERS }));
    assert_eq!(record.version, 1 + i64::try_from(WRITERS).expect("few"));
    println!("{WRITERS} compare-and-sets, refused {refused} times");
    assert!(refused > 0, "no writes met");
}
