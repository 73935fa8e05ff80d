//! `interlock stage`: leases, heartbeats and outcomes by hand.

use interlock::proto::{JobState, StageState};
use serde_json::json;

use super::verb::run;
use crate::harness::*;

#[tokio::test]
async fn a_stage_is_leased_renewed_and_completed() {
    let server = Server::start().await;
    let mut spec = new_stage("s");
    spec.input = struct_of(json!({ "page": 1 }));
    server.api.submit(new_job("j", vec![spec, new_stage_after("t", &["s"])])).await;
    let leased = run(server.address, &["stage", "lease", "--worker-id", "me", "--lease-duration", "5m"]).await.ok();
    assert!(leased.contains("stage         s\n") && leased.contains("{\"page\":1.0}"), "{leased}");
    let token = leased.lines().last().expect("a token").to_owned();
    let heartbeat = ["stage", "heartbeat", "--token", &token, "--progress", "0.5", "--message", "halfway"];
    let renewed = run(server.address, &heartbeat).await.ok();
    assert!(renewed.starts_with("CONTINUE, the lease ends at 2"), "{renewed}");
    let renewed = run(server.address, &[&heartbeat[..], &["--output", "json"]].concat()).await.json();
    assert_eq!(renewed["statuses"][0]["directive"], "LEASE_DIRECTIVE_CONTINUE");
    let get = run(server.address, &["stage", "get", "j", "s"]).await.ok();
    assert!(get.contains("RUNNING 50%") && get.contains("halfway") && get.contains("me"), "{get}");

    let complete =
        ["stage", "complete", "--token", &token, "--artifacts", r#"{"url":"a"}"#, "--add-stages", r#"[{"name":"u"}]"#];
    assert_eq!(run(server.address, &complete).await.ok(), "s  SUCCEEDED 100%\n");
    let get = run(server.address, &["stage", "get", "j", "s", "--output", "json"]).await.json();
    assert_eq!(get["stage"]["artifacts"], json!({ "url": "a" }));
    let lost = run(server.address, &["stage", "heartbeat", "--token", &token]).await;
    assert_eq!((lost.code, &*lost.stdout), (Some(5), "LOST\n"), "{lost:?}");

    // Two at once, as JSON, with what the stage before has made.
    let leased = run(server.address, &["stage", "lease", "--max-stages", "5", "--output", "json"]).await.json();
    let leases = leased["leases"].as_array().expect("leases");
    assert_eq!(leases.len(), 2, "{leased}");
    assert!(leases.iter().any(|lease| lease["dependencies"][0]["artifacts"] == json!({ "url": "a" })), "{leased}");
    let token = leases[0]["leaseToken"].as_str().expect("a token");
    assert!(run(server.address, &["stage", "release", "--token", token]).await.ok().contains("READY"));
}

#[tokio::test]
async fn a_stage_fails_by_class_and_by_name() {
    let server = Server::start().await;
    server.api.submit(new_job("j", vec![new_stage("s")])).await;
    let leased = run(server.address, &["stage", "lease", "--output", "json"]).await.json();
    let token = leased["leases"][0]["leaseToken"].as_str().expect("a token");
    let fail =
        ["stage", "fail", "--token", token, "--class", "rate-limited", "--code", "429", "--message", "slow down"];
    let failed = run(server.address, &[&fail[..], &["--retry-after", "1h", "--output", "json"]].concat()).await.json();
    assert_eq!(failed["stage"]["state"], "STAGE_STATE_BACKOFF");
    assert_eq!(failed["stage"]["failure"]["failureClass"], "FAILURE_CLASS_RATE_LIMITED");
    let get = run(server.address, &["stage", "get", "j", "s"]).await.ok();
    assert!(get.contains("RATE_LIMITED 429 slow down"), "{get}");

    server.api.submit(new_job("k", vec![new_stage("s")])).await;
    assert_eq!(run(server.address, &["stage", "complete", "k", "s"]).await.ok(), "s  SUCCEEDED 100%\n");
    server.api.job_in("k", JobState::Succeeded).await;
    let again = run(server.address, &["stage", "fail", "k", "s"]).await.failed(3);
    assert!(again.contains("INVALID_TRANSITION"), "{again}");
    let unnamed = run(server.address, &["stage", "complete"]).await.failed(2);
    assert!(unnamed.contains("INTERLOCK_LEASE_TOKEN"), "{unnamed}");
    assert_eq!(server.api.stage("j", "s").await.state(), StageState::Backoff);
}

#[tokio::test]
async fn no_ready_stage_is_told_and_a_misspelt_queue_too() {
    let server = Server::start().await;
    let none = run(server.address, &["stage", "lease", "--queue", "gpus"]).await;
    assert_eq!((none.code, &*none.stdout, &*none.stderr), (Some(0), "", "no stage is ready in gpus\n"));
    let mut spec = new_stage("s");
    spec.queue = "gpu".to_owned();
    server.api.submit(new_job("j", vec![spec])).await;
    let none = run(server.address, &["stage", "lease", "--queue", "gpus"]).await;
    assert_eq!(none.stderr, "no stage is ready in queue \"gpus\"; stages are ready in \"gpu\" (1)\n");
}
