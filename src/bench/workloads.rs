//! Workloads that run on two servers in alternation.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;

use super::address::KeyedChannel;
use super::compare::{ComparedSide, Scene};
use super::load::channels;
use super::report::Row;
use super::servers::Server;
use crate::proto;
use crate::proto::job_service_client::JobServiceClient;
use crate::proto::worker_service_client::WorkerServiceClient;

/// Number of stages of the updated jobs.
const STAGES: u64 = 7;
/// Number of jobs of the workloads with many jobs.
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

/// Runs two servers over one database, each call to one of them, beside one server alone.
pub async fn servers(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let database_url = scene.settings.database_url.as_deref();
    let database_url = database_url.context("a second server needs --database, the database of the first")?;
    let prefix = prepare(scene, "jobs", MANY).await?;
    let second = Server::start(&["serve"], database_url).await?;
    let mut rows = Vec::new();
    for in_flight in scene.settings.in_flight(&[64, 512]) {
        let alone = ComparedSide::of(&scene.pair.ours, in_flight).await?;
        let other = channels(&second.address, in_flight).await?;
        let both = alone.channels.iter().zip(&other).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        let sides = (ComparedSide { server: &scene.pair.ours, channels: both }, Some(alone));
        let mut both = update_at(scene, &sides, "two servers", &prefix, MANY, in_flight).await?;
        both[1].variant = "one server".to_owned();
        rows.extend(both);
    }
    second.stop().await;
    Ok(rows)
}

/// Future with the response of an update.
pub type Updated = futures::future::BoxFuture<'static, Result<proto::UpdateStageProgressResponse, tonic::Status>>;

/// Returns a number that no other update of this run has.
pub fn fresh_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Returns a call that updates the stages of the jobs in rotation.
pub fn update_call(
    prefix: &str,
    jobs: u64,
    in_flight: usize,
) -> impl Fn(KeyedChannel, u64) -> Updated + Clone + Send + Sync + 'static {
    let prefix = prefix.to_owned();
    move |channel: KeyedChannel, n: u64| {
        // The jobs are spread, so that consecutive calls do not touch neighbouring rows.
        let (job, stage) = ((n * 7_919) % jobs, (n / jobs) % STAGES);
        let update = proto::UpdateStageProgressRequest {
            target: Some(proto::StageTarget::named(format!("{prefix}-{job}"), format!("s{stage}"))),
            progress: Some((n as f64 / 1e9).min(1.0)),
            // The message always changes, even if the progress does not.
            message: Some(format!("{n} by {in_flight}")),
            ..Default::default()
        };
        Box::pin(async move {
            WorkerServiceClient::new(channel).update_stage_progress(update).await.map(tonic::Response::into_inner)
        })
    }
}

/// The same call; it returns only whether it changed something.
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
    sides: &(ComparedSide<'_>, Option<ComparedSide<'_>>),
    name: &str,
    prefix: &str,
    jobs: u64,
    in_flight: usize,
) -> anyhow::Result<Vec<Row>> {
    let before = scene.stored().await?;
    let (pairs, applied) = scene.compare(sides, in_flight, applied(update_call(prefix, jobs, in_flight))).await?;
    let after = scene.stored().await?;
    if let (Some(before), Some(after)) = (before, after) {
        let stored = after.versions - before.versions;
        anyhow::ensure!(stored == applied, "{applied} updates were acknowledged, {stored} are stored");
    }
    Ok(scene.summary(name, in_flight, &pairs))
}

/// Submits jobs and starts all their stages by name. Returns the prefix of their ids; `name` distinguishes those of one
/// run.
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
