//! `interlock record`, `interlock queue`, `interlock worker`, `interlock commit` and `interlock namespace`.

use interlock::proto;
use serde_json::{Value, json};

use super::relay::Relay;
use super::verb::{Running, run};
use crate::harness::*;

#[tokio::test]
async fn a_record_is_set_shown_listed_and_deleted() {
    let server = Server::start().await;
    let set = ["record", "set", "films", "a", "title=Signals", "views=3", "tags=[\"radio\"]", "--increment", "views=2"];
    let set =
        run(server.address, &[&set[..], &["--append", "tags=drama", "--maximum", "length=90"]].concat()).await.ok();
    let has = |text: &str, row: &[&str]| text.lines().any(|line| line.split_whitespace().eq(row.iter().copied()));
    assert!(has(&set, &["views", "1", "5.0"]) && has(&set, &["tags", "1", "[\"radio\",\"drama\"]"]), "{set}");
    let get = run(server.address, &["record", "get", "films", "a"]).await.ok();
    assert!(has(&get, &["title", "1", "\"Signals\""]) && has(&get, &["length", "1", "90.0"]), "{get}");

    let set = [
        "record",
        "set",
        "films",
        "a",
        "--unset",
        "length",
        "--remove",
        "tags=radio",
        "--merge",
        "info={\"by\":\"me\"}",
    ];
    let set = run(server.address, &[&set[..], &["--expected-version", "1", "--output", "json"]].concat()).await.json();
    assert_eq!((&set["applied"], &set["record"]["version"]), (&json!(true), &json!("2")));
    let expected = json!({ "title": "Signals", "views": 5.0, "tags": ["drama"], "info": { "by": "me" } });
    assert_eq!(set["record"]["fields"], expected);

    run(server.address, &["record", "set", "films", "b", "views=1"]).await.ok();
    let list = ["record", "list", "films", "--filter", "fields.views >= 2"];
    let text = run(server.address, &list).await.ok();
    assert!(text.lines().count() == 2 && text.contains("title=\"Signals\""), "{text}");
    let list = run(server.address, &[&list[..], &["--output", "json"]].concat()).await.json();
    assert_eq!((list["records"].as_array().map(Vec::len), &list["records"][0]["recordId"]), (Some(1), &json!("a")));
    let some = run(server.address, &["record", "list", "films", "--limit", "1"]).await;
    assert_eq!((some.code, &*some.stderr), (Some(0), "there are more: --limit is 1\n"));

    assert_eq!(run(server.address, &["record", "delete", "films", "a"]).await.ok(), "films a  deleted\n");
    let missing = run(server.address, &["record", "get", "films", "a"]).await.failed(3);
    assert!(missing.starts_with("error: NOT_FOUND / RECORD_NOT_FOUND"), "{missing}");
    let deleted = run(server.address, &["record", "delete", "films", "b", "--output", "json"]).await.json();
    assert_eq!(deleted["appliedVersion"], "1");
}

#[tokio::test]
async fn mistakes_in_a_record_are_one_line() {
    let server = Server::start().await;
    let set = async |arguments: &[&str], code| {
        run(server.address, &[&["record", "set", "films", "a"][..], arguments].concat()).await.failed(code)
    };
    assert!(set(&["a=1", "--existing"], 3).await.contains("RECORD_NOT_FOUND"));
    assert!(set(&["--increment", "views=many"], 2).await.contains("record set: operations[0].increment: "));
    assert!(set(&["--operations", "{}"], 2).await.contains("--operations: must be a JSON array"));
    assert!(set(&["a=1", "--expected-version", "7"], 3).await.contains("VERSION_MISMATCH"));
    for usage in [&["record", "set", "films", "a"][..], &["record", "set", "films", "a", "novalue"], &["record", "get"]]
    {
        assert_eq!(run(server.address, usage).await.code, Some(2), "{usage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_records_resumes_where_it_was() {
    let server = Server::start().await;
    let relay = Relay::to(server.address).await;
    let mut text = Running::start(relay.address, &["record", "watch", "films", "a"]);
    let mut json = Running::start(relay.address, &["record", "watch", "films", "a", "b", "--output", "json"]);
    text.line_with("a  does not exist").await;
    json.line_with("\"recordId\":\"b\"").await;
    let set = async |value: &str| run(server.address, &["record", "set", "films", "a", value]).await.ok();
    set("views=1").await;
    assert_eq!(text.line().await.as_deref(), Some("a  version 1  views=1.0"));
    json.line_with("\"record\":").await;
    relay.lead_to(None);
    set("views=2").await;
    relay.lead_to(Some(server.address));
    let line = text.line_with("version 2").await;
    assert!(line.contains("views=2.0"), "{line}");
    let resumed: Value = serde_json::from_str(&json.line_with("views").await).expect("JSON");
    let version = |kind: &str| resumed[kind]["version"].as_str().map(str::to_owned);
    assert_eq!(version("record").or(version("change")).as_deref(), Some("2"), "{resumed}");
    run(server.address, &["record", "set", "films", "a", "--unset", "views"]).await.ok();
    assert_eq!(text.line_with("version 3").await, "a  version 3  -views");
}

#[tokio::test]
async fn a_commit_applies_all_or_nothing() {
    let server = Server::start().await;
    let request = json!({ "operations": [
        { "submit_job": { "kind": "review", "job_id": "j" } },
        { "updateRecord": { "collection": "films", "recordId": "a", "allowMissing": true,
            "operations": [{ "field": "n", "set": 1 }] } },
        { "append_segments": { "session_id": "standup", "allow_missing": true,
            "segments": [{ "key": "1", "kind": "SEGMENT_KIND_NOTE", "text": "done" }] } },
    ] });
    let path = std::env::temp_dir().join(format!("interlock-commit-{}.json", unique()));
    std::fs::write(&path, request.to_string()).expect("a file");
    let file = path.to_str().expect("UTF-8");
    let text = run(server.address, &["commit", "-f", file]).await.ok();
    let words: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1][..6], ["0", "yes", "1", "job", "j", "PENDING"], "{text}");
    assert_eq!(words[2], ["1", "yes", "1", "record", "films", "a"], "{text}");
    assert_eq!(words[3], ["2", "yes", "1", "1", "of", "1", "segment", "stored"], "{text}");
    let again = run(server.address, &["commit", "-f", file]).await.failed(3);
    assert!(again.contains("ALREADY_EXISTS / JOB_ALREADY_EXISTS"), "{again}");
    std::fs::write(&path, r#"{"operations":[{"cancelJob":{"jobId":"j"}}]}"#).expect("a file");
    let json = run(server.address, &["commit", "-f", file, "--output", "json"]).await.json();
    assert_eq!(json["results"][0]["job"]["state"], "JOB_STATE_CANCELLED");
    std::fs::write(&path, r#"{"operations":[{"cancelJob":{"jobID":"j"}}]}"#).expect("a file");
    let wrong = run(server.address, &["commit", "-f", file]).await.failed(2);
    assert!(wrong.starts_with("error: --file: operations[0].cancelJob"), "{wrong}");
    std::fs::remove_file(&path).expect("it is there");
    let missing = run(server.address, &["commit", "-f", file]).await.failed(2);
    assert!(missing.starts_with("error: --file: cannot read"), "{missing}");
}

#[tokio::test]
async fn queues_workers_and_collections_are_listed_with_their_numbers() {
    let server = Server::start().await;
    let api = &server.api;
    assert_eq!(run(server.address, &["queue", "list"]).await.ok().lines().count(), 1);
    let stages = ["a", "b", "c"].map(|name| proto::StageSpec { queue: "video".to_owned(), ..new_stage(name) });
    api.submit(new_job("film", stages.into())).await;
    api.lease("video").await;
    for record_id in ["r1", "r2"] {
        api.update_record(record_id, vec![set("n", json!(1))]).await;
    }
    let text = run(server.address, &["queue", "list"]).await.ok();
    let words: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        (&words[1][..2], &words[1][words[1].len() - 3..]),
        (&["video", "2"][..], &["0", "1", "0"][..]),
        "{text}"
    );
    let queues = run(server.address, &["queue", "list", "--output", "json"]).await.json();
    let text = run(server.address, &["worker", "list"]).await.ok();
    let words: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((&words[1][..2], words[1].last()), (&["worker", "1"][..], Some(&"video")), "{text}");
    assert_eq!((&queues["queues"][0]["readyCount"], &queues["queues"][0]["leasedCount"]), (&json!(2), &json!(1)));
    let text = run(server.address, &["record", "collections"]).await.ok();
    let words: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words, [["COLLECTION", "RECORDS"], [COLLECTION, "2"]]);
}

#[tokio::test]
async fn namespaces_are_created_listed_and_deleted() {
    let server = Server::start().await;
    assert_eq!(run(server.address, &["namespace", "create", "team"]).await.ok(), "team  created\n");
    let again = run(server.address, &["namespace", "create", "team"]).await.failed(3);
    assert!(again.contains("ALREADY_EXISTS / NAMESPACE_ALREADY_EXISTS"), "{again}");
    let list = run(server.address, &["namespace", "list"]).await.ok();
    let names: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["NAMESPACE", "default", "team"]);
    let list = run(server.address, &["namespace", "list", "--output", "json"]).await.json();
    assert_eq!(list["namespaces"][1]["name"], "team");
    run(server.address, &["job", "submit", "--kind", "film", "--job-id", "j", "--namespace", "team"]).await.ok();
    let full = run(server.address, &["namespace", "delete", "team"]).await.failed(3);
    assert!(full.contains("NAMESPACE_NOT_EMPTY"), "{full}");
    for verb in ["cancel", "delete"] {
        run(server.address, &["job", verb, "j", "--namespace", "team"]).await.ok();
    }
    assert_eq!(run(server.address, &["namespace", "delete", "team"]).await.ok(), "team  deleted\n");
}
