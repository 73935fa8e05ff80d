//! The whole stack on a real TCP port, with a real client, around a service that misbehaves on demand.

mod cost;
mod probe;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::IdleLimits;
use probe::*;

#[tokio::test]
async fn a_call_passes_and_is_counted() {
    let server = Server::start().await;
    let answer = server.call("Echo", small()).await.expect("an answer");
    assert_eq!(answer.status(), ServingStatus::Serving);
    eventually(|| server.finished("Echo", Code::Ok) == 1).await;
    assert_eq!(server.in_flight(), 0);
}

#[tokio::test]
async fn an_expired_deadline_is_deadline_exceeded() {
    let server = Server::start().await;
    let read = server.call("GetForever", with_timeout("20m")).await;
    assert_status(read, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "NOT_APPLIED");
    let write = server.call("UpdateForever", with_timeout("20m")).await;
    assert_status(write, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "UNKNOWN");
    let stream = server.call("WatchForever", with_timeout("20m")).await;
    assert_status(stream, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "NOT_APPLIED");
    let at_once = server.call("UpdateForever", with_timeout("0S")).await;
    assert_status(at_once, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "NOT_APPLIED");
    let malformed = server.call("Echo", with_timeout("soon")).await;
    assert_status(malformed, Code::InvalidArgument, "INVALID_FIELD", "NOT_APPLIED");
    eventually(|| server.finished("WatchForever", Code::DeadlineExceeded) == 1).await;
    assert_eq!(server.in_flight(), 0);
}

#[tokio::test]
async fn without_a_deadline_the_cap_applies() {
    let server = Server::start_with(|options| options.default_deadline = Duration::from_millis(20)).await;
    let result = server.call("UpdateForever", small()).await;
    assert_status(result, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "UNKNOWN");
}

#[tokio::test]
async fn a_panic_is_internal_with_an_id_and_nothing_else() {
    let server = Server::start().await;
    let sender = server.connect().await;
    for method in ["Panic", "PanicAtOnce", "PanicInStream"] {
        let result = call(sender.clone(), method, small()).await;
        let status = assert_status(result, Code::Internal, "INTERNAL", "UNKNOWN");
        assert!(!format!("{status:?}").contains("secret"), "{status:?}");
        let details = status.get_error_details();
        let id = &details.error_info().expect("an ErrorInfo").metadata["id"];
        assert_eq!(status.message(), format!("internal error {id}"));
    }
    // The connection is still usable.
    call(sender, "Echo", small()).await.expect("an answer");
    eventually(|| server.in_flight() == 0).await;
}

#[tokio::test]
async fn an_oversized_message_is_invalid_argument() {
    let server = Server::start().await;
    let sized = |bytes: usize| tonic::Request::new(HealthCheckRequest { service: "x".repeat(bytes) });
    server.call("Echo", sized((4 << 20) - 16)).await.expect("just below the limit");
    let result = server.call("Echo", sized(4 << 20)).await;
    let status = assert_status(result, Code::InvalidArgument, "INVALID_FIELD", "NOT_APPLIED");
    assert!(status.message().contains("4194304"), "{status:?}");
}

#[tokio::test]
async fn calls_beyond_the_limit_get_a_retry_delay() {
    let server = Server::start_with(|options| options.max_in_flight = 8).await;
    let sender = server.connect().await;
    let held: Vec<_> = (0..7).map(|_| tokio::spawn(call(sender.clone(), "GetForever", small()))).collect();
    eventually(|| server.in_flight() == 7).await;

    let result = call(sender.clone(), "Echo", small()).await;
    let status = assert_status(result, Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED");
    assert!(status.get_error_details().retry_info().is_some());
    assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
    // Calls that keep accepted work going pass, and so do health checks.
    let heartbeat = call(sender.clone(), "Heartbeat", small()).await;
    assert_eq!(heartbeat.expect_err("its own error").code(), Code::Aborted);
    let health = HealthClient::with_origin(service(sender.clone()), "http://localhost".parse().expect("a URI"))
        .check(HealthCheckRequest::default())
        .await;
    assert!(health.is_ok());

    // A client that disconnects releases its place.
    held.iter().for_each(tokio::task::JoinHandle::abort);
    eventually(|| server.in_flight() == 0).await;
    call(sender, "Echo", small()).await.expect("a free place");
}

#[tokio::test]
async fn a_call_takes_its_place_when_its_message_is_there() {
    let server = Server::start_with(|options| {
        options.max_in_flight = 8;
        options.arrival.time = Duration::from_millis(300);
    })
    .await;
    let sender = server.connect().await;
    let silent = |pieces: &[&'static [u8]]| {
        let (mut sender, request) = (sender.clone(), unfinished_request("/test.Probe/Echo", pieces));
        tokio::spawn(async move { sender.send_request(request).await.expect("a response") })
    };
    let headers_alone = (0..20).map(|_| silent(&[])).collect::<Vec<_>>();
    let half_a_message = silent(&[&[0, 0, 0, 0, 9], &[10, 7]]);
    let without_end = silent(&[&[0, 0, 0, 0, 0]]);
    eventually(|| server.in_flight() == 22).await;
    server.call("Echo", small()).await.expect("a free place");
    for call in headers_alone.into_iter().chain([half_a_message, without_end]) {
        let response = call.await.expect("no panic");
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(reason_and_outcome(&status), ("DEADLINE_EXCEEDED".to_owned(), "NOT_APPLIED".to_owned()));
    }
    eventually(|| server.in_flight() == 0).await;
}

#[tokio::test]
async fn messages_that_do_not_become_whole_are_refused_beyond_a_share() {
    let server = Server::start_with(|options| options.arrival.bytes = 200_000).await;
    let sender = server.connect().await;
    // The header claims 1 MiB, and 60,000 bytes arrive.
    let begin = || {
        let (mut sender, pieces) = (sender.clone(), [&[0, 0, 16, 0, 0][..], &[7; 60_000]]);
        let request = unfinished_request("/test.Probe/Echo", &pieces);
        tokio::spawn(async move { sender.send_request(request).await.expect("a response") })
    };
    let (response, _goes_on) = futures::future::select(begin(), begin()).await.factor_first();
    let status = Status::from_header_map(response.expect("no panic").headers()).expect("a status");
    assert_eq!((status.code(), reason_and_outcome(&status).0.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(status.get_error_details().retry_info().is_some());
    // Small messages pass, on this connection too.
    call(sender, "Echo", small()).await.expect("an answer");
}

#[tokio::test]
async fn one_connection_leaves_places_to_others() {
    let server = Server::start_with(|options| options.max_in_flight = 64).await;
    let sender = server.connect().await;
    // Half of 56 places, since an eighth of all is reserved for essential calls.
    let _held: Vec<_> = (0..28).map(|_| tokio::spawn(call(sender.clone(), "GetForever", small()))).collect();
    eventually(|| server.in_flight() == 28).await;
    let refused = assert_status(
        call(sender.clone(), "Echo", small()).await,
        Code::ResourceExhausted,
        "OVERLOADED",
        "NOT_APPLIED",
    );
    assert!(refused.message().contains("on this connection"), "{refused:?}");
    let heartbeat = call(sender, "Heartbeat", small()).await;
    assert_eq!(heartbeat.expect_err("its own error").code(), Code::Aborted);
    server.call("Echo", small()).await.expect("a place of another connection");
}

#[tokio::test]
async fn malformed_requests_are_the_callers_mistake() {
    let server = Server::start().await;
    let cases: [(&str, &[&'static [u8]], Code); 7] = [
        ("nothing at all", &[], Code::InvalidArgument),
        ("half a header", &[&[0, 0]], Code::InvalidArgument),
        ("half a message", &[&[0, 0, 0, 0, 9], &[10, 7]], Code::InvalidArgument),
        ("not a message", &[&[0, 0, 0, 0, 2, 255, 255]], Code::InvalidArgument),
        ("two messages", &[&[0, 0, 0, 0, 0], &[0, 0, 0, 0, 0]], Code::InvalidArgument),
        ("no such flag", &[&[7, 0, 0, 0, 0]], Code::InvalidArgument),
        ("compressed", &[&[1, 0, 0, 0, 0]], Code::Unimplemented),
    ];
    for (name, pieces, code) in cases {
        let (_, status) = raw(&server, request("/test.Probe/Echo", pieces)).await;
        let status = status.unwrap_or_else(|| panic!("{name}: no status"));
        assert_eq!(status.code(), code, "{name}: {status:?}");
        assert_eq!(reason_and_outcome(&status).1, "NOT_APPLIED", "{name}");
    }
    let (_, status) = raw(&server, request("/test.Unknown/Method", &[])).await;
    let status = status.expect("a status");
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(reason_and_outcome(&status).0, "UNIMPLEMENTED");
}

#[tokio::test]
async fn strangers_get_an_answer_they_understand() {
    let server = Server::start().await;
    let mut not_grpc = request("/test.Probe/Echo", &[]);
    not_grpc.headers_mut().remove("content-type");
    assert_eq!(raw(&server, not_grpc).await.0, 415);
    let mut not_grpc = request("/favicon.ico", &[]);
    not_grpc.headers_mut().remove("content-type");
    assert_eq!(raw(&server, not_grpc).await.0, 404);
    // HTTP/1 too: a browser may be pointed at the port.
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    let pages = b"GET /favicon.ico HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(pages).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"code\":\"unimplemented\"") && answer.contains("Interlock"), "{answer}");
}

#[tokio::test]
async fn a_drain_lets_calls_end_and_then_cuts_them_off() {
    let server = Server::start_with(|options| options.drain_timeout = Duration::from_millis(200)).await;
    let sender = server.connect().await;
    let ends = tokio::spawn(call(sender.clone(), "GetForever", with_timeout("100m")));
    let stays = tokio::spawn(call(sender, "UpdateForever", small()));
    // A peer that has not sent anything does not block the drain.
    let _silent = TcpStream::connect(server.address).await.expect("connected");
    eventually(|| server.in_flight() == 2).await;
    server.shutdown.cancel();
    server.task.await.expect("no panic").expect("served");
    let ended = ends.await.expect("no panic").expect_err("its deadline");
    assert_eq!(ended.code(), Code::DeadlineExceeded);
    let cut = stays.await.expect("no panic").expect_err("cut off");
    assert_ne!(cut.code(), Code::DeadlineExceeded);
    let refused = TcpStream::connect(server.address).await;
    assert!(refused.is_err(), "still listening");
}

#[tokio::test]
async fn idle_clients_do_not_hold_up_a_drain() {
    let server = Server::start().await;
    let sender = server.connect().await;
    call(sender, "Echo", small()).await.expect("an answer");
    server.shutdown.cancel();
    let drained = tokio::time::timeout(Duration::from_secs(5), server.task).await;
    drained.expect("in time").expect("no panic").expect("served");
}

#[tokio::test]
async fn connections_without_calls_end() {
    let short = Duration::from_millis(200);
    let server = Server::start_with(|options| {
        options.idle = IdleLimits { before_first_call: short, after_last_call: short, goodbye: short };
    })
    .await;
    let busy = server.connect().await;
    let held = tokio::spawn(call(busy.clone(), "GetForever", small()));
    eventually(|| server.in_flight() == 1).await;
    // A client that never closes.
    let mut silent = TcpStream::connect(server.address).await.expect("connected");
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
    // Health checks do not count as calls: clients without credentials may send them.
    let checking = server.connect().await;
    let origin = "http://localhost".parse().expect("a URI");
    let mut health = HealthClient::with_origin(service(checking.clone()), origin);
    let both = async {
        while !checking.is_closed() {
            let _refused_at_the_end = health.check(HealthCheckRequest::default()).await;
        }
        silent.read_to_end(&mut Vec::new()).await.expect("closed");
    };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("in time");
    assert!(!held.is_finished() && !busy.is_closed(), "a connection with a call in flight stays");
    held.abort();
    eventually(|| busy.is_closed()).await;
    let once = server.connect().await;
    call(once.clone(), "Echo", small()).await.expect("an answer");
    eventually(|| once.is_closed()).await;
}

#[tokio::test]
async fn a_watch_does_not_hold_up_a_drain() {
    let server = Server::start().await;
    let sender = server.connect().await;
    let watch = tokio::spawn(call(sender, "WatchForever", small()));
    eventually(|| server.in_flight() == 1).await;
    server.shutdown.cancel();
    let drained = tokio::time::timeout(Duration::from_secs(5), server.task).await;
    drained.expect("in time").expect("no panic").expect("served");
    let ended = watch.await.expect("no panic");
    let status = assert_status(ended, Code::Unavailable, "DRAINING", "NOT_APPLIED");
    assert!(status.get_error_details().retry_info().is_some());
}
