//! Sets of segments appended by many bots, pages of live timelines and searches, beside the SQL that a user would write: tables with foreign keys, and
//! one transaction for each set. Captions that come to watchers are measured alone: SQL has nothing like it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use prost::Message;
use tonic::Status;

use super::address::KeyedChannel;
use super::captions::captions;
use super::compare::{MeasuredRun, Runs, Scene};
use super::encoded::{EncodedRequest, call};
use super::load::{Sample, channels, closed_loop};
use super::raw_timeline::RawTimeline;
use super::report::Row;
use super::segments::{APPEND, Appended, SampleTexts, page_start_ms, segment, set};
use crate::proto::{self, SegmentKind};

/// Meetings that the bots append to.
const SESSIONS: u64 = 100;
/// Segments of a set: sound, transcript and translations.
const SET: u64 = 5;
/// Segments of a message while the tables are filled.
const FILL: u64 = 500;
/// Messages in flight meanwhile.
const FILLING: usize = 4;
/// Segments of a page.
const PAGE: i32 = 50;
/// Results of a search.
const RESULTS: i32 = 20;

/// Runs appends, then fills both sides with `--segments` segments, and runs queries and searches.
pub async fn timeline(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let Some(url) = &scene.settings.database_url else {
        anyhow::bail!("the timeline is compared with SQL: name the database of the server, --database");
    };
    let (mut rows, sets) = (Vec::new(), Arc::new(AtomicU64::new(0)));
    let raw = RawTimeline::prepare(url, SESSIONS).await?;
    for in_flight in scene.settings.in_flight(&[1, 64, 256]) {
        let ours = append_call(&scene.name, &sets);
        let theirs = async |run| raw.append_sets(in_flight, run).await;
        rows.extend(beside(scene, "sets of 5 segments", in_flight, ours, theirs).await?);
    }
    check(scene, &sets).await?;
    rows.extend(captions(scene).await?);
    fill(scene).await?;
    raw.copy(&scene.name).await?;
    scene.settle().await?;
    for in_flight in scene.settings.in_flight(&[1, 16]) {
        let theirs = async |run| raw.query(in_flight, run, PAGE.into()).await;
        rows.extend(beside(scene, "pages of a timeline", in_flight, query_call(scene), theirs).await?);
        let theirs = async |run| raw.search(in_flight, run, RESULTS.into()).await;
        rows.extend(beside(scene, "searches", in_flight, search_call(), theirs).await?);
    }
    Ok(rows)
}

/// Runs our server and SQL in alternation.
async fn beside<C, F>(
    scene: &Scene<'_>,
    name: &str,
    in_flight: usize,
    ours: C,
    theirs: impl AsyncFn(Duration) -> anyhow::Result<Sample>,
) -> anyhow::Result<Vec<Row>>
where
    C: Fn(KeyedChannel, u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<bool, Status>> + Send + 'static,
{
    let server = &scene.pair.ours;
    let channels = channels(&server.address, in_flight).await?;
    let mut pairs = Vec::<Runs>::new();
    for i in 0..=scene.settings.pairs {
        // The first pair warms up.
        let run = if i == 0 { scene.settings.run.min(Duration::from_millis(500)) } else { scene.settings.run };
        let a = scene.costed(server, closed_loop(&channels, in_flight, run, ours.clone())).await?;
        let b: MeasuredRun = scene.costed(server, theirs(run)).await?;
        if i > 0 {
            pairs.push((a, Some(b)));
        }
    }
    let mut rows = scene.summary(name, in_flight, &pairs);
    for theirs in rows.iter_mut().skip(1) {
        (theirs.variant, theirs.server_cpu_us, theirs.memory_bytes) = ("SQL".to_owned(), 0.0, 0);
    }
    Ok(rows)
}

/// Checks that each set that was acknowledged is stored whole.
async fn check(scene: &Scene<'_>, sets: &AtomicU64) -> anyhow::Result<()> {
    let Some(database) = &scene.database else { return Ok(()) };
    let (stored, sent) = (database.segments(&scene.name).await?, sets.load(Ordering::Relaxed) * SET);
    anyhow::ensure!(u64::try_from(stored)? == sent, "{sent} segments were acknowledged, {stored} are stored");
    Ok(())
}

fn session_id(name: &str, n: u64) -> String {
    format!("{name}-{}", n % SESSIONS)
}

type BenchCall = BoxFuture<'static, Result<bool, Status>>;

fn append_call(
    name: &str,
    sets: &Arc<AtomicU64>,
) -> impl Fn(KeyedChannel, u64) -> BenchCall + Clone + Send + Sync + 'static {
    let (name, sets, texts) = (name.to_owned(), Arc::clone(sets), SampleTexts::new());
    move |channel: KeyedChannel, _| {
        // Each set is new, also in the next run.
        let n = sets.fetch_add(1, Ordering::Relaxed);
        let request = EncodedRequest::of(&set(session_id(&name, n), n / SESSIONS, &texts));
        Box::pin(async move {
            let reply: Appended = call(channel, APPEND, request).await?;
            Ok(reply.applied_version > 0)
        })
    }
}

/// The fields that are read of a page.
#[derive(Clone, PartialEq, Message)]
struct Page {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Skipped>,
}

#[derive(Clone, PartialEq, Message)]
struct Skipped {}

fn query_call(scene: &Scene<'_>) -> impl Fn(KeyedChannel, u64) -> BenchCall + Clone + Send + Sync + 'static {
    let name = format!("{}-full", scene.name);
    // With few segments not all sessions have some.
    let filled = (scene.settings.segments as u64).div_ceil(FILL).clamp(1, SESSIONS);
    move |channel: KeyedChannel, n: u64| {
        let start = prost_types::Duration { seconds: (page_start_ms(n) / 1_000).cast_signed(), nanos: 0 };
        let request = proto::QueryTimelineRequest {
            session_id: session_id(&name, n % filled),
            start: Some(start),
            page_size: PAGE,
            ..Default::default()
        };
        let request = EncodedRequest::of(&request);
        Box::pin(async move {
            let page: Page = call(channel, "/interlock.v1.TimelineService/QueryTimeline", request).await?;
            Ok(!page.items.is_empty())
        })
    }
}

fn search_call() -> impl Fn(KeyedChannel, u64) -> BenchCall + Clone + Send + Sync + 'static {
    let texts = SampleTexts::new();
    move |channel: KeyedChannel, n: u64| {
        let query = texts.query(n);
        let request =
            EncodedRequest::of(&proto::SearchSegmentsRequest { query, page_size: RESULTS, ..Default::default() });
        Box::pin(async move {
            let page: Page = call(channel, "/interlock.v1.TimelineService/SearchSegments", request).await?;
            Ok(!page.items.is_empty())
        })
    }
}

/// Fills sessions until there are as many segments as are wanted.
async fn fill(scene: &Scene<'_>) -> anyhow::Result<()> {
    let channels = channels(&scene.pair.ours.address, FILLING).await?;
    let (name, wanted) = (format!("{}-full", scene.name), scene.settings.segments as u64);
    let messages = wanted.div_ceil(FILL);
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..FILLING {
        let (channel, name, next, texts) = (channels[0].clone(), name.clone(), Arc::clone(&next), SampleTexts::new());
        tasks.push(tokio::spawn(async move {
            loop {
                let message = next.fetch_add(1, Ordering::Relaxed);
                if message >= messages {
                    return anyhow::Ok(());
                }
                let first = message / SESSIONS * FILL;
                let said = |n| segment(n, "t", SegmentKind::Transcript, &texts);
                // Sentences of different sessions differ.
                let segments = (first..first + FILL)
                    .map(|n| proto::Segment { text: texts.sentence(n * SESSIONS + message % SESSIONS), ..said(n) });
                let request = proto::AppendSegmentsRequest {
                    session_id: session_id(&name, message),
                    segments: segments.collect(),
                    allow_missing: true,
                    ..Default::default()
                };
                let request = EncodedRequest::of(&request);
                let _reply: Appended = call(channel.clone(), APPEND, request).await?;
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}
