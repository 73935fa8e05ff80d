//! Watches of records: as they are, then every change, through any server.

use std::time::Duration;

use interlock::proto::commit_operation::Operation;
use interlock::proto::watch_records_response::Update;
use interlock::proto::{self, WatchRecordsRequest, WatchedRecord};
use serde_json::{Value, json};
use tonic::Streaming;

use crate::harness::*;

struct Watch(Streaming<proto::WatchRecordsResponse>);

impl Watch {
    async fn begin(api: &Api, records: &[(&str, i64)]) -> Watch {
        let watched = |(record_id, from_version): &(&str, i64)| WatchedRecord {
            collection: COLLECTION.to_owned(),
            record_id: (*record_id).to_owned(),
            from_version: *from_version,
            from_create_time: None,
        };
        Watch::of(api, records.iter().map(watched).collect()).await
    }

    async fn of(api: &Api, records: Vec<WatchedRecord>) -> Watch {
        Watch(ok(api.records().watch_records(WatchRecordsRequest { records }).await))
    }

    /// The next piece of news that is no keepalive.
    async fn next(&mut self) -> Update {
        let news = async {
            loop {
                let message = self.0.message().await.expect("no error").expect("no end");
                match message.update.expect("an update") {
                    Update::Keepalive(_) => {}
                    update => return update,
                }
            }
        };
        tokio::time::timeout(PATIENCE, news).await.expect("news in time")
    }

    async fn change(&mut self) -> proto::RecordChange {
        match self.next().await {
            Update::Change(change) => change,
            other => panic!("{other:?} is no change"),
        }
    }

    async fn record(&mut self) -> proto::Record {
        match self.next().await {
            Update::Record(record) => record,
            other => panic!("{other:?} is no record"),
        }
    }

    async fn removal(&mut self) -> proto::RecordRemoval {
        match self.next().await {
            Update::Removal(removal) => removal,
            other => panic!("{other:?} is no removal"),
        }
    }
}

fn changed(change: &proto::RecordChange) -> Value {
    Value::Object(change.fields.iter().map(|(name, value)| (name.clone(), json_of(value))).collect())
}

async fn delete(api: &Api, record_id: &str) {
    ok(api.records().delete_record(deletion(record_id)).await);
}

#[tokio::test]
async fn watch_of_records_sends_each_change() {
    let server = Server::start().await;
    let api = &server.api;
    api.update_record("a", vec![set("n", json!(1)), set("t", json!("x"))]).await;
    let mut watch = Watch::begin(api, &[("a", 0), ("b", 0)]).await;
    assert_eq!(watch.record().await, api.record("a").await);
    assert_eq!((watch.removal().await.record_id.as_str(), 0), ("b", 0));
    api.update_record("a", vec![increment("n", 1.0), unset("t")]).await;
    let change = watch.change().await;
    assert_eq!((change.previous_version, change.version), (1, 2));
    assert_eq!((changed(&change), change.removed_fields), (json!({ "n": 2 }), texts(&["t"])));
    assert_eq!(change.field_versions["n"], 2);
    api.update_record("b", vec![set("n", json!(1))]).await;
    assert_eq!(watch.record().await, api.record("b").await);
    delete(api, "a").await;
    let removal = watch.removal().await;
    assert_eq!((removal.record_id.as_str(), removal.version), ("a", 2));
    api.update_record("a", vec![set("n", json!(9))]).await;
    assert_eq!(watch.record().await.version, 1);
    // A watch from a version sends only newer records, and sends them whole.
    let mut again = Watch::begin(api, &[("a", 1), ("b", 7)]).await;
    assert_eq!(again.record().await.record_id, "b");
    api.update_record("a", vec![set("n", json!(10))]).await;
    assert_eq!(again.change().await.previous_version, 1);
}

#[tokio::test]
async fn quiet_watch_of_records_sends_keepalives() {
    let server = Server::with(|config| config.watch_keepalive = Duration::from_secs(1)).await;
    server.api.update_record("a", vec![set("n", json!(1))]).await;
    let mut watch = Watch::begin(&server.api, &[("a", 1)]).await;
    let message = tokio::time::timeout(PATIENCE, watch.0.message()).await.expect("in time").expect("no error");
    assert!(matches!(message.and_then(|message| message.update), Some(Update::Keepalive(_))));
}

/// Many writers through two servers; the watcher sees versions that only grow, and in the end what is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_follows_writers_through_any_server_to_the_last_version() {
    let server = Server::start().await;
    let other = server.beside().await;
    let apis = [server.api.clone(), other.api.clone()];
    let mut watches = Vec::new();
    for api in &apis {
        watches.push(Watch::begin(api, &[("hot", 0)]).await);
    }
    let writers = (0..40).map(|i| {
        let api = &apis[i % 2];
        async move {
            for k in 0..5 {
                api.update_record("hot", vec![increment("sum", 1.0), set(&format!("f{}", i % 7), json!(k))]).await;
            }
        }
    });
    futures::future::join_all(writers).await;
    let last = server.api.record("hot").await;
    assert_eq!((last.version, &fields_of(&last)["sum"]), (200, &json!(200)));
    for watch in &mut watches {
        assert!(matches!(watch.next().await, Update::Removal(_)));
        let mut record = watch.record().await;
        while record.version < last.version {
            let change = watch.change().await;
            assert!(change.previous_version == record.version && change.version > record.version);
            record.version = change.version;
            record.fields.extend(change.fields);
            record.field_versions.extend(change.field_versions);
            record.fields.retain(|name, _| !change.removed_fields.contains(name));
        }
        assert_eq!((fields_of(&record), record.field_versions), (fields_of(&last), last.field_versions.clone()));
    }
}

#[tokio::test]
async fn watch_of_records_shows_deletions_and_recreations_of_another_server() {
    let server = Server::start().await;
    let other = server.beside().await;
    let api = &server.api;
    api.update_record("a", vec![set("n", json!(1))]).await;
    let first = api.record("a").await;
    let mut watch = Watch::begin(api, &[("a", 0)]).await;
    assert_eq!(watch.record().await, first);
    delete(&other.api, "a").await;
    assert_eq!(watch.removal().await.version, 1);
    // This server remembered the record. It does not tell those who come now of what is no longer there.
    let mut late = Watch::begin(api, &[("a", 0)]).await;
    assert_eq!(late.removal().await.version, 0);
    other.api.update_record("a", vec![set("m", json!(2))]).await;
    let second = other.api.record("a").await;
    for watch in [&mut watch, &mut late] {
        assert_eq!(watch.record().await, second);
    }
    // It has the version of the first one again: only when it was made tells it apart.
    let resume = |from_create_time| WatchedRecord {
        collection: COLLECTION.to_owned(),
        record_id: "a".to_owned(),
        from_version: 1,
        from_create_time,
    };
    assert_eq!(Watch::of(api, vec![resume(first.create_time)]).await.record().await, second);
    let mut resumed = Watch::of(api, vec![resume(second.create_time)]).await;
    api.update_record("a", vec![increment("m", 1.0)]).await;
    assert_eq!(changed(&resumed.change().await), json!({ "m": 3 }));
}

/// Servers go by clocks of their own: what is made later may say that it was made earlier.
#[tokio::test]
async fn watch_of_records_shows_a_recreation_under_a_slower_clock() {
    let server = Server::start().await;
    let api = &server.api;
    api.update_record("a", vec![set("n", json!(1))]).await;
    let ahead = "UPDATE records SET create_time = create_time + interval '1 hour' RETURNING version::text";
    assert_eq!(server.column(ahead).await, ["1"]);
    let mut watch = Watch::begin(api, &[("a", 0)]).await;
    watch.record().await;
    // In one commit, so that no change is sent in between.
    let part = |operation| proto::CommitOperation { operation: Some(operation) };
    let operations = vec![
        part(Operation::DeleteRecord(deletion("a"))),
        part(Operation::UpdateRecord(update("a", vec![set("n", json!(2))]))),
    ];
    ok(api.transactions().commit(proto::CommitRequest { operations, ..Default::default() }).await);
    assert_eq!(fields_of(&watch.record().await), json!({ "n": 2 }));
    api.update_record("a", vec![increment("n", 1.0)]).await;
    assert_eq!(changed(&watch.change().await), json!({ "n": 3 }));
}
