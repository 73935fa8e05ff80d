//! What is done to the two servers, in turn, and what it comes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context;

use super::address::{Address, KeyedChannel};
use super::compare::{Scene, Side, row};
use super::load::{Sample, channels};
use super::raw;
use super::report::Row;
use super::servers::Server;
use crate::proto;
use crate::proto::job_service_client::JobServiceClient;
use crate::proto::worker_service_client::WorkerServiceClient;

/// Stages of the jobs that are updated.
const STAGES: u64 = 7;
/// How many jobs "many" are.
pub const MANY: u64 = 2_000;

/// SubmitJob of one stage.
pub async fn submit(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for in_flight in scene.settings.in_flight(&[1, 8, 64, 256]) {
        let name = scene.name.clone();
        let call = move |channel: KeyedChannel, _: u64| {
            let stage = proto::StageSpec { name: "main".into(), queue: name.clone(), ..Default::default() };
            let job = proto::SubmitJobRequest { kind: name.clone(), stages: vec![stage], ..Default::default() };
            async move { JobServiceClient::new(channel).submit_job(job).await.map(|_| true) }
        };
        let before = scene.stored().await?;
        let (pairs, applied) = scene.compare(&scene.sides(in_flight).await?, in_flight, call).await?;
        let after = scene.stored().await?;
        if let (Some(before), Some(after)) = (before, after) {
            let stored = after.jobs - before.jobs;
            anyhow::ensure!(stored == applied, "{applied} jobs were acknowledged, {stored} are stored");
        }
        rows.extend(scene.summary("submit", in_flight, &pairs));
    }
    Ok(rows)
}

/// UpdateStageProgress, by name, on many jobs and on one.
pub async fn update(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, jobs) in [("update many jobs", MANY), ("update one job", 1)] {
        let prefix = prepare(scene, "jobs", jobs).await?;
        for in_flight in scene.settings.in_flight(&[1, 8, 64, 512]) {
            let sides = scene.sides(in_flight).await?;
            rows.extend(update_at(scene, &sides, name, &prefix, jobs, in_flight).await?);
        }
    }
    Ok(rows)
}

/// From 1 to 1,024 writers on one job.
pub async fn contention(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let prefix = prepare(scene, "jobs", 1).await?;
    let mut rows = Vec::new();
    for in_flight in scene.settings.in_flight(&[1, 32, 256, 1_024]) {
        let sides = scene.sides(in_flight).await?;
        rows.extend(update_at(scene, &sides, "contention", &prefix, 1, in_flight).await?);
    }
    Ok(rows)
}

/// Two servers over one database, each call to either, beside one alone.
pub async fn servers(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let database_url = scene.settings.database_url.as_deref();
    let database_url = database_url.context("a second server needs --database, the database of the first")?;
    let prefix = prepare(scene, "jobs", MANY).await?;
    let second = Server::start(&["serve"], database_url).await?;
    let mut rows = Vec::new();
    for in_flight in scene.settings.in_flight(&[64, 512]) {
        let alone = Side::of(&scene.pair.ours, in_flight).await?;
        let other = channels(&second.address, in_flight).await?;
        let both = alone.channels.iter().zip(&other).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        let sides = (Side { server: &scene.pair.ours, channels: both }, Some(alone));
        let mut both = update_at(scene, &sides, "two servers", &prefix, MANY, in_flight).await?;
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
    prefix: &str,
    jobs: u64,
    in_flight: usize,
) -> impl Fn(KeyedChannel, u64) -> Updated + Clone + Send + Sync + 'static {
    let prefix = prefix.to_owned();
    move |channel: KeyedChannel, n: u64| {
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
    update: impl Fn(KeyedChannel, u64) -> Updated + Clone + Send + Sync + 'static,
) -> impl Fn(KeyedChannel, u64) -> futures::future::BoxFuture<'static, Result<bool, tonic::Status>>
+ Clone
+ Send
+ Sync
+ 'static {
    move |channel, n| {
        let updated = update(channel, n);
        Box::pin(async move { updated.await.map(|reply| reply.applied) })
    }
}

async fn update_at(
    scene: &Scene<'_>,
    sides: &(Side<'_>, Option<Side<'_>>),
    name: &str,
    prefix: &str,
    jobs: u64,
    in_flight: usize,
) -> anyhow::Result<Vec<Row>> {
    let before = scene.stored().await?;
    let (pairs, applied) = scene.compare(sides, in_flight, applied(update_call(prefix, jobs, in_flight))).await?;
    let after = scene.stored().await?;
    if let (Some(before), Some(after)) = (before, after) {
        let stored = after.revisions - before.revisions;
        anyhow::ensure!(stored == applied, "{applied} updates were acknowledged, {stored} are stored");
    }
    Ok(scene.summary(name, in_flight, &pairs))
}

/// Leases and completes until nothing is left, beside the plainest cycle in SQL.
pub async fn drain(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let (settings, server) = (scene.settings, &scene.pair.ours);
    let (ours, theirs) = (format!("{}-ours", scene.name), format!("{}-raw", scene.name));
    let raw = match &settings.database_url {
        Some(database_url) => {
            submit_bulk(scene, &theirs, settings.stages / 2).await?;
            submit_bulk(scene, &ours, settings.stages).await?;
            scene.settle().await?;
            let started = Instant::now();
            Some(raw::drain(database_url, &theirs, 4).await? as f64 / started.elapsed().as_secs_f64())
        }
        None => {
            submit_bulk(scene, &ours, settings.stages).await?;
            None
        }
    };
    let before = scene.stored().await?;
    let run = scene.costed(server, drain_queue(&server.address, ours, settings.stages as u64)).await?;
    let after = scene.stored().await?;
    if let (Some(before), Some(after)) = (before, after) {
        let stored = after.done - before.done;
        anyhow::ensure!(stored == settings.stages as i64, "{stored} stages are stored as done");
    }
    let mut row = row("drain", "interlock", 64, &[&run]);
    row.memory_bytes = server.memory_bytes();
    let Some(raw) = raw else { return Ok(vec![row]) };
    let ratio = run.sample.per_second() / raw;
    (row.ratio, row.spread) = (Some(ratio), Some((ratio, ratio)));
    let mut other = row.clone();
    (other.variant, other.per_second, other.ratio, other.spread) = ("raw SQL".into(), raw, Some(1.0), Some((1.0, 1.0)));
    (other.p50_us, other.p99_us, other.server_cpu_us, other.postgres_cpu_us) = (0, 0, 0.0, 0.0);
    (other.wal_bytes, other.commits) = (0.0, 0.0);
    Ok(vec![row, other])
}

async fn drain_queue(address: &Address, queue: String, stages: u64) -> anyhow::Result<Sample> {
    let left = Arc::new(AtomicU64::new(stages));
    let channels = channels(address, 256).await?;
    let started = Instant::now();
    let mut workers = Vec::new();
    for i in 0..8 {
        let (channel, left, queue) = (channels[i % channels.len()].clone(), left.clone(), queue.clone());
        workers.push(tokio::spawn(async move {
            let mut client = WorkerServiceClient::new(channel);
            while left.load(Ordering::Relaxed) > 0 {
                let poll = proto::LeaseStagesRequest {
                    worker_id: format!("bench-{i}"),
                    queues: vec![queue.clone()],
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

/// Jobs whose stages are all being run by name. Returns how their ids begin; `name` tells apart those of one run.
pub async fn prepare(scene: &Scene<'_>, name: &str, jobs: u64) -> anyhow::Result<String> {
    let channel = channels(&scene.pair.ours.address, 1).await?.remove(0);
    let prefix = format!("{}-{}-of-{jobs}", scene.name, name.replace(' ', "-"));
    let stages: Vec<proto::StageSpec> =
        (0..STAGES).map(|i| proto::StageSpec { name: format!("s{i}"), direct: true, ..Default::default() }).collect();
    let job = |i| proto::SubmitJobRequest {
        job_id: Some(format!("{prefix}-{i}")),
        kind: scene.name.clone(),
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
    scene.settle().await?;
    Ok(prefix)
}

/// Jobs of a hundred independent stages in a queue.
async fn submit_bulk(scene: &Scene<'_>, queue: &str, stages: usize) -> anyhow::Result<()> {
    let channel = channels(&scene.pair.ours.address, 1).await?.remove(0);
    let specs: Vec<proto::StageSpec> = (0..100)
        .map(|i| proto::StageSpec { name: format!("s{i}"), queue: queue.to_owned(), ..Default::default() })
        .collect();
    let job = proto::SubmitJobRequest { kind: scene.name.clone(), stages: specs, ..Default::default() };
    for _ in 0..stages.div_ceil(2_000) {
        let request = proto::BatchSubmitJobsRequest { jobs: vec![job.clone(); 20], ..Default::default() };
        JobServiceClient::new(channel.clone()).batch_submit_jobs(request).await?;
    }
    Ok(())
}
