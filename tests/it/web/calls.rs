//! Unary calls of Connect: JSON and proto, POST and GET, errors and timeouts.

use std::time::{Duration, Instant};

use interlock::proto;
use prost::Message;
use serde_json::json;

use super::client::*;
use crate::harness::*;

const WAIT: &str = "/interlock.v1.JobService/WaitJob";
const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn a_call_is_a_post_of_json_or_proto() {
    let server = Server::start().await;
    let new = json!({"job_id": "film-1", "kind": "film", "payload": {"title": "Ü", "n": [1, null]}, "stages": [{"name": "voice"}]});
    let job = &send(server.address, post_json(SUBMIT, &new)).await.ok()["job"];
    assert_eq!((&job["jobId"], &job["state"]), (&json!("film-1"), &json!("JOB_STATE_PENDING")));
    // What curl sends with -d alone.
    for content_type in [FORM, "application/json", "application/json; charset=utf-8", "Application/JSON"] {
        let reply = send(server.address, post(GET_JOB, content_type, r#"{"job_id":"film-1"}"#)).await;
        let job = &reply.ok()["job"];
        assert_eq!(job["payload"], json!({"title": "Ü", "n": [1.0, null]}), "{content_type}");
        assert_eq!((&job["version"], &job["stages"][0]["name"]), (&json!("1"), &json!("voice")), "{content_type}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
    }
    let request = proto::GetJobRequest { job_id: "film-1".to_owned(), ..Default::default() }.encode_to_vec();
    let reply = send(server.address, post(GET_JOB, "application/proto", request)).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/proto"));
    let response = proto::GetJobResponse::decode(reply.body).expect("a message");
    assert_eq!(response.job.expect("a job"), server.api.job("film-1").await);
    server.stop().await;
}

#[tokio::test]
async fn reads_can_be_a_get_and_writes_cannot() {
    let server = Server::start().await;
    server.api.submit(new_job("film-1", vec![new_stage("voice")])).await;
    for query in [
        "message=%7B%22jobId%22%3A%22film-1%22%7D&encoding=json&connect=v1",
        "connect=v1&base64=1&encoding=json&message=eyJqb2JJZCI6ImZpbG0tMSJ9",
        "job_id=film-1",
        "jobId=film%2D1",
    ] {
        let reply = send(server.address, get(&format!("{GET_JOB}?{query}"))).await;
        assert_eq!(reply.ok()["job"]["jobId"], "film-1", "{query}");
        assert_eq!(reply.header("cache-control"), "no-store");
    }
    let proto = send(server.address, get(&format!("{GET_JOB}?base64=1&encoding=proto&message=CgZmaWxtLTE"))).await;
    let response = proto::GetJobResponse::decode(proto.body).expect("a message");
    assert_eq!(response.job.expect("a job").job_id, "film-1");

    let lists = [
        ("JobService/ListQueues", "queues"),
        ("WorkerService/ListWorkers", "workers"),
        ("RecordService/ListCollections", "collections"),
    ];
    for (list, name) in lists {
        let reply = send(server.address, get(&format!("/interlock.v1.{list}?page_size=10&max_staleness=1s"))).await;
        assert_eq!(reply.ok()[name].as_array().map_or(0, Vec::len), usize::from(name == "queues"), "{list}");
    }

    let write = send(server.address, get(&format!("{SUBMIT}?kind=film"))).await;
    assert_eq!((write.status.as_u16(), write.header("allow")), (405, "POST"));
    assert_eq!(write.json()["code"], "unknown");
    let unknown = send(server.address, get(&format!("{GET_JOB}?jobb=film-1"))).await;
    assert_eq!(unknown.refused(400, "invalid_argument", "INVALID_FIELD")["field"], "jobb");
    let broken = send(server.address, get(&format!("{GET_JOB}?message=%7"))).await;
    broken.refused(400, "invalid_argument", "INVALID_FIELD");
    let encoding = send(server.address, get(&format!("{GET_JOB}?encoding=xml&message=x"))).await;
    assert_eq!(encoding.status, 415);
    assert_eq!(server.column("SELECT count(*)::text FROM jobs").await, ["1"]);
    server.stop().await;
}

#[tokio::test]
async fn other_paths_methods_and_types_say_what_is_served() {
    let server = Server::start().await;
    let root = send(server.address, get("/")).await;
    assert_eq!((root.status.as_u16(), root.text().lines().count()), (200, 3), "{}", root.text());
    assert!(root.text().starts_with("Interlock ") && root.header("content-type").starts_with("text/plain"));
    for path in ["/favicon.ico", "/interlock.v1.JobService/GetJobs", "/interlock.v1.JobService/GetJob/"] {
        let reply = send(server.address, get(path)).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (404, &json!("unimplemented")), "{path}");
    }
    for content_type in
        ["", "text/plain", "multipart/form-data", "application/json; charset=latin1", "application/grpc-webx"]
    {
        let reply = send(server.address, post(GET_JOB, content_type, "{}")).await;
        assert_eq!(reply.status, 415, "{content_type}");
        assert!(reply.json()["message"].as_str().expect("text").contains("application/json"), "{content_type}");
    }
    // A stream has envelopes, and a unary call has none.
    let stream = send(server.address, post(WATCH_JOB, "application/json", "{}")).await;
    assert_eq!(stream.status, 415);
    assert!(stream.text().contains("application/connect+json"), "{}", stream.text());
    assert_eq!(send(server.address, post(GET_JOB, "application/connect+json", "{}")).await.status, 415);
    for method in ["PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"] {
        let mut request = get(GET_JOB);
        *request.method_mut() = method.parse().expect("a method");
        let reply = send(server.address, request).await;
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "GET, POST"), "{method}");
    }
    let health = send(server.address, post("/grpc.health.v1.Health/Check", "application/json", "{}")).await;
    assert_eq!(health.ok()["status"], "SERVING");
    server.stop().await;
}

#[tokio::test]
async fn errors_have_code_message_and_details() {
    let server = Server::start().await;
    let missing = send(server.address, post(GET_JOB, "application/json", r#"{"jobId":"none"}"#)).await;
    let metadata = missing.refused(404, "not_found", "JOB_NOT_FOUND");
    assert_eq!(metadata["outcome"], "NOT_APPLIED");
    assert!(missing.json()["message"].as_str().is_some_and(|message| message.contains("none")), "{}", missing.text());
    assert!(!missing.headers.contains_key("interlock-counted-reason"), "{:?}", missing.headers);

    // From the rpc, and from the conversion, with the path of the field.
    for (body, field) in [
        (r#"{"kind":"film","stages":[{"name":"a","dependsOn":["b"]}]}"#, "stages[0].depends_on[0]"),
        (r#"{"kind":"film","stages":[{"name":"a"},{"name":7}]}"#, "stages[1].name"),
        (r#"{"kind":"film","labels":{"a":null}}"#, "labels.a"),
        (r#"{"kind":"film","stage":[]}"#, "stage"),
    ] {
        let reply = send(server.address, post(SUBMIT, "application/json", body)).await;
        assert_eq!(reply.refused(400, "invalid_argument", "INVALID_FIELD")["field"], field, "{body}");
        let violations = detail(&reply.json(), "google.rpc.BadRequest");
        assert_eq!(violations["fieldViolations"][0]["field"], field, "{body}");
    }
    for body in ["", "null", "[]", "{", r#"{"kind":"film"}x"#, "\u{feff}{}"] {
        let reply = send(server.address, post(SUBMIT, "application/json", body.to_owned())).await;
        reply.refused(400, "invalid_argument", "INVALID_FIELD");
    }
    let garbled = send(server.address, post(SUBMIT, "application/proto", &b"\xff\xff"[..])).await;
    garbled.refused(400, "invalid_argument", "INVALID_FIELD");
    assert_eq!(server.column("SELECT count(*)::text FROM jobs").await, ["0"]);
    server.stop().await;
}

#[tokio::test]
async fn timeouts_versions_and_compression_are_those_of_the_protocol() {
    let server = Server::start().await;
    server.api.submit(new_job("film-1", vec![new_stage("voice")])).await;
    let wait = || post(WAIT, "application/json", r#"{"jobId":"film-1","wait":"30s"}"#);
    let began = Instant::now();
    let late = send(server.address, with(wait(), &[("connect-timeout-ms", "50")])).await;
    // A wait ends before the deadline, with what there is.
    late.ok();
    assert!(began.elapsed() < Duration::from_secs(20));
    let zero = send(server.address, with(wait(), &[("connect-timeout-ms", "0")])).await;
    zero.refused(504, "deadline_exceeded", "DEADLINE_EXCEEDED");

    let read = || post(GET_JOB, "application/json", r#"{"jobId":"film-1"}"#);
    for good in ["60000", "9999999999", "0000000100"] {
        send(server.address, with(read(), &[("connect-timeout-ms", good)])).await.ok();
    }
    for bad in ["soon", "-1", "1.5", "12345678901", "+1", " "] {
        let reply = send(server.address, with(read(), &[("connect-timeout-ms", bad)])).await;
        assert_eq!(reply.refused(400, "invalid_argument", "INVALID_FIELD")["field"], "connect-timeout-ms", "{bad}");
    }
    send(server.address, with(read(), &[("connect-protocol-version", "1")])).await.ok();
    let version = send(server.address, with(read(), &[("connect-protocol-version", "2")])).await;
    version.refused(400, "invalid_argument", "INVALID_FIELD");
    let encoded = |encoding: &str| send(server.address, with(read(), &[("content-encoding", encoding)]));
    encoded("identity").await.ok();
    for encoding in ["gzip", "br", "zstd"] {
        let reply = encoded(encoding).await;
        reply.refused(501, "unimplemented", "UNIMPLEMENTED");
        assert!(reply.text().contains("supported is: identity"), "{}", reply.text());
    }
    server.stop().await;
}
