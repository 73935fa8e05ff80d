//! Frames that no call explains: they fill no log, and those who send too many of them lose their connection.

use std::time::{Duration, Instant};

use super::wire::*;
use crate::harness::*;

/// A call of an honest client, and how long it took.
async fn honest(api: &Api) -> Duration {
    let began = Instant::now();
    assert_eq!(api.job("film").await.version, 1);
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_close_their_connection_and_do_not_fill_the_log() {
    // Held to the end: Postgres stops when no database of it is in use.
    let database = Database::fresh().await;
    let (program, log) = Program::logged(&database).await;
    program.api.submit(new_job("film", vec![new_stage("voice")])).await;
    let floods = [
        ("acknowledgements without a ping", frame(PING, ACK, 0, &[7; 8])),
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("priorities", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 16])),
        ("windows", frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
        ("frames of an unknown type", frame(UNKNOWN, 0, 0, &[7; 100])),
        ("resets of what was never closed", cancel(1)),
    ];
    let quiet = honest(&program.api).await;
    for (name, frame) in floods {
        let mut wire = Wire::open(program.address).await;
        // So that frames may name it.
        wire.send(&[call(1, "/interlock.v1.JobService/GetJob"), only_message(1, &[])].concat()).await;
        wire.sees("an answer", |seen| seen.ended > 0).await;
        let (began, mut slowest) = (Instant::now(), Duration::ZERO);
        let mut flood = std::pin::pin!(wire.flood(&frame));
        loop {
            tokio::select! {
                () = &mut flood => break,
                took = honest(&program.api) => slowest = slowest.max(took),
            }
        }
        println!("{name}: closed after {:?}; honest calls took {slowest:?}, before {quiet:?}", began.elapsed());
    }
    honest(&program.api).await;
    let line = "connection closed: it sent far more frames than its calls explain";
    eventually("a line", async || log.text().contains(line).then_some(())).await;
    let text = log.text();
    assert!(text.len() < 10_000, "{} bytes: {}", text.len(), &text[..text.len().min(2_000)]);
}
