//! gRPC-Web, binary and text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use interlock::proto;
use prost::Message;

use super::client::*;
use crate::harness::*;

/// Flag of the frame with the trailers.
const TRAILERS: u8 = 0x80;

/// The messages of a body, and its trailers.
fn split(body: &[u8]) -> (Vec<Vec<u8>>, String) {
    let mut frames = envelopes(body);
    let (flags, trailers) = frames.pop().expect("trailers");
    assert!(flags == TRAILERS && frames.iter().all(|(flags, _)| *flags == 0), "{frames:?}");
    (frames.into_iter().map(|(_, message)| message).collect(), String::from_utf8(trailers).expect("text"))
}

#[tokio::test]
async fn calls_and_streams_have_their_trailers_in_the_body() {
    let server = Server::start().await;
    server.api.submit(new_job("film-1", vec![new_stage("voice")])).await;
    let lease = server.api.lease("default").await;
    server.api.complete(&lease, serde_json::json!({})).await;
    let message =
        enveloped(0, &proto::GetJobRequest { job_id: "film-1".to_owned(), ..Default::default() }.encode_to_vec());
    for content_type in ["application/grpc-web", "application/grpc-web+proto"] {
        let reply = send(server.address, post(GET_JOB, content_type, message.clone())).await;
        assert_eq!(reply.status, 200);
        assert!(reply.header("content-type").starts_with("application/grpc-web"), "{:?}", reply.headers);
        let (messages, trailers) = split(&reply.body);
        let response = proto::GetJobResponse::decode(messages[0].as_slice()).expect("a message");
        assert_eq!(response.job.expect("a job").job_id, "film-1");
        assert!(trailers.contains("grpc-status:0"), "{trailers}");
    }
    let text = with(
        post(GET_JOB, "application/grpc-web-text", STANDARD.encode(&message)),
        &[("accept", "application/grpc-web-text")],
    );
    let reply = send(server.address, text).await;
    // Each frame is encoded for itself.
    let mut body = Vec::new();
    for group in reply.body.chunks(4) {
        body.extend(STANDARD.decode(group).expect("base64"));
    }
    let (messages, trailers) = split(&body);
    assert!(messages.len() == 1 && trailers.contains("grpc-status:0"), "{trailers}");

    let (messages, _) = split(&send(server.address, post(WATCH_JOB, "application/grpc-web", message)).await.body);
    let update = proto::WatchJobResponse::decode(messages[0].as_slice()).expect("a message").update;
    assert!(matches!(update, Some(proto::watch_job_response::Update::Snapshot(_))), "{update:?}");
    server.stop().await;
}

#[tokio::test]
async fn errors_and_what_is_garbled_have_a_status_of_grpc() {
    let server = Server::start().await;
    let status = async |content_type: &str, body: Vec<u8>| {
        let reply = send(server.address, post(GET_JOB, content_type, body)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(!reply.headers.contains_key("interlock-counted-reason"), "{:?}", reply.headers);
        reply.header("grpc-status").to_owned()
    };
    let missing = proto::GetJobRequest { job_id: "none".to_owned(), ..Default::default() }.encode_to_vec();
    assert_eq!(status("application/grpc-web", enveloped(0, &missing)).await, "5");
    assert_eq!(status("application/grpc-web", enveloped(1, &missing)).await, "12");
    assert_eq!(status("application/grpc-web", vec![0, 0]).await, "3");
    assert_eq!(status("application/grpc-web", enveloped(0, b"\xff")).await, "3");
    for garbled in ["****", "AAA", "\u{0}"] {
        let status = status("application/grpc-web-text", garbled.into()).await;
        assert!(["3", "13"].contains(&status.as_str()), "{garbled:?}: {status}");
    }
    let claim = [&[0][..], &u32::MAX.to_be_bytes()].concat();
    assert_eq!(status("application/grpc-web", claim).await, "3");
    server.stop().await;
}
