//! The metrics page: counters of all parts, and values that are measured at each request.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::admission::{BUCKETS, ClassFigures, MethodSnapshot, RateLimiter, Statistics};
use crate::engine::Engine;
use crate::engine::cache::CacheFigures;
use crate::engine::dispatcher::Dispatcher;
use crate::feed::Hub;
use crate::figures::writer::LaneKind;
use crate::figures::{Page, Samples};
use crate::rpc::{TimelineGate, code_name};
use crate::store::Store;
use crate::store::replica::Replica;
use crate::task::BackgroundJobs;

/// Maximum number of resources with an open breaker that get a label; the others are only counted.
const MAX_RESOURCES: usize = 50;
/// Every second latency bucket is shown, starting at 128 µs.
const FIRST_BUCKET: usize = 7;

/// Parts that the page reads.
pub(super) struct Parts {
    pub engine: Engine,
    pub store: Store,
    pub hub: Arc<Hub>,
    pub dispatcher: Arc<Dispatcher>,
    pub statistics: Arc<Statistics>,
    pub rate_limiter: Arc<RateLimiter>,
    pub timeline_gate: Arc<TimelineGate>,
    pub replica: Option<Arc<Replica>>,
    pub loops: Arc<BackgroundJobs>,
    pub serving: watch::Receiver<bool>,
    pub started: SystemTime,
}

/// Creates the metrics page of a server.
pub(super) fn page(parts: Parts) -> Page {
    let mut page = Page::default();
    let shared = parts.engine.shared().clone();
    let (started, serving) = (parts.started, parts.serving);
    page.measure(move |samples| about(samples, started, *serving.borrow()));
    let statistics = parts.statistics.clone();
    page.measure(move |samples| calls(samples, &statistics.snapshot().methods));
    parts.statistics.door.show(&mut page);
    let rate_limiter = parts.rate_limiter;
    page.measure(move |samples| rates(samples, &rate_limiter.classes()));
    shared.figures.show(&mut page);
    let engine = parts.engine.clone();
    page.measure(move |samples| queues_and_cache(samples, &engine));
    parts.store.target.figures.show(&mut page);
    if let Some(replica) = parts.replica {
        replica.figures.show(&mut page);
    }
    let store = parts.store;
    page.measure(move |samples| pool(samples, &store));
    shared.jobs.show(&mut page);
    shared.heads.figures.show(&mut page);
    let (jobs, dispatcher) = (shared.jobs.clone(), parts.dispatcher);
    page.measure(move |samples| {
        samples.gauge("waiting_polls", "LeaseStages calls that wait for work", dispatcher.waiting_polls() as f64)?;
        jobs.queues.sample(samples)
    });
    shared.permits.figures.show(&mut page);
    page.measure(move |samples| permits(samples, &shared));
    parts.hub.figures.show(&mut page);
    let hub = parts.hub;
    page.measure(move |samples| samples.gauge("topics", "Jobs that somebody follows", hub.followed_jobs() as f64));
    let gate = parts.timeline_gate;
    page.measure(move |samples| timelines(samples, &gate));
    let loops = parts.loops;
    page.measure(move |samples| background(samples, &loops));
    page
}

fn about(samples: &mut Samples<'_>, started: SystemTime, serving: bool) -> fmt::Result {
    let version = [([("version", env!("CARGO_PKG_VERSION"))], 1.0)];
    samples.gauges("build", "1, with the version of the server", version)?;
    let since = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let none: [([(&str, &str); 0], f64); 1] = [([], since)];
    samples.gauges_in_seconds("start_time", "When the server started, as seconds since 1970", none)?;
    samples.gauge("ready", "1 while the health service says SERVING, else 0", f64::from(u8::from(serving)))
}

fn calls(samples: &mut Samples<'_>, methods: &[MethodSnapshot]) -> fmt::Result {
    let name = |method: &'_ MethodSnapshot| method.path.trim_start_matches('/').to_owned();
    let named: Vec<(String, &MethodSnapshot)> = methods.iter().map(|method| (name(method), method)).collect();
    let handled = named.iter().flat_map(|(name, method)| {
        let ended = method.finished.iter().enumerate().filter(|(_, count)| **count > 0);
        ended.map(move |(code, count)| ([("method", &**name), ("code", code_name(code))], *count))
    });
    samples.counters("rpc_handled", "Calls that ended, by method and gRPC status", handled)?;
    let in_flight = named.iter().map(|(name, method)| ([("method", &**name)], method.in_flight as f64));
    samples.gauges("rpc_in_flight", "Calls that began and have not ended, watches included, by method", in_flight)?;
    let durations = named.iter().map(|(name, method)| ([("method", &**name)], durations(method)));
    samples.histograms("rpc_duration", "How long calls took in the server, by method", durations)
}

/// Durations of a method in half as many buckets, in seconds, and their sum.
fn durations(method: &MethodSnapshot) -> (Vec<(f64, u64)>, f64) {
    let mut buckets = Vec::with_capacity(BUCKETS / 2);
    let mut count = 0;
    for (place, in_bucket) in method.latency.iter().enumerate() {
        count += in_bucket;
        if place >= FIRST_BUCKET && (place - FIRST_BUCKET).is_multiple_of(2) && place < BUCKETS - 1 {
            buckets.push(((1u64 << place) as f64 / 1_000_000.0, std::mem::take(&mut count)));
        }
    }
    buckets.push((f64::INFINITY, count));
    (buckets, method.latency_sum_us as f64 / 1_000_000.0)
}

fn rates(samples: &mut Samples<'_>, classes: &[ClassFigures]) -> fmt::Result {
    let each = |value: fn(&ClassFigures) -> u64| {
        classes.iter().map(move |figures| ([("class", figures.class.name())], value(figures)))
    };
    samples.counters("rate_accepted", "Calls within the rate of their client, by class", each(|it| it.accepted))?;
    samples.counters("rate_limited", "Calls that were refused as RATE_LIMITED, by class", each(|it| it.refused))
}

fn queues_and_cache(samples: &mut Samples<'_>, engine: &Engine) -> fmt::Result {
    let depths = LaneKind::ALL.iter().zip(engine.queue_depths());
    let depths = depths.map(|(lane, depth)| ([("lane", lane.name())], depth as f64));
    samples.gauges("queue_depth", "Operations that wait before a lane, by lane", depths)?;
    let cache = engine.shared().cache.figures();
    samples.gauge("cache_entries", "Rows of state that are cached", cache.entries as f64)?;
    samples.gauge(
        "cache_size_bytes",
        "Memory that cached state takes, as estimated for its bound",
        cache.bytes as f64,
    )?;
    samples.counter("cache_hits", "Looks into the cache that found something", cache.hits)?;
    samples.counter("cache_misses", "Looks into the cache that found nothing", cache.misses)?;
    samples.counter("cache_evictions", "Entries that were dropped to stay within the bounds", cache.evictions)?;
    segment_cache(samples, engine.shared().cache.segment_figures())
}

fn segment_cache(samples: &mut Samples<'_>, segments: CacheFigures) -> fmt::Result {
    samples.gauge("segment_cache_entries", "Segments of timelines that are cached", segments.entries as f64)?;
    samples.counter("segment_cache_hits", "Looks into the cache for a segment that found it", segments.hits)?;
    samples.counter(
        "segment_cache_misses",
        "Looks into the cache for a segment that found nothing",
        segments.misses,
    )?;
    samples.counter(
        "segment_cache_evictions",
        "Segments that were dropped to stay within the bounds",
        segments.evictions,
    )
}

fn timelines(samples: &mut Samples<'_>, gate: &TimelineGate) -> fmt::Result {
    let figures = gate.figures();
    samples.gauge("timeline_operations", "Calls of timelines that are at the database", figures.in_use as f64)?;
    samples.gauge(
        "timeline_operations_max",
        "Calls of timelines that may be there at once",
        figures.max_operations as f64,
    )?;
    samples.gauge("timeline_waiting", "Calls of timelines that wait in line", figures.waiting as f64)?;
    samples.counter(
        "timeline_completed",
        "Calls of timelines that were let through and have ended",
        figures.completed,
    )?;
    samples.counter("timeline_rejected", "Calls of timelines that waited for too long", figures.rejected)
}

fn pool(samples: &mut Samples<'_>, store: &Store) -> fmt::Result {
    let pools = store.pools();
    let each = |value: fn(&crate::store::pool::PoolFigures) -> usize| {
        pools.iter().map(move |(name, figures)| ([("pool", *name)], value(figures) as f64))
    };
    samples.gauges("pool_max_connections", "Connections that a pool may open", each(|it| it.max_connections))?;
    samples.gauges("pool_connections", "Connections that are open", each(|it| it.connections))?;
    samples.gauges("pool_idle_connections", "Open connections that are not in use", each(|it| it.idle))?;
    samples.gauges("pool_waiting", "Calls that wait for a connection", each(|it| it.waiting))?;
    let rejected = pools.iter().map(|(name, figures)| ([("pool", *name)], figures.rejected));
    samples.counters("pool_rejected", "Calls that got no connection in time", rejected)
}

fn permits(samples: &mut Samples<'_>, shared: &crate::engine::Shared) -> fmt::Result {
    samples.gauge("permits_waiting", "Callers who wait here for a permit", shared.permits.waits.len() as f64)?;
    let open = shared.permits.breakers.open();
    samples.gauge(
        "breakers_open",
        "Circuit breakers that this server knows to be open or half open",
        open.len() as f64,
    )?;
    let mut named: Vec<(String, String)> = open
        .iter()
        .filter_map(|(key, name)| Some((shared.jobs.queues.namespace(key.namespace)?, name.to_string())))
        .collect();
    named.sort_unstable();
    named.dedup();
    named.truncate(MAX_RESOURCES);
    let rows = named.iter().map(|(namespace, name)| ([("namespace", &**namespace), ("resource", &**name)], 1.0));
    samples.gauges("breaker_open", "1 for each resource whose breaker is open or half open, for at most 50", rows)
}

fn background(samples: &mut Samples<'_>, loops: &BackgroundJobs) -> fmt::Result {
    let is_leader = f64::from(u8::from(loops.is_leader()));
    samples.gauge(
        "background_turn",
        "1 on the server that runs the background jobs of all servers, else 0",
        is_leader,
    )?;
    let each = loops.snapshot();
    let counted = |value: fn(&crate::task::BackgroundJobFigures) -> u64| {
        each.iter().map(move |figures| ([("loop", figures.name)], value(figures)))
    };
    samples.counters("loop_runs", "How often a background loop looked", counted(|it| it.runs))?;
    samples.counters(
        "loop_failures",
        "How often a background loop could not do its work",
        counted(|it| it.failures),
    )?;
    samples.counters("loop_items", "What a background loop dealt with", counted(|it| it.items))
}
