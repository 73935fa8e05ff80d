//! Mistakes of users: each is told within moments, by one line and an exit code, and nothing is silent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use interlock::config::Auth;

use super::verb::{Running, run, run_into, run_with_input};
use crate::harness::*;

/// Commands that call a server in different ways.
const COMMANDS: [&[&str]; 12] = [
    &["job", "list"],
    &["record", "get", "a", "b"],
    &["record", "watch", "a", "b"],
    &["session", "get", "a"],
    &["session", "watch", "a"],
    &["session", "export", "a"],
    &["permit", "acquire", "lock", "--wait", "10s"],
    &["permit", "watch", "lock"],
    &["stage", "lease", "--wait", "10s"],
    &["explain", "a"],
    &["top", "--once"],
    &["work", "--", "true"],
];

/// Runs all commands at once. Returns each with its error.
async fn all(server: SocketAddr, flags: &[&str], code: i32) -> Vec<String> {
    let runs = COMMANDS.map(|command| {
        // What follows `--` is the program.
        let end = command.iter().position(|word| *word == "--").unwrap_or(command.len());
        let arguments = [&command[..end], flags, &command[end..]].concat();
        async move { run(server, &arguments).await.failed(code) }
    });
    futures::future::join_all(runs).await
}

#[tokio::test]
async fn a_port_without_a_server_is_told() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    for line in all(nowhere, &[], 4).await {
        assert!(line.starts_with("error: UNAVAILABLE: http://127.0.0.1:1: Connection refused"), "{line}");
    }
}

#[tokio::test]
async fn a_missing_namespace_is_told() {
    let server = Server::start().await;
    for line in all(server.address, &["--namespace", "nope"], 3).await {
        assert_eq!(line, "error: NOT_FOUND / NAMESPACE_NOT_FOUND: namespace \"nope\" does not exist");
    }
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_told() {
    let server = Server::with(|config| config.auth = Some(Auth::Required)).await;
    let (none, wrong) = ([], ["--key", "il_abcdefgh_0123456789012345678901234567890123456789012"]);
    let flags: [&[&str]; 2] = [&none, &wrong];
    for flags in flags {
        for line in all(server.address, flags, 3).await {
            assert!(line.starts_with("error: UNAUTHENTICATED / CREDENTIAL_INVALID: "), "{line}");
            assert!(line.ends_with("; set INTERLOCK_API_KEY to a valid API key"), "{line}");
        }
    }
}

#[tokio::test]
async fn an_output_that_cannot_be_written_is_told() {
    let server = Server::start().await;
    let segment = r#"{"key":"1","kind":"SEGMENT_KIND_TRANSCRIPT","text":"Good morning"}"#;
    run_with_input(server.address, &["session", "import", "a", "-"], segment).await.ok();
    let target = server.address.to_string();
    let commands: [&[&str]; 9] = [
        &["namespace", "list"],
        &["session", "export", "a"],
        &["session", "watch", "a"],
        &["completion", "bash"],
        &["--help"],
        &["--version"],
        &["help", "job"],
        &["job", "submit", "--help"],
        &["bench", "submit", "--target", &target],
    ];
    for command in commands {
        let line = run_into(server.address, command, "/dev/full").await.failed(2);
        assert!(line.starts_with("error: cannot write to the standard output: No space left on device"), "{line}");
    }
}

#[tokio::test]
async fn a_port_of_another_program_is_told() {
    // It speaks, but not this.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _sent = stream.try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let line = run(address, &["job", "list"]).await.failed(4);
    assert!(line.contains("if another program listens at this address"), "{line}");
}

#[tokio::test]
async fn a_server_that_does_not_respond_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    for command in COMMANDS.into_iter().filter(|command| !command.contains(&"--wait")) {
        let began = Instant::now();
        let mut running = Running::start(address, command);
        let line = running.error_line().await;
        assert_eq!(line, format!("waiting for http://{address} to respond"), "{command:?}");
        // It is 1.5 s; the rest is for a busy machine.
        assert!(began.elapsed() < Duration::from_secs(15), "{command:?}");
    }
}
