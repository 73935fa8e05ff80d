//! Calls that are cancelled before they are looked at: their connection stays, unless it does nothing else.

use interlock::proto;
use prost::Message;
use serde_json::json;

use super::wire::*;
use crate::harness::*;

const GET_JOB: &str = "/interlock.v1.JobService/GetJob";

#[tokio::test(flavor = "multi_thread")]
async fn calls_cancelled_at_once_do_not_close_the_connection() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("voice")])).await;
    let mut wire = Wire::open(server.address).await;
    let request = proto::WatchJobRequest { job_id: "film".to_owned(), from_version: 0 };
    let watch = [call(1, "/interlock.v1.JobService/WatchJob"), only_message(1, &request.encode_to_vec())].concat();
    wire.send(&watch).await;
    wire.sees("the snapshot", |seen| seen.data.contains_key(&1)).await;
    let mut calls = 1..;
    // A few; as many as there may be at once; several times as many.
    for at_once in [30, 1_024, 4_000] {
        let cancelled = |call_no| [call(stream_of(call_no), GET_JOB), cancel(stream_of(call_no))].concat();
        let batch: Vec<u8> = calls.by_ref().take(at_once).flat_map(cancelled).collect();
        assert!(wire.send(&batch).await);
        // What is sent behind them is answered.
        let (stream, ended) = (stream_of(calls.next().expect("endless")), wire.seen(|seen| seen.ended));
        let request = proto::GetJobRequest { job_id: "film".to_owned(), ..Default::default() };
        wire.send(&[call(stream, GET_JOB), only_message(stream, &request.encode_to_vec())].concat()).await;
        wire.sees("an answer", |seen| seen.ended > ended).await;
        assert_eq!(wire.seen(|seen| seen.data.get(&stream).copied()), Some(1), "{at_once}");
    }
    // The watch goes on to its end.
    let lease = server.api.lease("default").await;
    let ended = wire.seen(|seen| seen.ended);
    server.api.complete(&lease, json!({})).await;
    wire.sees("the end of the watch", |seen| seen.ended > ended).await;
    assert!(wire.seen(|seen| seen.going_away.is_none() && !seen.is_closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_cancelled_calls_closes_its_connection() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("voice")])).await;
    let mut wire = Wire::open(server.address).await;
    let flooding = async {
        let mut calls = 0..;
        loop {
            let cancelled = |call_no| [large_call(stream_of(call_no), GET_JOB), cancel(stream_of(call_no))].concat();
            let batch: Vec<u8> = calls.by_ref().take(500).flat_map(cancelled).collect();
            if !wire.send(&batch).await {
                return calls.next();
            }
        }
    };
    let flooded = tokio::time::timeout(PATIENCE, flooding).await.expect("the connection is closed");
    println!("closed after {flooded:?} calls");
    assert_eq!(server.api.job("film").await.version, 1);
}
