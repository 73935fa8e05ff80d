//! `interlock job`: submit, list, get, cancel, retry, explain, and how they fail.

use std::net::SocketAddr;

use interlock::proto::{self, FailureClass, JobState};
use serde_json::json;

use super::verb::run;
use crate::harness::*;

#[tokio::test]
async fn job_submit_sends_what_its_flags_describe() {
    let server = Server::start().await;
    let stages = r#"[{"name":"voice","queue":"gpu"},"image",{"name":"render","dependsOn":["voice","image"],
        "retry_policy":{"max_attempts":5},"timeout":"90s"}]"#;
    let arguments = ["job", "submit", "--kind", "film", "--job-id", "f", "--payload", r#"{"title":"Signals"}"#]
        .into_iter()
        .chain(["--stages", stages, "--label", "customer=acme", "--label", "season=2", "--priority", "-5"]);
    let printed = run(server.address, &arguments.collect::<Vec<_>>()).await.ok();
    assert_eq!(printed, "f  PENDING, 3 stages\n");
    let job = server.api.job("f").await;
    assert_eq!((&*job.kind, job.priority), ("film", -5));
    assert_eq!(job.labels, labels(&[("customer", "acme"), ("season", "2")]));
    assert_eq!(job.payload, struct_of(json!({ "title": "Signals" })));
    assert_eq!((&*stage(&job, "voice").queue, &*stage(&job, "image").queue), ("gpu", "default"));
    let render = stage(&job, "render");
    assert_eq!((&*render.depends_on, render.max_attempts), (&*texts(&["voice", "image"]), 5));
}

#[tokio::test]
async fn a_request_id_makes_one_job_of_two_submissions() {
    let server = Server::start().await;
    let id = unique();
    let arguments = ["job", "submit", "--kind", "film", "--request-id", &id, "--output", "json"];
    let first = run(server.address, &arguments).await.json();
    let second = run(server.address, &arguments).await.json();
    assert_eq!(second["replayed"], json!(true));
    assert_eq!(first["job"]["jobId"], second["job"]["jobId"]);
    assert_eq!(first["job"]["state"], "JOB_STATE_PENDING");
}

#[tokio::test]
async fn jobs_are_listed_shown_and_explained() {
    let server = Server::start().await;
    for job_id in ["a", "b", "c"] {
        server.api.submit(new_job(job_id, vec![new_stage("s")])).await;
    }
    server.api.lease("default").await;
    let list = run(server.address, &["job", "list", "--filter", "state = RUNNING"]).await.ok();
    let lines: Vec<_> = list.lines().map(|line| line.split_whitespace().take(5).collect::<Vec<_>>()).collect();
    assert_eq!(lines, [["JOB", "KIND", "STATE", "DONE", "STAGES"], ["a", "film", "RUNNING", "0%", "0/1"]]);
    let arguments = ["job", "list", "--order-by", "create_time", "--limit", "2", "--output", "json"];
    let list = run(server.address, &arguments).await.json();
    assert_eq!(list["jobs"].as_array().map(Vec::len), Some(2));
    assert_eq!(list["jobs"][0]["jobId"], "a");
    assert!(list["nextPageToken"].is_string());
    let more = run(server.address, &["job", "list", "--limit", "2"]).await;
    assert_eq!((more.code, &*more.stderr), (Some(0), "there are more: --limit is 2\n"));

    let get = run(server.address, &["job", "get", "a"]).await.ok();
    assert!(get.contains("state      RUNNING 0%\n") && get.contains("worker"), "{get}");
    let get = run(server.address, &["job", "get", "a", "--output", "json"]).await.json();
    assert_eq!(get["job"]["stages"][0]["lease"]["workerId"], "worker");
    assert_eq!(get["job"]["version"], "2");

    let explain = run(server.address, &["job", "explain", "a"]).await.ok();
    assert!(explain.starts_with("Stage \"s\" is running on worker \"worker\".\n"), "{explain}");
    let explain = run(server.address, &["job", "explain", "b", "--output", "json"]).await.json();
    assert_eq!(explain["stages"][0]["reason"], "STAGE_WAIT_REASON_QUEUED");
}

#[tokio::test]
async fn jobs_are_cancelled_and_retried() {
    let server = Server::start().await;
    server.api.submit(new_job("a", vec![new_stage("s")])).await;
    let cancelled = run(server.address, &["job", "cancel", "a", "--reason", "changed my mind"]).await.ok();
    assert_eq!(cancelled, "a  CANCELLED\n");
    assert_eq!(server.api.job("a").await.cancel_reason, "changed my mind");
    let again = run(server.address, &["job", "cancel", "a"]).await.ok();
    assert_eq!(again, "a  CANCELLED, as it was before\n");
    assert_eq!(run(server.address, &["job", "retry", "a"]).await.ok(), "a  PENDING, run 2\n");

    server.api.lease("default").await;
    let cancelling = run(server.address, &["job", "cancel", "a", "--grace", "1h"]).await.ok();
    assert!(cancelling.starts_with("a  CANCELLING, workers have until 2"), "{cancelling}");

    server.api.submit(new_job("b", vec![new_stage("s"), new_stage_after("t", &["s"])])).await;
    for _ in 0..2 {
        server.api.complete(&server.api.lease("default").await, json!({})).await;
    }
    server.api.job_in("b", JobState::Succeeded).await;
    let retried = run(server.address, &["job", "retry", "b", "--from-stage", "t", "--output", "json"]).await.json();
    assert_eq!((&retried["job"]["run"], &retried["job"]["state"]), (&json!(2), &json!("JOB_STATE_PENDING")));
}

#[tokio::test]
async fn failures_are_one_line_and_an_exit_code() {
    let server = Server::start().await;
    let failed = async |arguments: &[&str], code| run(server.address, arguments).await.failed(code);
    let missing = "error: NOT_FOUND / JOB_NOT_FOUND: job \"nope\" does not exist";
    for verb in ["get", "watch", "cancel", "retry", "explain"] {
        assert_eq!(failed(&["job", verb, "nope"], 3).await, missing);
    }
    let elsewhere = failed(&["job", "list", "--namespace", "nope"], 3).await;
    assert_eq!(elsewhere, "error: NOT_FOUND / NAMESPACE_NOT_FOUND: namespace \"nope\" does not exist");
    let submit =
        async |stages: &str, code| failed(&["job", "submit", "--kind", "film", "--stages", stages], code).await;
    let field = submit(r#"[{"name":"a"},{"name":"b","depends_on":["c"]}]"#, 3).await;
    assert!(field.starts_with("error: INVALID_ARGUMENT / INVALID_FIELD: stages[1].depends_on[0]: "), "{field}");
    let misspelt = submit(r#"[{"name":"a"},{"name":"b","dependOn":[]}]"#, 2).await;
    assert!(misspelt.starts_with("error: --stages: stages[1]: "), "{misspelt}");
    assert!(failed(&["job", "list", "--server", "grpcs://a"], 2).await.contains("http:// or https://"));
    assert_eq!(run(server.address, &["job", "submit"]).await.code, Some(2));

    // No server listens there: the port is below those that are given out.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    for arguments in [&["job", "list"][..], &["job", "watch", "a"], &["top", "--once"]] {
        let line = run(nowhere, arguments).await.failed(4);
        assert!(line.starts_with("error: UNAVAILABLE: http://127.0.0.1:1: Connection refused"), "{line}");
    }
    let line = run(nowhere, &["job", "submit", "--kind", "film"]).await.failed(4);
    assert!(line.contains("; it is safe to repeat this with --request-id "), "{line}");
}

#[tokio::test]
async fn a_failed_job_shows_why() {
    let server = Server::start().await;
    server.api.submit(new_job("a", vec![new_stage("voice")])).await;
    server.api.fail(&server.api.lease("default").await, failure(FailureClass::ClientError)).await;
    let get = run(server.address, &["job", "get", "a"]).await.ok();
    assert!(get.contains("failure    voice: CLIENT_ERROR it broke\n"), "{get}");
    assert!(!get.contains("attempt 1 of 3"), "{get}");
}

#[tokio::test]
async fn the_traceback_of_a_failure_is_shown() {
    let server = Server::start().await;
    server.api.submit(new_job("a", vec![new_stage("voice"), new_stage("image")])).await;
    let details =
        struct_of(json!({ "traceback": "Traceback:\n  File \"voice.py\", line 7\nKeyError: 'url'\n", "limit": 3 }));
    let printed = proto::Failure { details, ..failure(FailureClass::ClientError) };
    server.api.fail(&server.api.lease("default").await, printed).await;
    let get = run(server.address, &["job", "get", "a"]).await.ok();
    let expected = "\nvoice: CLIENT_ERROR it broke (attempt 1 of 3)\n  details  {\"limit\":3.0}\n  Traceback:\n    File \"voice.py\", line 7\n  KeyError: 'url'\n";
    assert!(get.ends_with(expected), "{get}");
}
