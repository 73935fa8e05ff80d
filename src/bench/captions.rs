//! Captions: what bots append to live sessions, as it comes to those who watch them. The chain of versions of each watch is checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use futures::future::BoxFuture;
use tonic::Status;

use super::address::KeyedChannel;
use super::compare::Scene;
use super::encoded::{EncodedRequest, call};
use super::load::{channels, closed_loop};
use super::report::{Row, remark};
use super::segments::{APPEND, Appended, SampleTexts, set};
use super::watchers::{Watch, Watchers};
use crate::proto::timeline_service_client::TimelineServiceClient;
use crate::proto::{self, watch_session_response::Update};

/// Bots that append at the same time.
const BOTS: usize = 8;
/// Sessions, and watchers of each.
const AUDIENCES: [(usize, usize); 2] = [(1, 100), (100, 20)];

/// Runs bots beside watchers of their sessions. A row counts messages that arrived; its latencies are those from the decision, before the commit,
/// to the arrival.
pub async fn captions(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (sessions, watchers) in AUDIENCES {
        rows.push(audience(scene, sessions, watchers).await?);
    }
    Ok(rows)
}

async fn audience(scene: &Scene<'_>, sessions: usize, watchers: usize) -> anyhow::Result<Row> {
    let (server, run) = (&scene.pair.ours, scene.settings.run);
    let names: Vec<String> = (0..sessions).map(|n| format!("{}-live-{sessions}-{n}", scene.name)).collect();
    let newest: Arc<[AtomicI64]> = names.iter().map(|_| AtomicI64::new(0)).collect();
    let mut audience = Watchers::of(&server.address, watchers * sessions, &names, watch).await?;
    let (bots, append) = (channels(&server.address, BOTS).await?, append_call(names, Arc::clone(&newest)));
    closed_loop(&bots, BOTS, run / 4, append.clone()).await?;
    audience.forget_latencies();
    let (received, cpu, began) = (audience.received(), server.cpu_us(), Instant::now());
    let sample = closed_loop(&bots, BOTS, run, append).await?;
    let (received, took) = (audience.received() - received, began.elapsed());
    let cpu = server.cpu_us() - cpu;
    let newest: Vec<i64> = newest.iter().map(|version| version.load(Ordering::Relaxed)).collect();
    audience.until_each_at(&newest).await?;
    let row = Row {
        per_second: received as f64 / took.as_secs_f64(),
        p50_us: audience.latency(0.5),
        p99_us: audience.latency(0.99),
        server_cpu_us: cpu / received.max(1) as f64,
        memory_bytes: server.memory_bytes(),
        ..Row::blank(&format!("captions, {sessions} × {watchers}"), "interlock", BOTS)
    };
    remark(format!("{}: {:.0} sets of segments a second, all came to all watchers", row.workload, sample.per_second()));
    audience.end().await?;
    Ok(row)
}

/// Appends sets to the sessions in turn, and notes the newest version of each.
fn append_call(
    names: Vec<String>,
    newest: Arc<[AtomicI64]>,
) -> impl Fn(KeyedChannel, u64) -> BoxFuture<'static, Result<bool, Status>> + Clone + Send + Sync + 'static {
    let (next, texts) = (Arc::new(AtomicU64::new(0)), SampleTexts::new());
    move |channel, _| {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let place = n as usize % names.len();
        let request = EncodedRequest::of(&set(names[place].clone(), n / names.len() as u64, &texts));
        let newest = Arc::clone(&newest);
        Box::pin(async move {
            let reply: Appended = call(channel, APPEND, request).await?;
            newest[place].fetch_max(reply.applied_version, Ordering::Relaxed);
            Ok(reply.applied_version > 0)
        })
    }
}

async fn watch(one: Watch) -> anyhow::Result<()> {
    let request = proto::WatchSessionRequest { session_id: one.name.clone(), ..Default::default() };
    let mut stream = TimelineServiceClient::new(one.channel.clone()).watch_session(request).await?.into_inner();
    one.begun();
    let mut version = 0;
    while let Some(response) = stream.message().await? {
        if let Some(Update::Changes(changes)) = response.update {
            let changed = changes.segments.last().and_then(|segment| segment.update_time.as_ref());
            one.received(version, (changes.previous_version, changes.version), changed)?;
            version = changes.version;
        }
    }
    Ok(())
}
