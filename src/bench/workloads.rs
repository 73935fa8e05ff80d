//! What is done to the two servers, in turn, and what it comes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tonic::transport::Channel;

use super::database::Database;
use super::load::{Sample, channels, closed_loop};
use super::report::Row;
use super::servers::{Pair, Server};
use super::{Settings, raw};
use crate::proto;
use crate::proto::job_service_client::JobServiceClient;
use crate::proto::worker_service_client::WorkerServiceClient;

/// Stages of the jobs that are updated.
const STAGES: u64 = 7;
/// How many jobs "many" are.
const MANY: u64 = 2_000;

/// One run of one variant, with what it cost.
struct Run {
    sample: Sample,
    server_cpu_us: f64,
    postgres_cpu_us: f64,
    wal_bytes: f64,
    commits: f64,
}

/// SubmitJob of one stage.
pub async fn submit(settings: &Settings, pair: &Pair, database: &Database) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for in_flight in [1, 8, 64, 256] {
        let call = |channel: Channel, _: u64| async move {
            let stage = proto::StageSpec { name: "main".into(), queue: "bench-submit".into(), ..Default::default() };
            let job = proto::SubmitJobRequest { kind: "bench".into(), stages: vec![stage], ..Default::default() };
            JobServiceClient::new(channel).submit_job(job).await.map(|_| true)
        };
        let (_, before, _) = database.totals().await?;
        let (pairs, applied) =
            compare(settings, pair, database, &Side::both(pair, in_flight).await?, in_flight, call).await?;
        let (_, after, _) = database.totals().await?;
        anyhow::ensure!(after - before == applied, "{applied} jobs were acknowledged, {} are stored", after - before);
        rows.extend(summary("submit", in_flight, &pairs, pair));
    }
    Ok(rows)
}

/// UpdateStageProgress, by name, on many jobs and on one.
pub async fn update(settings: &Settings, pair: &Pair, database: &Database) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, prefix, jobs) in [("update many jobs", "many", MANY), ("update one job", "one", 1)] {
        prepare(&pair.ours, prefix, jobs).await?;
        database.settle().await?;
        for in_flight in [1, 8, 64, 512] {
            rows.extend(update_at(settings, pair, database, name, prefix, jobs, in_flight).await?);
        }
    }
    Ok(rows)
}

/// From 1 to 1,024 writers on one job.
pub async fn contention(settings: &Settings, pair: &Pair, database: &Database) -> anyhow::Result<Vec<Row>> {
    prepare(&pair.ours, "hot", 1).await?;
    let mut rows = Vec::new();
    for in_flight in [1, 32, 256, 1_024] {
        rows.extend(update_at(settings, pair, database, "contention", "hot", 1, in_flight).await?);
    }
    Ok(rows)
}

/// Two servers over one database, each call to either, beside one alone.
pub async fn servers(settings: &Settings, pair: &Pair, database: &Database) -> anyhow::Result<Vec<Row>> {
    prepare(&pair.ours, "many", MANY).await?;
    database.settle().await?;
    let second = Server::start(&["serve"], &settings.database_url).await?;
    let mut rows = Vec::new();
    for in_flight in [64, 512] {
        let alone = channels(&pair.ours.address, in_flight).await?;
        let other = channels(&second.address, in_flight).await?;
        let both = alone.iter().zip(&other).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        let sides = [Side { server: &pair.ours, channels: both }, Side { server: &pair.ours, channels: alone }];
        let call = applied(update_call("many", MANY, in_flight));
        let (before, ..) = database.totals().await?;
        let (pairs, applied) = compare(settings, pair, database, &sides, in_flight, call).await?;
        let (after, ..) = database.totals().await?;
        anyhow::ensure!(
            after - before == applied,
            "{applied} updates were acknowledged, {} are stored",
            after - before
        );
        let mut both = summary("two servers", in_flight, &pairs, pair);
        both[1].variant = "one server".to_owned();
        rows.extend(both);
    }
    second.stop().await;
    Ok(rows)
}

/// The answer to an update.
pub type Updated = futures::future::BoxFuture<'static, Result<proto::UpdateStageProgressResponse, tonic::Status>>;

/// A number that no update of this run has had.
pub fn fresh_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Updates of the stages of jobs in turn.
pub fn update_call(
    prefix: &'static str,
    jobs: u64,
    in_flight: usize,
) -> impl Fn(Channel, u64) -> Updated + Clone + Send + Sync + 'static {
    move |channel: Channel, n: u64| {
        // The jobs are spread, so that neighbours in time are not neighbours in the table.
        let (job, stage) = ((n * 7_919) % jobs, (n / jobs) % STAGES);
        let stage_ref = proto::StageRef { job_id: format!("{prefix}-{job}"), stage_name: format!("s{stage}") };
        let update = proto::UpdateStageProgressRequest {
            target: Some(proto::update_stage_progress_request::Target::StageRef(stage_ref)),
            progress: Some((n as f64 / 1e9).min(1.0)),
            // Always news, also where the progress is not.
            message: Some(format!("{n} by {in_flight}")),
            ..Default::default()
        };
        Box::pin(async move {
            WorkerServiceClient::new(channel).update_stage_progress(update).await.map(tonic::Response::into_inner)
        })
    }
}

/// The same, of which only whether it changed something is of interest.
pub fn applied(
    update: impl Fn(Channel, u64) -> Updated + Clone + Send + Sync + 'static,
) -> impl Fn(Channel, u64) -> futures::future::BoxFuture<'static, Result<bool, tonic::Status>> + Clone + Send + Sync + 'static
{
    move |channel, n| {
        let updated = update(channel, n);
        Box::pin(async move { updated.await.map(|reply| reply.applied) })
    }
}

async fn update_at(
    settings: &Settings,
    pair: &Pair,
    database: &Database,
    name: &str,
    prefix: &'static str,
    jobs: u64,
    in_flight: usize,
) -> anyhow::Result<Vec<Row>> {
    let call = applied(update_call(prefix, jobs, in_flight));
    let (before, ..) = database.totals().await?;
    let (pairs, applied) =
        compare(settings, pair, database, &Side::both(pair, in_flight).await?, in_flight, call).await?;
    let (after, ..) = database.totals().await?;
    anyhow::ensure!(after - before == applied, "{applied} updates were acknowledged, {} are stored", after - before);
    Ok(summary(name, in_flight, &pairs, pair))
}

/// Leases and completes until nothing is left, beside the plainest cycle in SQL.
pub async fn drain(settings: &Settings, pair: &Pair, database: &Database) -> anyhow::Result<Vec<Row>> {
    let (ours, theirs) = ("drain-ours", "drain-raw");
    submit_bulk(&pair.ours, theirs, settings.stages / 2).await?;
    submit_bulk(&pair.ours, ours, settings.stages).await?;
    database.settle().await?;
    let started = Instant::now();
    let raw = raw::drain(&settings.database_url, theirs, 4).await?;
    let raw = raw as f64 / started.elapsed().as_secs_f64();
    let (.., before) = database.totals().await?;
    let run = costed(&pair.ours, pair, database, drain_queue(&pair.ours.address, ours, settings.stages as u64)).await?;
    let (.., after) = database.totals().await?;
    anyhow::ensure!(after - before == settings.stages as i64, "{} stages are stored as done", after - before);
    let mut row = row("drain", "interlock", 64, &[&run]);
    row.ratio = run.sample.per_second() / raw;
    row.spread = (row.ratio, row.ratio);
    row.memory_bytes = pair.ours.memory_bytes();
    let mut other = row.clone();
    (other.variant, other.per_second, other.ratio, other.spread) = ("raw SQL".into(), raw, 1.0, (1.0, 1.0));
    (other.p50_us, other.p99_us, other.server_cpu_us, other.postgres_cpu_us) = (0, 0, 0.0, 0.0);
    (other.wal_bytes, other.commits) = (0.0, 0.0);
    Ok(vec![row, other])
}

async fn drain_queue(address: &str, queue: &'static str, stages: u64) -> anyhow::Result<Sample> {
    let left = Arc::new(AtomicU64::new(stages));
    let channels = channels(address, 256).await?;
    let started = Instant::now();
    let mut workers = Vec::new();
    for i in 0..8 {
        let (channel, left) = (channels[i % channels.len()].clone(), left.clone());
        workers.push(tokio::spawn(async move {
            let mut client = WorkerServiceClient::new(channel);
            while left.load(Ordering::Relaxed) > 0 {
                let poll = proto::LeaseStagesRequest {
                    worker_id: format!("bench-{i}"),
                    queues: vec![queue.to_owned()],
                    max_stages: 100,
                    wait: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
                    ..Default::default()
                };
                let leases = client.lease_stages(poll).await?.into_inner().leases;
                let completions =
                    leases.into_iter().map(|lease| {
                        let mut client = client.clone();
                        let target = Some(proto::complete_stage_request::Target::LeaseToken(lease.lease_token));
                        async move {
                            client.complete_stage(proto::CompleteStageRequest { target, ..Default::default() }).await
                        }
                    });
                for completed in futures::future::join_all(completions).await {
                    completed?;
                    left.fetch_sub(1, Ordering::Relaxed);
                }
            }
            Ok::<_, tonic::Status>(())
        }));
    }
    for worker in workers {
        worker.await??;
    }
    Ok(Sample { calls: stages, applied: stages, took: started.elapsed(), latencies: Vec::new() })
}

/// One of two that are compared.
struct Side<'a> {
    server: &'a Server,
    channels: Vec<Channel>,
}

impl<'a> Side<'a> {
    async fn both(pair: &'a Pair, in_flight: usize) -> anyhow::Result<[Side<'a>; 2]> {
        let side = async |server: &'a Server| {
            anyhow::Ok(Side { server, channels: channels(&server.address, in_flight).await? })
        };
        Ok([side(&pair.ours).await?, side(&pair.baseline).await?])
    }
}

/// Runs both variants in turn; returns the pairs, and how many calls changed something in all.
async fn compare<C, F>(
    settings: &Settings,
    pair: &Pair,
    database: &Database,
    sides: &[Side<'_>; 2],
    in_flight: usize,
    call: C,
) -> anyhow::Result<(Vec<(Run, Run)>, i64)>
where
    C: Fn(Channel, u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<bool, tonic::Status>> + Send + 'static,
{
    let [ours, theirs] = sides;
    let (mut pairs, mut applied) = (Vec::new(), 0);
    for i in 0..=settings.pairs {
        // The first pair warms up: it counts for what is stored, not for how fast.
        let run = if i == 0 { settings.run.min(Duration::from_millis(500)) } else { settings.run };
        let a = costed(ours.server, pair, database, closed_loop(&ours.channels, in_flight, run, call.clone())).await?;
        let b =
            costed(theirs.server, pair, database, closed_loop(&theirs.channels, in_flight, run, call.clone())).await?;
        applied += i64::try_from(a.sample.applied + b.sample.applied)?;
        if i > 0 {
            pairs.push((a, b));
        }
    }
    Ok((pairs, applied))
}

async fn costed(
    server: &Server,
    pair: &Pair,
    database: &Database,
    work: impl Future<Output = anyhow::Result<Sample>>,
) -> anyhow::Result<Run> {
    let (server_before, postgres_before) = (server.cpu_us(), pair.postgres_cpu_us());
    let before = database.counters().await?;
    let sample = work.await?;
    let after = database.counters().await?;
    let calls = sample.calls.max(1) as f64;
    Ok(Run {
        server_cpu_us: (server.cpu_us() - server_before) / calls,
        postgres_cpu_us: (pair.postgres_cpu_us() - postgres_before) / calls,
        wal_bytes: (after.wal_bytes - before.wal_bytes) / calls,
        commits: (after.commits - before.commits) / calls,
        sample,
    })
}

fn summary(name: &str, in_flight: usize, pairs: &[(Run, Run)], pair: &Pair) -> Vec<Row> {
    let mut ratios: Vec<f64> = pairs.iter().map(|(a, b)| a.sample.per_second() / b.sample.per_second()).collect();
    ratios.sort_by(f64::total_cmp);
    let mut ours = row(name, "interlock", in_flight, &pairs.iter().map(|(a, _)| a).collect::<Vec<_>>());
    let theirs = row(name, "per request", in_flight, &pairs.iter().map(|(_, b)| b).collect::<Vec<_>>());
    ours.ratio = ratios[ratios.len() / 2];
    ours.spread = (ratios[0], ratios[ratios.len() - 1]);
    ours.memory_bytes = pair.ours.memory_bytes();
    vec![ours, Row { memory_bytes: pair.baseline.memory_bytes(), ..theirs }]
}

fn row(name: &str, variant: &str, in_flight: usize, runs: &[&Run]) -> Row {
    let median = |value: &dyn Fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(|run| value(run)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    Row {
        workload: name.to_owned(),
        variant: variant.to_owned(),
        in_flight,
        per_second: median(&|run| run.sample.per_second()),
        p50_us: median(&|run| f64::from(run.sample.quantile(0.5))) as u32,
        p99_us: median(&|run| f64::from(run.sample.quantile(0.99))) as u32,
        server_cpu_us: median(&|run| run.server_cpu_us),
        postgres_cpu_us: median(&|run| run.postgres_cpu_us),
        wal_bytes: median(&|run| run.wal_bytes),
        commits: median(&|run| run.commits),
        ratio: 1.0,
        spread: (1.0, 1.0),
        memory_bytes: 0,
    }
}

/// Jobs whose stages are all being run by name.
pub async fn prepare(server: &Server, prefix: &str, jobs: u64) -> anyhow::Result<()> {
    let channel = channels(&server.address, 1).await?.remove(0);
    let stages: Vec<proto::StageSpec> =
        (0..STAGES).map(|i| proto::StageSpec { name: format!("s{i}"), direct: true, ..Default::default() }).collect();
    let job = |i| proto::SubmitJobRequest {
        job_id: format!("{prefix}-{i}"),
        kind: "bench".into(),
        stages: stages.clone(),
        ..Default::default()
    };
    let all: Vec<proto::SubmitJobRequest> = (0..jobs).map(job).collect();
    for batch in all.chunks(500) {
        let request = proto::BatchSubmitJobsRequest { jobs: batch.to_vec(), ..Default::default() };
        JobServiceClient::new(channel.clone()).batch_submit_jobs(request).await?;
    }
    let refs: Vec<proto::StageRef> = (0..jobs * STAGES)
        .map(|i| proto::StageRef { job_id: format!("{prefix}-{}", i / STAGES), stage_name: format!("s{}", i % STAGES) })
        .collect();
    for some in refs.chunks(256) {
        let starts = some.iter().map(|stage_ref| {
            let start = proto::StartStageRequest { stage_ref: Some(stage_ref.clone()), ..Default::default() };
            let mut client = WorkerServiceClient::new(channel.clone());
            async move { client.start_stage(start).await }
        });
        for started in futures::future::join_all(starts).await {
            started?;
        }
    }
    Ok(())
}

/// Jobs of a hundred independent stages in a queue.
async fn submit_bulk(server: &Server, queue: &str, stages: usize) -> anyhow::Result<()> {
    let channel = channels(&server.address, 1).await?.remove(0);
    let specs: Vec<proto::StageSpec> = (0..100)
        .map(|i| proto::StageSpec { name: format!("s{i}"), queue: queue.to_owned(), ..Default::default() })
        .collect();
    let job = proto::SubmitJobRequest { kind: "bench".into(), stages: specs, ..Default::default() };
    for _ in 0..stages.div_ceil(2_000) {
        let request = proto::BatchSubmitJobsRequest { jobs: vec![job.clone(); 20], ..Default::default() };
        JobServiceClient::new(channel.clone()).batch_submit_jobs(request).await?;
    }
    Ok(())
}
