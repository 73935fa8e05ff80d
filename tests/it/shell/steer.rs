//! `interlock job pause|resume|update|delete|events`, `interlock explain` and `interlock completion`.

use interlock::proto::{FailureClass, JobState};
use serde_json::json;

use super::verb::run;
use crate::harness::*;

#[tokio::test]
async fn a_job_is_paused_resumed_changed_and_deleted() {
    let server = Server::start().await;
    server.api.submit(new_job("j", vec![new_stage("s")])).await;
    assert_eq!(run(server.address, &["job", "pause", "j"]).await.ok(), "j  PAUSED\n");
    assert_eq!(run(server.address, &["job", "pause", "j"]).await.ok(), "j  PAUSED, as it was before\n");
    let resumed = run(server.address, &["job", "resume", "j", "--output", "json"]).await.json();
    assert_eq!(resumed["job"]["state"], "JOB_STATE_PENDING");

    let update = ["job", "update", "j", "--label", "a=b", "--priority", "-3", "--context"];
    let update = [&update[..], &[r#"[{"field":"budget","increment":5}]"#]].concat();
    assert_eq!(run(server.address, &update).await.ok(), "j  PENDING, version 4\n");
    let job = server.api.job("j").await;
    assert_eq!((job.priority, job.labels, job.context), (-3, labels(&[("a", "b")]), struct_of(json!({ "budget": 5 }))));
    let cleared = run(server.address, &["job", "update", "j", "--clear-labels", "--output", "json"]).await.json();
    assert_eq!((cleared["job"].get("labels"), &cleared["job"]["priority"]), (None, &json!(-3)));
    assert_eq!(run(server.address, &["job", "update", "j"]).await.code, Some(2));
    let stale =
        run(server.address, &["job", "update", "j", "--priority", "1", "--expected-version", "1"]).await.failed(3);
    assert!(stale.contains("ABORTED / VERSION_MISMATCH"), "{stale}");

    let early = run(server.address, &["job", "delete", "j"]).await.failed(3);
    assert!(early.contains("INVALID_TRANSITION"), "{early}");
    run(server.address, &["job", "cancel", "j"]).await.ok();
    assert_eq!(run(server.address, &["job", "delete", "j"]).await.ok(), "j  deleted\n");
    assert!(run(server.address, &["job", "get", "j"]).await.failed(3).contains("JOB_NOT_FOUND"));
}

#[tokio::test]
async fn the_history_of_a_job_is_listed() {
    let server = Server::start().await;
    server.api.submit(new_job("j", vec![new_stage("s")])).await;
    server.api.fail(&server.api.lease("default").await, failure(FailureClass::ClientError)).await;
    server.api.job_in("j", JobState::Failed).await;
    let events = run(server.address, &["job", "events", "j"]).await.ok();
    let words: Vec<Vec<_>> = events.lines().map(|line| line.split_whitespace().collect()).collect();
    let kinds: Vec<_> = words[1..].iter().map(|row| (row[0], row[3])).collect();
    assert_eq!(kinds, [("1", "SUBMITTED"), ("2", "STAGE_STARTED"), ("3", "STAGE_FAILED")]);
    assert!(events.contains("worker:worker") && events.contains("s FAILED (CLIENT_ERROR it broke)"), "{events}");
    let events = run(server.address, &["job", "events", "j", "--from-version", "2", "--output", "json"]).await.json();
    assert_eq!(events["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(events["events"][0]["eventType"], "JOB_EVENT_TYPE_STAGE_FAILED");
}

#[tokio::test]
async fn a_job_and_a_stage_are_explained() {
    let server = Server::start().await;
    server.api.submit(new_job("j", vec![new_stage("s"), new_stage_after("t", &["s"])])).await;
    let job = run(server.address, &["explain", "j"]).await.ok();
    assert!(job.lines().any(|line| line.starts_with("t") && line.contains("DEPENDENCY")), "{job}");
    let stage = run(server.address, &["explain", "j", "t", "--output", "json"]).await.json();
    assert_eq!(stage["stages"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&stage["stages"][0]["reason"], &stage["stages"][0]["blocker"]),
        (&json!("STAGE_WAIT_REASON_DEPENDENCY"), &json!("s"))
    );
    server.api.fail(&server.api.lease("default").await, failure(FailureClass::ClientError)).await;
    let ended = run(server.address, &["explain", "j", "s"]).await.ok();
    assert!(ended.starts_with("Stage \"s\" is FAILED. ") && ended.contains("CLIENT_ERROR it broke"), "{ended}");
    let missing = run(server.address, &["job", "explain", "j", "nope"]).await.failed(3);
    assert!(missing.contains("NOT_FOUND / STAGE_NOT_FOUND"), "{missing}");
}

#[tokio::test]
async fn completion_scripts_know_the_commands() {
    let nowhere = "127.0.0.1:1".parse().expect("an address");
    let directory = Directory::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(nowhere, &["completion", shell]).await.ok();
        for word in ["permit", "reset-breaker", "exit-when-idle"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        std::fs::write(directory.file(shell), script).expect("a file");
    }
    let check = std::process::Command::new("bash").args(["-n", &directory.file("bash")]).status();
    assert!(check.expect("bash").success());
}

#[tokio::test]
async fn exit_codes_stand_in_the_help_of_each_command() {
    let nowhere = "127.0.0.1:1".parse().expect("an address");
    for command in [
        "job",
        "explain",
        "work",
        "stage",
        "queue",
        "worker",
        "record",
        "permit",
        "commit",
        "namespace",
        "top",
        "key",
        "audit",
        "doctor",
    ] {
        let help = run(nowhere, &[command, "--help"]).await.ok();
        assert!(help.contains("  3  the server refused the call"), "{command}: {help}");
    }
}
