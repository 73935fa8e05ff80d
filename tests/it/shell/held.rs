//! `interlock permit acquire -- COMMAND`: a permit for as long as a command runs.

use std::time::Duration;

use interlock::proto;
use rustix::process::Signal;

use super::verb::{Running, run};
use crate::harness::*;

#[tokio::test]
async fn a_command_runs_with_the_permit_and_its_exit_code_is_passed_on() {
    let server = Server::start().await;
    server.api.set_policy("api", capacity(1)).await;
    let acquire = ["permit", "acquire", "api", "--", "sh", "-c"];
    let script = "echo \"$INTERLOCK_FENCING_TOKEN\"; test -n \"$INTERLOCK_PERMIT_TOKEN\"";
    let printed = run(server.address, &[&acquire[..], &[script]].concat()).await.ok();
    assert!(printed.trim().parse::<i64>().is_ok_and(|token| token > 0), "{printed}");
    let failed = run(server.address, &[&acquire[..], &["exit 75"]].concat()).await;
    assert_eq!(failed.code, Some(75), "{failed:?}");
    let killed = run(server.address, &[&acquire[..], &["kill -9 $$"]].concat()).await;
    assert_eq!(killed.code, Some(137), "{killed:?}");
    let missing = run(server.address, &["permit", "acquire", "api", "--", "/no/such/program"]).await.failed(2);
    assert!(missing.starts_with("error: cannot run \"/no/such/program\": "), "{missing}");
    assert_eq!(server.api.resource("api").await.in_use, 0, "all were released");
}

#[tokio::test]
async fn the_permit_is_renewed_while_the_command_runs() {
    let server = Server::start().await;
    let directory = Directory::new();
    let script = format!("until [ -e {} ]; do sleep 0.05; done", directory.file("go"));
    let held = Running::start(server.address, &["permit", "acquire", "lock", "--ttl", "1s", "--", "sh", "-c", &script]);
    let expiry = async || {
        let get = proto::GetResourceRequest { name: "lock".to_owned() };
        let found = server.api.permits().get_resource(get).await.ok()?;
        found.into_inner().resource?.holders.first()?.expire_time
    };
    let first = eventually("the permit", async || expiry().await).await;
    // More than its ttl later it is the same permit.
    eventually("renewals", async || expiry().await.filter(|at| at.seconds >= first.seconds + 2)).await;
    directory.create("go");
    held.ended().await.ok();
    assert_eq!(server.api.resource("lock").await.in_use, 0);
}

#[tokio::test]
async fn the_command_is_stopped_if_the_permit_is_lost() {
    let server = Server::start().await;
    let directory = Directory::new();
    let script = format!("touch {}; while :; do sleep 0.05; done", directory.file("started"));
    let arguments = ["permit", "acquire", "lock", "--ttl", "1s", "--grace", "10s", "--", "sh", "-c", &script];
    let held = Running::start(server.address, &arguments);
    directory.wait_for("started").await;
    let fencing = server.api.resource("lock").await.holders[0].fencing_token.to_string();
    run(server.address, &["permit", "revoke", "lock", &fencing]).await.ok();
    let ended = held.ended().await;
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert_eq!(ended.stderr, "error: the permit was lost, and the command was stopped\n");
}

#[tokio::test]
async fn a_signal_is_passed_on_and_the_permit_is_released() {
    let server = Server::start().await;
    let directory = Directory::new();
    let script = format!("trap 'exit 7' TERM; touch {}; while :; do sleep 0.05; done", directory.file("started"));
    let held = Running::start(server.address, &["permit", "acquire", "lock", "--", "sh", "-c", &script]);
    directory.wait_for("started").await;
    held.signal(Signal::TERM);
    assert_eq!(held.ended().await.code, Some(7));
    assert_eq!(server.api.resource("lock").await.in_use, 0);
}

#[tokio::test]
async fn a_wait_for_a_held_permit_ends_in_time() {
    let server = Server::start().await;
    server.api.acquire("lock").await;
    let began = std::time::Instant::now();
    let denied = run(server.address, &["permit", "acquire", "lock", "--wait", "1s", "--", "true"]).await.failed(3);
    assert!(denied.contains("HELD"), "{denied}");
    assert!(began.elapsed() >= Duration::from_secs(1));
}
