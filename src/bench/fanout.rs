//! Changes delivered to watchers: their number, latency and cost; beside a plain broadcast of the same message.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::Semaphore;

use super::address::{Address, KeyedChannel};
use super::compare;
use super::load::{channels, closed_loop};
use super::report::{Row, remark};
use super::servers::Server;
use super::settings::BenchSettings;
use super::watchers::Watchers;
use super::workloads::{applied, fresh_number, prepare, update_call};
use crate::proto;
use crate::proto::admin_service_client::AdminServiceClient;
use crate::proto::job_service_client::JobServiceClient;

/// Number of watchers of the large runs.
const MANY: usize = 2_000;
/// Maximum number of updates in flight.
const IN_FLIGHT: usize = 256;
/// Number of changes of state that reconnecting watchers have missed.
const MISSED: usize = 400;
/// Number of watchers that never read, their stream window in bytes, number of watchers beside them that read, and
/// updates in flight.
const DEAF: usize = 200;
const DEAF_WINDOW: u32 = 1_024;
const LISTENING: usize = 20;
const SENDING: usize = 32;
/// Flags that turn merging off, so that every update of progress goes to every watcher, which no user needs.
const EVERY_STEP: &[&str] = &["serve", "--watch-conflation", "false", "--watch-streams-per-connection", "600"];

/// One run: watchers of jobs, and the rate of changes per second.
struct Scene<'a> {
    name: String,
    server: &'a Server,
    prefix: &'a str,
    jobs: usize,
    watchers: usize,
    rate: u32,
}

pub async fn fanout(scene: &compare::Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let (settings, ours) = (scene.settings, &scene.pair.ours);
    let database_url = settings.database_url.as_deref();
    let database_url = database_url.context("a second server needs --database, the database of the first")?;
    let (hot, many) = (prepare(scene, "jobs", 1).await?, prepare(scene, "jobs", MANY as u64).await?);
    let every_step = Server::start(EVERY_STEP, database_url).await?;
    let broadcast = Server::start(&["bench", "broadcast"], database_url).await?;
    let scene = |name: &str, server, prefix, jobs, watchers, rate| Scene {
        name: format!("{name}, {rate}/s"),
        server,
        prefix,
        jobs,
        watchers,
        rate,
    };
    // Runs first, while the server holds no memory from other runs.
    let mut rows = vec![idle(&every_step, &many).await?];
    rows.push(scene("1 job × 100", ours, &hot, 1, 100, 1_000).run(settings).await?);
    rows.push(scene("2,000 jobs × 1", ours, &many, MANY, MANY, 1_000).run(settings).await?);
    rows.push(scene("1 job × 2,000", ours, &hot, 1, MANY, 1_000).run(settings).await?);
    let limit = limit(settings, &broadcast).await?;
    for rate in [250, 500, 1_000] {
        let mut row = scene("every step × 2,000", &every_step, &hot, 1, MANY, rate).run(settings).await?;
        let ratio = row.per_second / limit.per_second;
        (row.ratio, row.spread) = (Some(ratio), Some((ratio, ratio)));
        rows.push(row);
    }
    rows.push(limit);
    rows.extend(deaf(settings, ours, &hot).await?);
    rows.push(reconnect(ours, &hot).await?);
    every_step.stop().await;
    broadcast.stop().await;
    Ok(rows)
}

impl Scene<'_> {
    async fn run(self, settings: &BenchSettings) -> anyhow::Result<Row> {
        let names: Vec<String> = (0..self.jobs).map(|i| format!("{}-{i}", self.prefix)).collect();
        let mut watchers = Watchers::begin(&self.server.address, self.watchers, &names, 0).await?;
        let warm_up = Duration::from_millis(500);
        let sender = self.send(warm_up + settings.run).await?;
        tokio::time::sleep(warm_up).await;
        watchers.forget_latencies();
        let (received, cpu, began) = (watchers.received(), self.server.cpu_us(), Instant::now());
        tokio::time::sleep(settings.run).await;
        let (took, received, cpu) =
            (began.elapsed().as_secs_f64(), watchers.received() - received, self.server.cpu_us() - cpu);
        let newest = sender.await??;
        if self.jobs == 1 {
            watchers.until_all_at(newest).await?;
        }
        let row = Row {
            per_second: received as f64 / took,
            p50_us: watchers.latency(0.5),
            p99_us: watchers.latency(0.99),
            server_cpu_us: cpu / received.max(1) as f64,
            memory_bytes: self.server.memory_bytes(),
            ..Row::blank(&self.name, "interlock", self.watchers)
        };
        let (received, skipped) = (watchers.received(), watchers.skipped());
        remark(format!("{}: {received} changes received, {skipped} versions merged into later ones", self.name));
        watchers.end().await?;
        Ok(row)
    }

    /// Sends updates at the rate for `run`. The task returns the newest version.
    async fn send(&self, run: Duration) -> anyhow::Result<tokio::task::JoinHandle<anyhow::Result<i64>>> {
        let channels: Vec<KeyedChannel> = channels(&self.server.address, IN_FLIGHT).await?;
        let call = update_call(self.prefix, self.jobs as u64, self.watchers);
        let (between, jobs) = (Duration::from_secs(1) / self.rate, self.jobs);
        Ok(tokio::spawn(async move {
            let (places, newest) = (Arc::new(Semaphore::new(IN_FLIGHT)), Arc::new(AtomicI64::new(0)));
            let (began, mut sent) = (tokio::time::Instant::now(), 0_u64);
            while began.elapsed() < run {
                // Open loop: a late update does not delay those after it.
                tokio::time::sleep_until(began + between * u32::try_from(sent)?).await;
                let place = places.clone().acquire_owned().await?;
                let (call, channel, newest) =
                    (call.clone(), channels[sent as usize % channels.len()].clone(), newest.clone());
                sent += 1;
                let number = fresh_number();
                tokio::spawn(async move {
                    if let Ok(reply) = call(channel, number).await
                        && jobs == 1
                    {
                        newest.fetch_max(reply.job_version, Ordering::Relaxed);
                    }
                    drop(place);
                });
            }
            let _all = places.acquire_many(u32::try_from(IN_FLIGHT)?).await?;
            Ok(newest.load(Ordering::Relaxed))
        }))
    }
}

/// Deliveries of a plain broadcast to as many watchers.
async fn limit(settings: &BenchSettings, broadcast: &Server) -> anyhow::Result<Row> {
    let watchers = Watchers::begin(&broadcast.address, MANY, &["hot-0".to_owned()], 0).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    watchers.forget_latencies();
    let (received, cpu, began) = (watchers.received(), broadcast.cpu_us(), Instant::now());
    tokio::time::sleep(settings.run).await;
    let received = watchers.received() - received;
    let row = Row {
        per_second: received as f64 / began.elapsed().as_secs_f64(),
        p50_us: watchers.latency(0.5),
        p99_us: watchers.latency(0.99),
        server_cpu_us: (broadcast.cpu_us() - cpu) / received.max(1) as f64,
        ratio: Some(1.0),
        spread: Some((1.0, 1.0)),
        ..Row::blank("every step × 2,000", "broadcast", MANY)
    };
    watchers.end().await?;
    Ok(row)
}

/// Memory of an idle watcher.
async fn idle(server: &Server, prefix: &str) -> anyhow::Result<Row> {
    let names: Vec<String> = (0..MANY).map(|i| format!("{prefix}-{i}")).collect();
    let before = server.resident_bytes();
    let watchers = Watchers::begin(&server.address, MANY, &names, 0).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let per_watcher = server.resident_bytes().saturating_sub(before) / MANY as u64;
    watchers.end().await?;
    remark(format!("an idle watcher takes {:.1} KiB of the server's memory", per_watcher as f64 / 1024.0));
    Ok(Row { memory_bytes: server.memory_bytes(), ..Row::blank("idle watchers", "interlock", MANY) })
}

/// Cost to others of watchers that never read: updates and deliveries without and with [`DEAF`] of them, in
/// alternation.
async fn deaf(settings: &BenchSettings, server: &Server, prefix: &str) -> anyhow::Result<Vec<Row>> {
    let names = [format!("{prefix}-0")];
    let mut watchers = Watchers::begin(&server.address, LISTENING, &names, 0).await?;
    let senders = channels(&server.address, SENDING).await?;
    let mut runs: [Vec<(f64, u32, u32)>; 2] = Default::default();
    let before = server.resident_bytes();
    for i in 0..2 * settings.pairs.max(1) {
        let crowd = if i % 2 == 0 { Vec::new() } else { never_read(&server.address, &names[0]).await? };
        watchers.forget_latencies();
        let call = applied(update_call(prefix, 1, SENDING + i));
        let call = move |channel, _| call(channel, fresh_number());
        let sample = closed_loop(&senders, SENDING, settings.run, call).await?;
        runs[i % 2].push((sample.per_second(), sample.quantile(0.99), watchers.latency(0.99)));
        watchers.check()?;
        drop(crowd);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    remark(format!("with {DEAF} watchers who never read the server's memory grew by {} MiB", grown >> 20));
    watchers.end().await?;
    let rows = runs.map(|mut runs| {
        runs.sort_by_key(|(_, p99_us, _)| *p99_us);
        let (per_second, p99_us, news_us) = runs[runs.len() / 2];
        remark(format!(
            "updates per second {per_second:.0}, their p99 {p99_us} µs, that of news to the others {news_us} µs"
        ));
        Row { per_second, p99_us, memory_bytes: server.memory_bytes(), ..Row::blank("updates", "interlock", SENDING) }
    });
    let [mut alone, mut beside] = rows;
    alone.workload = "updates, 0 deaf".to_owned();
    beside.workload = format!("updates, {DEAF} deaf");
    let ratio = f64::from(beside.p99_us) / f64::from(alone.p99_us.max(1));
    (beside.ratio, beside.spread) = (Some(ratio), Some((ratio, ratio)));
    Ok(vec![alone, beside])
}

/// Opens watches that are never read.
async fn never_read(address: &Address, job_id: &str) -> anyhow::Result<Vec<tonic::Streaming<proto::WatchJobResponse>>> {
    // A small window: otherwise the client library would read for them until its window is full.
    let channel = address.clone().with_stream_window(DEAF_WINDOW).connect().await?;
    let mut streams = Vec::with_capacity(DEAF);
    for _ in 0..DEAF {
        let request = proto::WatchJobRequest { job_id: job_id.to_owned(), from_version: 0 };
        streams.push(JobServiceClient::new(channel.clone()).watch_job(request).await?.into_inner());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(streams)
}

/// All watchers reconnect at once after an old version.
async fn reconnect(server: &Server, prefix: &str) -> anyhow::Result<Row> {
    let job_id = format!("{prefix}-0");
    let channel = channels(&server.address, 1).await?.remove(0);
    let mut jobs = JobServiceClient::new(channel.clone());
    let job = proto::GetJobRequest { job_id: job_id.clone(), ..Default::default() };
    let from = jobs.get_job(job).await?.into_inner().job.map_or(0, |job| job.version);
    let mut newest = from;
    for _ in 0..MISSED / 2 {
        let pause = proto::PauseJobRequest { job_id: job_id.clone(), ..Default::default() };
        jobs.pause_job(pause).await?;
        let resume = proto::ResumeJobRequest { job_id: job_id.clone(), ..Default::default() };
        newest = jobs.resume_job(resume).await?.into_inner().job.map_or(0, |job| job.version);
    }
    let reads = histories_read(channel.clone()).await?;
    let began = Instant::now();
    let mut watchers = Watchers::begin(&server.address, MANY, std::slice::from_ref(&job_id), from).await?;
    watchers.until_all_at(newest).await?;
    let took = began.elapsed();
    let reads = histories_read(channel).await? - reads;
    remark(format!("{MANY} watchers resumed over {MISSED} changes in {took:.2?} with {reads} reads of history"));
    let row = Row {
        per_second: watchers.received() as f64 / took.as_secs_f64(),
        memory_bytes: server.memory_bytes(),
        ..Row::blank("reconnect", "interlock", MANY)
    };
    watchers.end().await?;
    Ok(row)
}

async fn histories_read(channel: KeyedChannel) -> anyhow::Result<i64> {
    let statistics = AdminServiceClient::new(channel).get_statistics(proto::GetStatisticsRequest {}).await?;
    Ok(statistics.into_inner().feed.map_or(0, |feed| feed.histories_read))
}
