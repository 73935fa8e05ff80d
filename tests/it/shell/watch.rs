//! `interlock job watch`: to the end, in lines and in JSON, past restarts, and how it ends.

use interlock::proto::{self, FailureClass, JobState};
use serde_json::{Value, json};

use super::relay::Relay;
use super::verb::{Running, run};
use crate::harness::*;

/// Reads a watch in JSON to its end and checks that each message goes on where the one before ended.
async fn rest_without_a_hole(mut watch: Running, mut version: i64) -> (i64, String) {
    let mut state = String::new();
    while let Some(line) = watch.line().await {
        let message: Value = serde_json::from_str(&line).expect("JSON");
        let Some(change) = message.get("change") else { panic!("no change: {line}") };
        let number = |name: &str| change[name].as_str().and_then(|text| text.parse::<i64>().ok()).expect("a number");
        assert_eq!(number("previousVersion"), version, "{line}");
        version = number("version");
        state = change["state"].as_str().expect("a state").to_owned();
    }
    assert_eq!(watch.ended().await.code, Some(0));
    (version, state)
}

#[tokio::test]
async fn watch_into_a_pipe_prints_a_line_per_change() {
    let server = Server::start().await;
    let stages = vec![new_stage("voice"), new_stage_after("render", &["voice"])];
    server.api.submit(new_job("film", stages)).await;
    let mut watch = Running::start(server.address, &["job", "watch", "film"]);
    let snapshot = watch.line_with("2 stages").await;
    assert_eq!(snapshot, "    1  PENDING      0%  2 stages: 1 ready, 1 blocked");
    let lease = server.api.lease("default").await;
    watch.line_with("voice RUNNING on worker").await;
    server.api.progress(&lease, 0.5).await;
    assert_eq!(watch.line_with("voice 50%").await, "    3  RUNNING     25%  voice 50%");
    server.api.complete(&lease, json!({})).await;
    watch.line_with("voice SUCCEEDED; render READY").await;
    server.api.complete(&server.api.lease("default").await, json!({})).await;
    let ended = watch.ended().await.ok();
    assert!(ended.ends_with("SUCCEEDED  100%  render SUCCEEDED\n"), "{ended}");
    // A watch that begins after the end shows the outcome.
    let late = run(server.address, &["job", "watch", "film"]).await.ok();
    assert_eq!(late, "    6  SUCCEEDED  100%  2 stages: 2 succeeded\n");
}

#[tokio::test]
async fn a_job_can_be_submitted_and_watched_at_once() {
    let server = Server::start().await;
    let arguments = ["job", "submit", "--kind", "film", "--stages", "a,b", "--watch", "--output", "json"];
    let mut watch = Running::start(server.address, &arguments);
    let submitted: Value = serde_json::from_str(&watch.line().await.expect("a line")).expect("JSON");
    assert_eq!(submitted["job"]["stageCounts"]["ready"], 2);
    let snapshot: Value = serde_json::from_str(&watch.line().await.expect("a line")).expect("JSON");
    assert_eq!(snapshot["snapshot"]["stages"][1]["name"], "b");
    for _ in 0..2 {
        server.api.complete(&server.api.lease("default").await, json!({})).await;
    }
    assert_eq!(rest_without_a_hole(watch, 1).await, (5, "JOB_STATE_SUCCEEDED".to_owned()));
}

#[tokio::test]
async fn a_job_that_does_not_succeed_ends_the_watch_with_1() {
    let server = Server::start().await;
    for job_id in ["failed", "cancelled"] {
        server.api.submit(new_job(job_id, vec![new_stage("voice")])).await;
    }
    let failed = Running::start(server.address, &["job", "watch", "failed"]);
    let mut cancelled = Running::start(server.address, &["job", "watch", "cancelled", "--output", "json"]);
    server.api.fail(&server.api.lease("default").await, failure(FailureClass::ClientError)).await;
    let failed = failed.ended().await;
    assert_eq!((failed.code, &*failed.stderr), (Some(1), "failed FAILED: voice: CLIENT_ERROR it broke\n"));
    cancelled.line_with("snapshot").await;
    assert_eq!(run(server.address, &["job", "cancel", "cancelled"]).await.ok(), "cancelled  CANCELLED\n");
    let ended = cancelled.ended().await;
    assert_eq!((ended.code, &*ended.stderr), (Some(1), "cancelled CANCELLED\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_resumes_after_a_drain_and_a_crash() {
    let server = Server::start().await;
    let relay = Relay::to(server.address).await;
    server.api.submit(new_job("film", (0..4).map(|i| new_stage(&format!("s{i}"))).collect())).await;
    let mut watch = Running::start(relay.address, &["job", "watch", "film", "--output", "json"]);
    watch.line_with("snapshot").await;

    // Drained, with a while without a server, in which the job moves on.
    relay.lead_to(None);
    server.api.complete(&server.api.lease("default").await, json!({})).await;
    let database = server.stop().await;
    let program = Program::start(&database).await;
    relay.lead_to(Some(program.address));
    let line = watch.line_with("s0").await;
    assert!(line.contains(r#""previousVersion":"1""#), "{line}");
    watch.line_with("STAGE_STATE_SUCCEEDED").await;

    // Killed in the middle of it.
    program.kill().await;
    let server = Server::over(database, |_| {}).await;
    relay.lead_to(Some(server.address));
    for _ in 0..3 {
        server.api.complete(&server.api.lease("default").await, json!({})).await;
    }
    let (version, state) = rest_without_a_hole(watch, 3).await;
    assert_eq!((version, &*state), (9, "JOB_STATE_SUCCEEDED"));
    assert_eq!(server.api.job_in("film", JobState::Succeeded).await.version, 9);
}

#[tokio::test]
async fn watch_gives_up_after_its_retry_time() {
    let server = Server::start().await;
    let relay = Relay::to(server.address).await;
    server.api.submit(new_job("film", vec![new_stage("s")])).await;
    let mut watch = Running::start(relay.address, &["job", "watch", "film", "--retry-for", "500ms"]);
    watch.line_with("1 stage").await;
    relay.lead_to(None);
    let ended = watch.ended().await;
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(lines.len() > 2 && lines[0].contains("; again in 0."), "{ended:?}");
    assert!(lines.last().is_some_and(|line| line.starts_with("error: ")), "{ended:?}");
}

#[tokio::test]
async fn watch_resumed_on_a_deleted_job_reports_it() {
    let server = Server::start().await;
    let relay = Relay::to(server.address).await;
    server.api.submit(new_job("film", vec![new_stage("s")])).await;
    let mut watch = Running::start(relay.address, &["job", "watch", "film"]);
    watch.line_with("1 stage").await;
    relay.lead_to(None);
    server.api.complete(&server.api.lease("default").await, json!({})).await;
    ok(server.api.jobs().delete_job(proto::DeleteJobRequest { job_id: "film".into(), ..Default::default() }).await);
    relay.lead_to(Some(server.address));
    // Its outcome is no longer stored.
    let ended = watch.ended().await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.lines().last().is_some_and(|line| line.contains("JOB_NOT_FOUND")), "{ended:?}");
}
