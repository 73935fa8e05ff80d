//! Both directions against the dynamic messages of the descriptors, and what is refused.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};

use super::read::JsonFault;
use super::{read, write};
use crate::proto::{self, FILE_DESCRIPTOR_SET};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("ours"));

fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("interlock.v1.{name}")).expect("a message of ours")
}

fn encoded(name: &str, json: &str) -> Result<Vec<u8>, JsonFault> {
    let mut out = Vec::new();
    read(&message(name), json.as_bytes(), 1 << 20, &mut out).map(|()| out)
}

fn fault(name: &str, json: &str) -> (String, String) {
    let fault = encoded(name, json).expect_err(json);
    (fault.path, fault.why)
}

fn submission() -> Value {
    json!({
        "requestId": "9d5ffa8c-a6f9-4b21-a6ba-9ab7c7b8a3a1", "jobId": "film-1", "kind": "film", "priority": -7,
        "payload": {"none": null, "yes": true, "n": -1.5e3, "text": "ü\"\n", "deep": {"list": [1.0, [], {}, "x"]}},
        "labels": {"a": "b", "c": ""}, "startTime": "2026-11-30T01:02:03.004Z", "timeout": "1.500s", "retention": "0s",
        "stages": [{"name": "voice"}, {"name": "render", "dependsOn": ["voice", "image"], "weight": 2.5}],
        "retryPolicy": {"maxAttempts": 3}, "validateOnly": true,
    })
}

#[test]
fn json_and_dynamic_messages_agree() {
    let json = submission().to_string();
    let encoded = encoded("SubmitJobRequest", &json).expect("a message");
    let ours = DynamicMessage::decode(message("SubmitJobRequest"), encoded.as_slice()).expect("an encoding");
    let mut reader = serde_json::Deserializer::from_str(&json);
    let theirs = DynamicMessage::deserialize(message("SubmitJobRequest"), &mut reader).expect("a message");
    assert_eq!(ours, theirs);
    let mut written = Vec::new();
    write(&message("SubmitJobRequest"), &theirs.encode_to_vec(), &mut written).expect("JSON");
    let written: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(written, serde_json::to_value(&theirs).expect("JSON"));
    assert_eq!(written, submission());
}

#[test]
fn all_kinds_of_a_response_are_written_as_dynamic_messages_write_them() {
    let job = proto::Job {
        job_id: "film".into(),
        version: i64::MAX,
        progress: 0.25,
        labels: [("k".to_owned(), String::new())].into(),
        context_versions: [("a".to_owned(), 0), ("b".to_owned(), -5)].into(),
        stages: vec![proto::Stage { name: "voice".into(), state: 99, ..Default::default() }, Default::default()],
        ..Default::default()
    };
    let snapshot = proto::watch_job_response::Update::Snapshot(job.encode_to_vec().into());
    let update = proto::WatchJobResponse { update: Some(snapshot) }.encode_to_vec();
    let key = proto::CreateKeyRequest { roles: vec![1, 2, 5], ..Default::default() }.encode_to_vec();
    for (name, encoded) in [("WatchJobResponse", update), ("CreateKeyRequest", key), ("Job", Vec::new())] {
        let theirs = DynamicMessage::decode(message(name), encoded.as_slice()).expect("a message");
        let mut written = Vec::new();
        write(&message(name), &encoded, &mut written).expect("JSON");
        let written: Value = serde_json::from_slice(&written).expect("JSON");
        assert_eq!(written, serde_json::to_value(&theirs).expect("JSON"), "{name}");
    }
}

#[test]
fn an_encoding_that_is_cut_off_is_no_json() {
    let job = proto::Job { job_id: "film".into(), version: 300, ..Default::default() }.encode_to_vec();
    for end in [1, 3, job.len() - 1] {
        assert!(write(&message("Job"), &job[..end], &mut Vec::new()).is_err(), "{end}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_path() {
    for (json, path, why) in [
        (r#"{"jobID": "x"}"#, "jobID", "no field of this name"),
        (r#"{"job_id": "x", "jobId": "y"}"#, "job_id", "given twice"),
        (r#"{"priority": 2147483648}"#, "priority", "out of range"),
        (r#"{"priority": 1.5}"#, "priority", "whole number"),
        (r#"{"priority": true}"#, "priority", "expected a number"),
        (r#"{"stages": [{"name": "a"}, {"dependsOn": ["b", 7]}]}"#, "stages[1].depends_on[1]", "a string"),
        (r#"{"stages": {}}"#, "stages", "expected an array"),
        (r#"{"labels": {"a": null}}"#, "labels.a", "null"),
        (r#"{"timeout": "soon"}"#, "timeout", ""),
        (r#"{"payload": [1]}"#, "payload", "expected an object"),
        (r#"{"kind": "film""#, "", "EOF"),
        (r#"{"kind": "film"} {}"#, "", "trailing"),
        ("", "", "EOF"),
        ("[]", "", "expected an object"),
    ] {
        let (at, says) = fault("SubmitJobRequest", json);
        assert_eq!(at, path, "{json}: {says}");
        assert!(says.contains(why), "{json}: {says}");
    }
    let two = r#"{"target": {"leaseToken": "a", "stageRef": {}}}"#;
    let (path, why) = fault("CompleteStageRequest", two);
    assert_eq!(path, "target.stage_ref");
    assert!(why.contains("another member of `target`"), "{why}");
    let (_, why) = fault("CreateKeyRequest", r#"{"roles": ["ROLE_KING"]}"#);
    assert!(why.contains("no value of this name"), "{why}");
}

#[test]
fn numbers_and_names_are_read_in_every_form() {
    let forms = [r#"{"fromVersion": "7"}"#, r#"{"from_version": 7}"#, r#"{"fromVersion": 7.0, "jobId": null}"#];
    for json in forms {
        let message = proto::WatchJobRequest::decode(encoded("WatchJobRequest", json).expect(json).as_slice());
        assert_eq!(message.expect("an encoding").from_version, 7, "{json}");
    }
    for json in [r#"{"roles": ["ROLE_WORK"]}"#, r#"{"roles": [3]}"#] {
        let encoded = encoded("CreateKeyRequest", json).expect(json);
        let message = proto::CreateKeyRequest::decode(encoded.as_slice()).expect("an encoding");
        assert_eq!(message.roles, [proto::Role::Work as i32], "{json}");
    }
}

#[test]
fn neither_depth_nor_growth_is_unbounded() {
    let deep = format!(r#"{{"payload": {{"a": {}{}}}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    assert!(fault("SubmitJobRequest", &deep).1.contains("recursion limit"));
    // Each item of two bytes has eleven in its encoding.
    let wide = format!(r#"{{"payload": {{"a": [{}1]}}}}"#, "1,".repeat(200_000));
    assert!(fault("SubmitJobRequest", &wide).1.contains("larger than a message may be"));
    let long = format!(r#"{{"kind": "{}"}}"#, "x".repeat(200_000));
    assert!(encoded("SubmitJobRequest", &long).is_ok());
}
