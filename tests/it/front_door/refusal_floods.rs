//! Floods of calls that are refused, over one connection: the connection stays, and its watch goes on.

use futures::StreamExt as _;
use interlock::config::Config;
use interlock::proto;
use prost::Message as _;
use serde_json::json;
use tonic::Code;

use super::wire::*;
use crate::harness::*;

const GET_JOB: &str = "/interlock.v1.JobService/GetJob";
const AT_ONCE: u32 = 10;

/// A server that refuses almost all reads and submits, and the lease of the only stage of its job `film`.
async fn limited() -> (Server, proto::Lease) {
    let server = Server::with(|config: &mut Config| {
        config.rate_limit_read = "1/h".parse().expect("a rate");
        config.rate_limit_write = "2/h".parse().expect("a rate");
    });
    let server = server.await;
    server.api.submit(new_job("film", vec![new_stage("voice")])).await;
    let lease = server.api.lease("default").await;
    (server, lease)
}

/// A message of a call in DATA frames of one byte, and the end of the call's request.
fn crumbs(stream: u32, message: &[u8]) -> Vec<u8> {
    let whole = only_message(stream, message);
    let frames = whole[9..].iter().map(|byte| frame(DATA, 0, stream, &[*byte]));
    frames.chain([frame(DATA, END_STREAM, stream, &[])]).flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_arrive_after_their_refusal_do_not_end_the_connection() {
    let (server, lease) = limited().await;
    let mut wire = Wire::open(server.address).await;
    let request = proto::WatchJobRequest { job_id: "film".to_owned(), from_version: 0 };
    let watch = [call(1, "/interlock.v1.JobService/WatchJob"), only_message(1, &request.encode_to_vec())].concat();
    wire.send(&watch).await;
    wire.sees("the snapshot", |seen| seen.data.contains_key(&1)).await;
    let request = proto::GetJobRequest { job_id: "film".to_owned(), ..Default::default() }.encode_to_vec();
    // The first calls have a token of the rate; they are whole.
    let mut streams = (1..).map(stream_of);
    let whole = streams.by_ref().take(AT_ONCE as usize);
    let calls: Vec<u8> =
        whole.flat_map(|stream| [call(stream, GET_JOB), only_message(stream, &request)].concat()).collect();
    wire.send(&calls).await;
    wire.sees("the first responses", |seen| seen.ended >= AT_ONCE as usize).await;
    for _ in 0..200 {
        let (ended, refused) = (wire.seen(|seen| seen.ended), streams.by_ref().take(AT_ONCE as usize));
        let refused: Vec<u32> = refused.collect();
        let calls: Vec<u8> = refused.iter().flat_map(|stream| call(*stream, GET_JOB)).collect();
        assert!(wire.send(&calls).await);
        wire.sees("refusals", |seen| seen.ended >= ended + AT_ONCE as usize || seen.is_closed).await;
        let messages: Vec<u8> = refused.iter().flat_map(|stream| crumbs(*stream, &request)).collect();
        let is_open = wire.send(&messages).await;
        let going_away = wire.seen(|seen| seen.going_away);
        assert!(is_open && going_away.is_none(), "GOAWAY {going_away:?} at stream {refused:?}");
    }
    let ended = wire.seen(|seen| seen.ended);
    server.api.complete(&lease, json!({})).await;
    wire.sees("the end of the watch", |seen| seen.ended > ended).await;
    assert!(wire.seen(|seen| seen.going_away.is_none() && !seen.is_closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_a_client_is_refused_call_by_call_and_its_watch_goes_on() {
    let (server, lease) = limited().await;
    let request = proto::WatchJobRequest { job_id: "film".to_owned(), from_version: 0 };
    let mut watch = ok(server.api.jobs().watch_job(request).await);
    watch.message().await.expect("no error").expect("a snapshot");
    let request = proto::SubmitJobRequest {
        payload: struct_of(json!({ "text": "x".repeat(2_000) })),
        ..new_job("", vec![new_stage("voice")])
    };
    let call = |_| {
        let (mut jobs, request) = (server.api.jobs(), request.clone());
        async move { jobs.submit_job(request).await }
    };
    let mut answers = futures::stream::iter(0..4_000).map(call).buffer_unordered(1_000);
    while let Some(answer) = answers.next().await {
        let refusal = answer.err().map(|status| (status.code(), status.message().to_owned()));
        let is_limited = refusal.as_ref().is_none_or(|(_, message)| message.contains("rate limit of 2/h"));
        assert!(is_limited && refusal.as_ref().is_none_or(|(code, _)| *code == Code::ResourceExhausted), "{refusal:?}");
    }
    server.api.complete(&lease, json!({})).await;
    while let Some(_step) = watch.message().await.expect("the watch is not broken") {}
}
