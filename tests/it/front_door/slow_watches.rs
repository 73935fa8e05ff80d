//! Watches of clients that do not read: they share one budget of memory, and lose their streams while others wait for it.

use std::net::SocketAddr;
use std::time::Instant;

use interlock::proto::watch_session_response::Update;
use interlock::proto::{self, WatchRecordsRequest, WatchSessionRequest, WatchedRecord, watch_records_response};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::*;
use crate::operators::exposition::scrape;

/// Segments of the session; more than two MiB in all, of which each stuck watch loads some 300 KiB.
const SEGMENTS: usize = 40;
/// More than have room, in the share of one connection or in all.
const STUCK: usize = 300;
/// Watches of records; each has five records of 900 KB.
const STUCK_OF_RECORDS: usize = 60;
/// The budget, and the reads that may be under way beside it.
const MAX_HELD_BYTES: f64 = (64 << 20) as f64 * 1.1;

/// A connection with streams that stop after 64 KiB that are not read, each for itself.
async fn connect(server: &Server) -> Api {
    let endpoint = Channel::from_shared(format!("http://{}", server.address)).expect("a URI");
    let endpoint = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(256 << 20);
    Api { channel: endpoint.connect().await.expect("a connection") }
}

/// Bytes that watches hold, and the number of watches that were closed.
async fn unread(port: SocketAddr) -> (f64, f64) {
    let page = scrape(port).await;
    (page.value("interlock_watch_unread_bytes", &[]), page.count("interlock_watches_closed_total", &[]))
}

/// Reads a watch of the session to the last segment.
async fn read_all(watch: &mut SessionWatch) -> usize {
    let mut seen = 0;
    while seen < SEGMENTS {
        match watch.next().await.expect("a session that is open") {
            Update::Changes(changes) => seen += changes.segments.len(),
            Update::Session(_) => {}
            other => panic!("{other:?}"),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_watches_hold_no_more_than_a_budget_and_others_go_on() {
    let server = Server::start().await;
    for i in 0..SEGMENTS {
        let large = proto::Segment { text: "x".repeat(60_000), ..segment(&i.to_string()) };
        server.api.append_segments(vec![large]).await;
    }
    let (api, port) = (connect(&server).await, server.operators_port().await);
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let request = WatchSessionRequest { session_id: SESSION.to_owned(), ..Default::default() };
        stuck.push(ok(api.timelines().watch_session(request).await));
        assert!(unread(port).await.0 <= MAX_HELD_BYTES);
    }
    eventually("the share of the connection is used", async || (unread(port).await.0 > 24e6).then_some(())).await;
    // Another connection has room at once.
    let began = Instant::now();
    read_all(&mut SessionWatch::begin(&server.api, 0).await).await;
    println!("another connection: {:?}", began.elapsed());
    // The same connection has room when the stuck ones were closed.
    let began = Instant::now();
    read_all(&mut SessionWatch::begin(&api, 0).await).await;
    println!("the same connection: {:?}, {:?}", began.elapsed(), unread(port).await);
    let (held, closed) = unread(port).await;
    assert!(held <= MAX_HELD_BYTES && closed > 0.0, "{held} bytes, {closed} closed");
    // Their clients see that they have to watch again, and get all.
    let mut first = stuck.remove(0);
    let status = loop {
        match first.message().await {
            Ok(update) => assert!(update.is_some(), "the session is open"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    drop(stuck);
    eventually("nothing is held without watches", async || (unread(port).await.0 == 0.0).then_some(())).await;
    assert_eq!(read_all(&mut SessionWatch::begin(&api, 0).await).await, SEGMENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_watches_of_large_records_hold_no_more_than_the_budget() {
    let server = Server::start().await;
    let ids: Vec<String> = (0..5).map(|i| i.to_string()).collect();
    for id in &ids {
        let fields = (0..15).map(|i| set(&format!("f{i}"), json!("x".repeat(60_000)))).collect();
        ok(server.api.records().update_record(update(id, fields)).await);
    }
    let watched =
        |id: &String| WatchedRecord { collection: COLLECTION.into(), record_id: id.clone(), ..Default::default() };
    let request = WatchRecordsRequest { records: ids.iter().map(watched).collect() };
    let (api, port) = (connect(&server).await, server.operators_port().await);
    let mut stuck = JoinSet::new();
    for _ in 0..STUCK_OF_RECORDS {
        let (mut records, request) = (api.records(), request.clone());
        stuck.spawn(async move {
            let _unread = ok(records.watch_records(request).await);
            std::future::pending::<()>().await;
        });
    }
    eventually("the share of the connection is used", async || {
        let (held, _) = unread(port).await;
        assert!(held <= MAX_HELD_BYTES, "{held} bytes");
        (held > 20e6).then_some(())
    })
    .await;
    let mut watch = ok(server.api.records().watch_records(request).await);
    for _ in &ids {
        let update = watch.message().await.expect("no error").expect("an update").update;
        assert!(matches!(update, Some(watch_records_response::Update::Record(_))), "{update:?}");
    }
    let (held, _) = unread(port).await;
    assert!(held <= MAX_HELD_BYTES, "{held} bytes");
}
