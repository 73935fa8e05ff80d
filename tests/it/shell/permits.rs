//! `interlock permit`: permits without a command, and the rules of resources.

use interlock::proto::FailureClass;
use serde_json::json;

use super::verb::{Running, run};
use crate::harness::*;

#[tokio::test]
async fn a_permit_is_acquired_shown_renewed_and_released() {
    let server = Server::start().await;
    let acquire = ["permit", "acquire", "doc-7", "--holder", "me", "--ttl", "5m"];
    let acquired = run(server.address, &acquire).await.ok();
    assert!(acquired.starts_with("doc-7  fencing token "), "{acquired}");
    let token = acquired.lines().last().expect("a token");
    let denied = run(server.address, &acquire).await.failed(3);
    assert!(denied.starts_with("error: the permit was denied: \"doc-7\" is blocked: HELD"), "{denied}");
    let denied = run(server.address, &[&acquire[..], &["--output", "json"]].concat()).await;
    assert_eq!(denied.code, Some(3), "{denied:?}");
    assert!(denied.stdout.contains("\"blockers\""), "{denied:?}");

    let get = run(server.address, &["permit", "get", "doc-7"]).await.ok();
    assert!(get.contains("in use") && get.contains("none: it is a lock"), "{get}");
    assert!(get.lines().any(|line| line.starts_with("me") && line.contains("EXCLUSIVE")), "{get}");
    let get = run(server.address, &["permit", "get", "doc-7", "--output", "json"]).await.json();
    assert_eq!(get["resource"]["holders"][0]["holder"], "me");
    let list = run(server.address, &["permit", "list", "--prefix", "doc"]).await.ok();
    assert!(list.lines().count() == 2 && list.contains("doc-7"), "{list}");
    let list = run(server.address, &["permit", "list", "--prefix", "other", "--output", "json"]).await.json();
    assert_eq!(list, json!({}));

    let renewed = run(server.address, &["permit", "renew", token]).await.ok();
    assert!(renewed.starts_with("expires at 2"), "{renewed}");
    assert_eq!(run(server.address, &["permit", "release", token]).await.ok(), "released\n");
    let again = run(server.address, &["permit", "release", token, "--output", "json"]).await.json();
    assert_eq!(again.get("applied"), None, "{again}");
    let lost = run(server.address, &["permit", "renew", token]).await;
    assert_eq!((lost.code, &*lost.stdout, &*lost.stderr), (Some(5), "lost\n", "error: the permit is lost\n"));
    assert_eq!(run(server.address, &["permit", "delete", "doc-7"]).await.ok(), "doc-7  deleted\n");
    let missing = run(server.address, &["permit", "get", "doc-7"]).await.failed(3);
    assert!(missing.contains("RESOURCE_NOT_FOUND"), "{missing}");
}

#[tokio::test]
async fn a_waiting_caller_gets_the_permit_that_is_released() {
    let server = Server::start().await;
    let held = server.api.acquire("lock").await;
    let acquire =
        ["permit", "acquire", "lock", "--wait", "2m", "--holder", "me", "--priority", "3", "--output", "json"];
    let waiting = Running::start(server.address, &acquire);
    eventually("it is listed", async || {
        let list = run(server.address, &["permit", "waiters", "lock"]).await.ok();
        let words: Vec<Vec<_>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
        (words.len() == 2 && words[1][..4] == ["me", "3", "EXCLUSIVE", "1"]).then_some(())
    })
    .await;
    let list = run(server.address, &["permit", "waiters", "lock", "--output", "json"]).await.json();
    assert_eq!((&list["waiters"][0]["holder"], &list["callerCount"]), (&"me".into(), &1.into()));
    server.api.waits_for("lock", 1).await;
    assert!(server.api.release(&held).await);
    let acquired = waiting.ended().await.json();
    assert_eq!(acquired["permit"]["grants"][0]["resource"], "lock");
}

#[tokio::test]
async fn a_policy_is_set_shown_watched_and_removed() {
    let server = Server::start().await;
    let mut watch = Running::start(server.address, &["permit", "watch", "api"]);
    watch.line_with("api  does not exist").await;
    let policy = r#"{"capacity":2,"breaker":{"failure_threshold":1}}"#;
    let set = run(server.address, &["permit", "policy", "api", policy]).await.ok();
    assert!(set.contains("\"capacity\":\"2\"") && set.contains("CLOSED"), "{set}");
    let shown = run(server.address, &["permit", "policy", "api", "--output", "json"]).await.json();
    assert_eq!(shown["resource"]["policy"]["breaker"]["failureThreshold"], 1);
    watch.line_with("in use 0 of 2").await;

    // A failure opens the breaker, an operator closes it.
    let acquired = run(server.address, &["permit", "acquire", "api", "--shared"]).await.ok();
    let token = acquired.lines().last().expect("a token");
    run(server.address, &["permit", "release", token, "--failure-class", "server-error"]).await.ok();
    watch.line_with("breaker OPEN").await;
    let denied = run(server.address, &["permit", "acquire", "api"]).await.failed(3);
    assert!(denied.contains("BREAKER_OPEN, try again in "), "{denied}");
    let reset = ["permit", "reset-breaker", "api", "--requester", "ada", "--reason", "fixed"];
    assert_eq!(run(server.address, &reset).await.ok(), "api  breaker CLOSED\n");
    let get = run(server.address, &["permit", "get", "api"]).await.ok();
    assert!(get.contains("breaker reset at 2") && get.contains(" by ada: fixed"), "{get}");

    let acquired = run(server.address, &["permit", "acquire", "api", "--output", "json"]).await.json();
    let fencing = acquired["permit"]["grants"][0]["fencingToken"].as_str().expect("a number").to_owned();
    let revoke = ["permit", "revoke", "api", &fencing, "--requester", "ada"];
    assert_eq!(run(server.address, &revoke).await.ok(), format!("permit {fencing}  revoked\n"));
    let again = run(server.address, &[&revoke[..], &["--output", "json"]].concat()).await.json();
    assert_eq!(again.get("applied"), None);

    let removed = run(server.address, &["permit", "policy", "api", "--none"]).await.ok();
    assert!(removed.contains("none: it is a lock"), "{removed}");
    let wrong = run(server.address, &["permit", "policy", "api", r#"{"capacity":"many"}"#]).await.failed(2);
    assert!(wrong.starts_with("error: JSON: policy.capacity: "), "{wrong}");
    let wrong = run(server.address, &["permit", "policy", "api", r#"{"capacity":-1}"#]).await.failed(3);
    assert!(wrong.contains("INVALID_FIELD: policy.capacity: "), "{wrong}");
    server.api.release_failed(&server.api.acquire("api").await, FailureClass::Timeout).await;
}
