//! HTTP that nobody should send: it is refused, in time and without memory.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::*;
use crate::harness::*;

const JSON: &str = "host: 127.0.0.1\r\ncontent-type: application/json\r\n";

/// What a server answers to a raw request.
async fn status(server: &Server, bytes: impl AsRef<[u8]>) -> String {
    let answer = raw(server.address, bytes.as_ref()).await;
    answer.split("\r\n").next().unwrap_or_default().trim_start_matches("HTTP/1.1 ").chars().take(3).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_or_malformed_are_refused() {
    let server = Server::start().await;
    let long = "x".repeat(20 << 10);
    let many: String = (0..200).map(|i| format!("x-{i}: 1\r\n")).collect();
    for (what, head, expected) in [
        ("a long header", format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}x: {long}\r\n\r\n"), &["431"][..]),
        ("many headers", format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}{many}\r\n"), &["431"]),
        ("a long query", format!("GET {GET_JOB}?job_id={long} HTTP/1.1\r\n{JSON}\r\n"), &["414", "431"]),
        ("no version", format!("POST {GET_JOB}\r\n{JSON}\r\n"), &["400"]),
        ("another version", format!("POST {GET_JOB} HTTP/3.7\r\n{JSON}\r\n"), &["400"]),
        ("a header without a name", format!("POST {GET_JOB} HTTP/1.1\r\n: x\r\n{JSON}\r\n"), &["400"]),
        ("a folded header", format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}x: 1\r\n 2\r\n\r\n"), &["400"]),
        ("a NUL", format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}x: \0\r\n\r\n"), &["400"]),
        (
            "two lengths",
            format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"),
            &["400"],
        ),
        ("a negative length", format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}content-length: -1\r\n\r\n"), &["400"]),
        (
            "a coding that is not chunked",
            format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}transfer-encoding: xchunked\r\n\r\n"),
            &["400"],
        ),
        (
            "chunked not last",
            format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}transfer-encoding: chunked, gzip\r\n\r\n"),
            &["400"],
        ),
    ] {
        let got = status(&server, head).await;
        assert!(expected.contains(&got.as_str()), "{what}: {got}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_second_request_hides_in_the_body_of_a_first() {
    let server = Server::start().await;
    let hidden = |name: &str| {
        let body = json!({"jobId": name, "kind": "film"}).to_string();
        format!("POST {SUBMIT} HTTP/1.1\r\n{JSON}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    // By the length, the hidden request is part of the body; by the chunks, it is not. The chunks count, in either order, and
    // what follows them is not read.
    for (name, both) in [
        ("a", "content-length: 500\r\ntransfer-encoding: chunked\r\n"),
        ("b", "transfer-encoding: chunked\r\ncontent-length: 500\r\n"),
    ] {
        let first = format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}{both}\r\n2\r\n{{}}\r\n0\r\n\r\n");
        let answer = raw(server.address, format!("{first}{}", hidden(name)).as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "the connection is closed: {answer}");
    }
    // The other way round: chunks that contain a request.
    let chunk = hidden("c");
    let first = format!(
        "POST {GET_JOB} HTTP/1.1\r\n{JSON}content-length: 4\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    );
    let answer = raw(server.address, first.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(server.column("SELECT job_id FROM jobs ORDER BY 1").await, [""; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_no_chunks_end_the_request() {
    let server = Server::start().await;
    for chunks in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}",
        "-2\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n{}\r\n",
        "2\r\n{}x\r\n0\r\n\r\n",
    ] {
        let check = "/grpc.health.v1.Health/Check";
        let head = format!("POST {check} HTTP/1.1\r\n{JSON}transfer-encoding: chunked\r\n\r\n{chunks}");
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("closed");
        let mut answer = Vec::new();
        let _reset = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("closed in time");
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("HTTP/1.1 200"), "{chunks:?}: {answer}");
    }
    // Whatever the size of its pieces, a message is a message.
    let body = r#"{"jobId":"none"}"#;
    let chunks: String = body.chars().map(|c| format!("1;x=y\r\n{c}\r\n")).collect();
    let head = format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}transfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    let answer = raw(server.address, format!("{head}{chunks}0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_come_end_and_take_no_places() {
    let server = Server::start().await;
    server.api.submit(new_job("film-1", vec![new_stage("voice")])).await;
    let began = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        let head = format!("POST {GET_JOB} HTTP/1.1\r\n{JSON}content-length: 100\r\n\r\n{{\"jobId\":");
        stream.write_all(head.as_bytes()).await.expect("sent");
        slow.push(stream);
    }
    let idle = TcpStream::connect(server.address).await.expect("connected");
    server.api.job("film-1").await;
    for mut stream in slow {
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("closed in time").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("took too long to arrive"), "{answer}");
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(9), "{took:?}: a slow network is given its time");
    drop(idle);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_next_request_end() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("closed in time").expect("closed well");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_not_taken_up() {
    let server = Server::start().await;
    for path in ["/", GET_JOB, "/socket"] {
        let upgrade = "connection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        let answer =
            raw(server.address, format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{upgrade}\r\n").as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 101") && answer.starts_with("HTTP/1.1 "), "{path}: {answer}");
    }
    let answer =
        raw(server.address, b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n")
            .await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_deep_json_takes_no_memory() {
    let database = Database::fresh().await;
    let program = Program::start(&database).await;
    let refused = async |body: Vec<u8>| {
        let reply = send(program.address, post(SUBMIT, "application/json", body)).await;
        reply.refused(400, "invalid_argument", "INVALID_FIELD");
        reply.text().to_owned()
    };
    let payload = |json: String| format!(r#"{{"kind":"film","payload":{{"a":{json}}}}}"#).into_bytes();
    // A first time, so that what every call takes is there.
    refused(payload("[".repeat(10))).await;
    let before = program.resident_bytes();
    let deep = refused(payload(format!("{}{}", "[".repeat(1_000), "]".repeat(1_000)))).await;
    assert!(deep.contains("recursion limit"), "{deep}");
    // Two bytes each, of which a tree of values would make hundreds.
    let wide = format!("[{}1]", "1,".repeat(2_000_000));
    for _ in 0..5 {
        assert!(refused(payload(wide.clone())).await.contains("larger than a message may be"));
    }
    let objects = format!("[{}{{}}]", "{},".repeat(1_300_000));
    refused(payload(objects)).await;
    // 100 MB, which nobody reads to their end.
    let mut stream = TcpStream::connect(program.address).await.expect("connected");
    let head = format!("POST {SUBMIT} HTTP/1.1\r\n{JSON}transfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let chunk = [b"100000\r\n", &[b' '; 1 << 20][..], b"\r\n"].concat();
    let mut sent = 0;
    while sent < 100 && stream.write_all(&chunk).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 100, "it was read to its end");
    let taken = program.resident_bytes().saturating_sub(before);
    println!("large JSON took {} KiB", taken >> 10);
    assert!(taken < 64 << 20, "{taken}");
    // With the length told beforehand, it is refused before its body.
    let told = format!("POST {SUBMIT} HTTP/1.1\r\n{JSON}content-length: 100000000\r\n\r\n");
    let answer = raw(program.address, told.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("4194304"), "{answer}");
}

/// A client that still sends would find the connection broken, and never see why it was refused.
#[tokio::test]
async fn a_refused_body_is_read_to_its_end_and_the_connection_goes_on() {
    let server = Server::start().await;
    let post = |bytes: usize| {
        format!(
            "POST {SUBMIT} HTTP/1.1\r\n{JSON}content-encoding: gzip\r\n\
            content-length: {bytes}\r\n\r\n"
        )
    };
    const BYTES: usize = 3 << 20;
    let mut both = post(BYTES).into_bytes();
    both.resize(both.len() + BYTES, b'x');
    both.extend_from_slice(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    let answers = raw(server.address, &both).await;
    let statuses: Vec<&str> = answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["501", "200"], "{answers}");
    // One that does not come, or is longer than any message, ends the connection.
    let answer = raw(server.address, post(100 << 20).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 501") && answer.contains("connection: close"), "{answer}");
}
