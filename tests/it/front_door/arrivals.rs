//! Calls that begin and go no further: they take neither memory nor places.

use interlock::proto;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use super::wire::*;
use crate::harness::*;

const HEARTBEAT: &str = "/interlock.v1.WorkerService/Heartbeat";
/// Calls that a connection may have.
const PER_CONNECTION: u32 = 1_024;

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_taken_for_bytes_received_and_not_for_lengths_claimed() {
    let database = Database::fresh().await;
    let program = Program::start(&database).await;
    let before = program.resident_bytes();
    let mut wire = Wire::open(program.address).await;
    // 4 MiB each, of which nothing comes.
    let claim = [&[0][..], &(4u32 << 20).to_be_bytes()].concat();
    let calls = |call_no| [call(stream_of(call_no), HEARTBEAT), frame(DATA, 0, stream_of(call_no), &claim)].concat();
    assert!(wire.send(&(0..500).flat_map(calls).collect::<Vec<_>>()).await);
    // Then a little, so that memory that was reserved is used. What is answered afterwards was sent afterwards.
    let more = |call_no| frame(DATA, 0, stream_of(call_no), &[0; 64]);
    assert!(wire.send(&(0..500).flat_map(more).collect::<Vec<_>>()).await);
    wire.send(&[call(stream_of(500), HEARTBEAT), only_message(stream_of(500), &[])].concat()).await;
    wire.sees("an answer", |seen| seen.ended > 0).await;
    let taken = program.resident_bytes().saturating_sub(before);
    println!("500 calls that claim 4 MiB each took {} KiB", taken >> 10);
    assert!(taken < 100 << 20, "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_messages_do_not_block_other_clients() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("voice")])).await;
    let lease = server.api.lease("default").await;
    let mut silent = Vec::new();
    for _ in 0..17 {
        let mut wire = Wire::open(server.address).await;
        let calls: Vec<u8> = (0..PER_CONNECTION).flat_map(|call_no| call(stream_of(call_no), HEARTBEAT)).collect();
        assert!(wire.send(&calls).await);
        silent.push(wire);
    }
    // They are there: as many as the server lets arrive, which is not all of them.
    let arriving = async || {
        let statistics = server.api.statistics().await;
        statistics.rpcs.iter().filter(|rpc| rpc.method.ends_with("Heartbeat")).map(|rpc| rpc.in_flight).sum::<i64>()
    };
    eventually("calls without messages", async || (arriving().await > 8_000).then_some(())).await;
    let mut slowest = std::time::Duration::ZERO;
    for _ in 0..50 {
        let began = std::time::Instant::now();
        let renewals = vec![proto::LeaseRenewal { lease_token: lease.lease_token.clone(), ..Default::default() }];
        let statuses = ok(server.api.workers().heartbeat(proto::HeartbeatRequest { renewals }).await).statuses;
        assert_eq!(statuses[0].directive(), proto::LeaseDirective::Continue);
        server.api.submit(new_job(&unique(), vec![new_stage("voice")])).await;
        slowest = slowest.max(began.elapsed());
    }
    let health = ok(server.api.health().check(HealthCheckRequest::default()).await);
    assert_eq!(health.status(), ServingStatus::Serving);
    println!("beside {} silent calls the slowest heartbeat and submit took {slowest:?}", arriving().await);
    // Each of them ends with a status, and then none is left.
    for wire in &silent {
        wire.sees("answers", |seen| seen.ended == PER_CONNECTION as usize).await;
        assert!(wire.seen(|seen| !seen.is_closed));
    }
}
