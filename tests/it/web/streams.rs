//! Server streams: envelopes of Connect, and server-sent events that a page resumes.

use std::net::SocketAddr;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use interlock::proto;
use prost::Message;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::client::*;
use crate::harness::*;

/// Makes a job that has ended, and returns its last version.
async fn finished(api: &Api, job_id: &str) -> i64 {
    api.submit(new_job(job_id, vec![new_stage("voice")])).await;
    let lease = api.lease("default").await;
    api.complete(&lease, json!({"url": "x"})).await;
    api.job(job_id).await.version
}

fn watch(form: &str, message: &[u8]) -> Sent {
    post(WATCH_JOB, &format!("application/connect+{form}"), enveloped(0, message))
}

#[tokio::test]
async fn a_stream_of_connect_ends_with_an_envelope_of_its_own() {
    let server = Server::start().await;
    finished(&server.api, "film-1").await;
    let reply = send(server.address, watch("json", br#"{"jobId":"film-1"}"#)).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/connect+json"));
    let messages = envelopes(&reply.body);
    let json: Vec<Value> = messages.iter().map(|(_, json)| serde_json::from_slice(json).expect("JSON")).collect();
    assert_eq!(json[0]["snapshot"]["state"], "JOB_STATE_SUCCEEDED", "{json:?}");
    assert_eq!(messages.iter().map(|(flags, _)| *flags).collect::<Vec<_>>(), [0, 2]);
    assert!(json[1].get("error").is_none(), "{json:?}");

    let request = proto::WatchJobRequest { job_id: "film-1".to_owned(), from_version: 1 }.encode_to_vec();
    let reply = send(server.address, watch("proto", &request)).await;
    assert_eq!(reply.header("content-type"), "application/connect+proto");
    let messages = envelopes(&reply.body);
    let (end, changes) = messages.split_last().expect("an end");
    assert!(end.0 == 2 && changes.len() >= 2, "{messages:?}");
    for (flags, change) in changes {
        let update = proto::WatchJobResponse::decode(change.as_slice()).expect("a message").update;
        assert!(*flags == 0 && matches!(update, Some(proto::watch_job_response::Update::Change(_))), "{update:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn errors_of_a_stream_are_in_its_end() {
    let server = Server::start().await;
    let end = async |request: Sent| {
        let reply = send(server.address, request).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/connect+json"));
        let messages = envelopes(&reply.body);
        assert_eq!(messages.iter().map(|(flags, _)| *flags).collect::<Vec<_>>(), [2]);
        serde_json::from_slice::<Value>(&messages[0].1).expect("JSON")["error"].clone()
    };
    error_of(&end(watch("json", br#"{"jobId":"none"}"#)).await, "not_found", "JOB_NOT_FOUND");
    error_of(&end(watch("json", br#"{"job":1}"#)).await, "invalid_argument", "INVALID_FIELD");
    let json = |body: Vec<u8>| post(WATCH_JOB, "application/connect+json", body);
    let message = br#"{"jobId":"none"}"#;
    for body in [
        Vec::new(),
        vec![0, 0, 0],
        enveloped(0, message)[..10].to_vec(),
        [enveloped(0, message), enveloped(0, message)].concat(),
        enveloped(2, message),
        [&[0][..], &u32::MAX.to_be_bytes(), &message[..]].concat(),
    ] {
        error_of(&end(json(body)).await, "invalid_argument", "INVALID_FIELD");
    }
    error_of(&end(json(enveloped(1, message))).await, "unimplemented", "UNIMPLEMENTED");
    let gzip = with(watch("json", message), &[("connect-content-encoding", "gzip")]);
    error_of(&end(gzip).await, "unimplemented", "UNIMPLEMENTED");
    let work = post("/interlock.v1.WorkerService/Work", "application/connect+json", enveloped(0, b"{}"));
    error_of(&end(work).await, "unimplemented", "UNIMPLEMENTED");
    server.stop().await;
}

#[tokio::test]
async fn a_timeout_ends_a_stream_in_its_end() {
    let server = Server::start().await;
    server.api.submit(new_job("film-1", vec![new_stage("voice")])).await;
    let request = with(watch("json", br#"{"jobId":"film-1"}"#), &[("connect-timeout-ms", "200")]);
    let reply = send(server.address, request).await;
    let messages = envelopes(&reply.body);
    let end: Value = serde_json::from_slice(&messages.last().expect("an end").1).expect("JSON");
    error_of(&end["error"], "deadline_exceeded", "DEADLINE_EXCEEDED");
    assert_eq!(messages.len(), 2, "a snapshot before");
    server.stop().await;
}

/// An event as a page gets it.
#[derive(Debug)]
struct Event {
    id: Option<i64>,
    name: String,
    data: Value,
}

/// Events as they arrive.
struct Events {
    body: Incoming,
    received: String,
}

impl Events {
    async fn open(address: SocketAddr, query: &str, last: Option<i64>) -> Events {
        Events::of(address, WATCH_JOB, query, last).await
    }

    async fn of(address: SocketAddr, path: &str, query: &str, last: Option<i64>) -> Events {
        let mut request = get(&format!("{path}?{query}"));
        if let Some(last) = last {
            request = with(request, &[("last-event-id", &last.to_string())]);
        }
        let response = open(address, request).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().expect("a value"))
        );
        Events { body: response.into_body(), received: String::new() }
    }

    /// The next event. None: the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.received.split_once("\n\n") {
                let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
                let event = Event {
                    id: line("id").map(|id| id.parse().expect("a version")),
                    name: line("event").expect("a name").to_owned(),
                    data: serde_json::from_str(line("data").expect("data")).expect("JSON"),
                };
                self.received = rest.to_owned();
                return Some(event);
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("in time")?.expect("no reset");
            if let Ok(data) = frame.into_data() {
                self.received.push_str(std::str::from_utf8(&data).expect("whole characters"));
            }
        }
    }
}

#[tokio::test]
async fn events_carry_versions_and_a_page_resumes_after_the_last() {
    let server = Server::start().await;
    server.api.submit(new_job("film-1", vec![new_stage("voice")])).await;
    let mut events = Events::open(server.address, "job_id=film-1", None).await;
    let first = events.next().await.expect("a snapshot");
    assert_eq!((first.id, first.name.as_str()), (Some(1), "snapshot"));
    assert_eq!(first.data["snapshot"]["jobId"], "film-1");
    let lease = server.api.lease("default").await;
    let second = events.next().await.expect("a change");
    assert_eq!((second.id, second.name.as_str()), (Some(2), "change"));
    assert_eq!(second.data["change"]["previousVersion"], "1");
    drop(events);

    // Another server, and what happened meanwhile.
    server.api.complete(&lease, json!({})).await;
    let other = server.beside().await;
    for query in ["job_id=film-1", "message=%7B%22jobId%22%3A%22film-1%22%2C%22fromVersion%22%3A1%7D&encoding=json"] {
        let mut events = Events::open(other.address, query, Some(2)).await;
        let mut version = 2;
        let end = loop {
            let event = events.next().await.expect("an end");
            if event.name == "end" {
                break event;
            }
            assert_eq!(event.name, "change", "{event:?}");
            assert_eq!(event.data["change"]["previousVersion"], version.to_string(), "{event:?}");
            version = event.id.expect("a version");
        };
        assert_eq!((end.data, end.id), (json!({}), None));
        assert_eq!(version, server.api.job("film-1").await.version);
        assert!(events.next().await.is_none());
    }
    other.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn events_of_a_session_have_ids_only_where_all_segments_were_sent() {
    const WATCH_SESSION: &str = "/interlock.v1.TimelineService/WatchSession";
    let server = Server::start().await;
    let api = &server.api;
    let query = format!("session_id={SESSION}");
    let mut events = Events::of(server.address, WATCH_SESSION, &query, None).await;
    let absent = events.next().await.expect("a removal");
    assert_eq!((absent.id, absent.name.as_str()), (Some(0), "removal"));
    api.append_segments(vec![segment("a"), segment("b")]).await;
    let session = events.next().await.expect("a session");
    assert_eq!((session.id, session.name.as_str()), (None, "session"), "its segments were not sent yet");
    let changes = events.next().await.expect("changes");
    assert_eq!((changes.id, changes.name.as_str()), (Some(1), "changes"));
    api.append_segments(vec![segment("c")]).await;
    drop(events);
    let mut events = Events::of(server.address, WATCH_SESSION, &query, Some(1)).await;
    let later = loop {
        let event = events.next().await.expect("changes");
        if event.name == "changes" {
            break event;
        }
    };
    assert_eq!((later.id, &later.data["changes"]["segments"][0]["key"]), (Some(2), &json!("c")));
}

#[tokio::test]
async fn what_fails_before_the_first_event_is_an_error_of_http() {
    let server = Server::start().await;
    let watch = async |query: &str| send(server.address, get(&format!("{WATCH_JOB}?{query}"))).await;
    watch("job_id=none").await.refused(404, "not_found", "JOB_NOT_FOUND");
    watch("").await.refused(400, "invalid_argument", "INVALID_FIELD");
    watch("job_id=a&from_version=x").await.refused(400, "invalid_argument", "INVALID_FIELD");
    server.stop().await;
}

#[tokio::test]
async fn a_drain_tells_pages_to_come_back() {
    let server = Server::start().await;
    let other = server.beside().await;
    server.api.submit(new_job("film-1", vec![new_stage("voice")])).await;
    let mut events = Events::open(server.address, "job_id=film-1", None).await;
    assert_eq!(events.next().await.expect("a snapshot").id, Some(1));
    server.begin_stop();
    let end = events.next().await.expect("an end");
    assert_eq!(end.name, "end");
    error_of(&end.data["error"], "unavailable", "DRAINING");
    assert!(events.next().await.is_none());
    // All jobs, where there is no version to resume from.
    let all = open(other.address, get("/interlock.v1.JobService/WatchJobs?filter=kind%20%3D%20%22film%22")).await;
    let mut all = Events { body: all.into_body(), received: String::new() };
    let names = [all.next().await.expect("a job"), all.next().await.expect("the end of the beginning")];
    assert_eq!(names.map(|event| (event.id, event.name)), [(None, "job".to_owned()), (None, "caught_up".to_owned())]);
    drop(all);
    server.stop().await;
    other.stop().await;
}
