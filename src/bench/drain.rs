//! Leases and completes stages until none is left: by single calls, by CompleteStages, over Work streams; beside a
//! plain table in batches of a hundred and one row at a time. The variants alternate within each run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::address::{Address, KeyedChannel};
use anyhow::Context;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::compare::{MeasuredRun, Scene, row};
use super::load::{Sample, channels};
use super::plain_queue;
use super::report::Row;
use crate::proto;
use crate::proto::job_service_client::JobServiceClient;
use crate::proto::stage_outcome::Outcome;
use crate::proto::worker_service_client::WorkerServiceClient;

/// Number of workers, each with a connection of its own.
const WORKERS: usize = 8;
/// Leases per call, and rows per claim.
const BATCH: i32 = 100;
/// Maximum number of leases of a worker on a stream.
const CAPACITY: i32 = 400;
/// Wait of a call for work, 20 ms. At the end of a run, also the wait for stages that other workers still hold.
const LAST_WAIT_NANOS: i32 = 20_000_000;
/// The number of stages of a run is a multiple of this.
const UNIT: usize = 2_000;

/// Method by which a worker of our server completes its stages.
#[derive(Clone, Copy)]
enum Way {
    Single,
    Batch,
    Stream,
}

const WAYS: [(Way, &str); 3] = [(Way::Single, "interlock"), (Way::Batch, "batches"), (Way::Stream, "Work stream")];
/// Rows per claim, number of connections, and name of the plain tables.
const PLAIN: [(i64, usize, &str); 2] = [(100, 4, "plain ×100"), (1, 16, "plain ×1")];

/// Drains queues in each way, and plain tables if the database is known.
pub async fn drain(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let settings = scene.settings;
    let stages = (settings.stages / settings.pairs).next_multiple_of(UNIT);
    let mut runs: Vec<Vec<MeasuredRun>> = Vec::new();
    for pair in 0..settings.pairs {
        let mut of_pair = Vec::new();
        for (way, _) in WAYS {
            of_pair.push(ours(scene, way, stages, pair).await?);
        }
        if let Some(url) = &settings.database_url {
            for (claim, connections, _) in PLAIN {
                of_pair.push(plain(scene, url, (claim, connections), stages).await?);
            }
        }
        runs.push(of_pair);
    }
    let name = format!("drain, {} a job", settings.stages_per_job);
    let variants = WAYS.iter().map(|(_, name)| *name).chain(PLAIN.iter().map(|(.., name)| *name));
    let mut rows = Vec::new();
    for (i, variant) in variants.enumerate() {
        let of_variant: Vec<&MeasuredRun> = runs.iter().filter_map(|pair| pair.get(i)).collect();
        if of_variant.is_empty() {
            continue;
        }
        let mut row = row(&name, variant, WORKERS, &of_variant);
        let beside = runs
            .iter()
            .filter_map(|pair| Some(pair.get(i)?.sample.per_second() / pair.get(WAYS.len())?.sample.per_second()));
        row.set_ratios(beside);
        row.memory_bytes = scene.pair.ours.memory_bytes();
        rows.push(row);
    }
    Ok(rows)
}

async fn ours(scene: &Scene<'_>, way: Way, stages: usize, pair: usize) -> anyhow::Result<MeasuredRun> {
    let queue = format!("{}-{}-{pair}", scene.name, way as usize);
    submit(scene, &queue, stages).await?;
    scene.settle().await?;
    let server = &scene.pair.ours;
    let before = scene.stored().await?;
    let run = scene.costed(server, drain_queue(&server.address, way, queue, stages as u64)).await?;
    let after = scene.stored().await?;
    if let (Some(before), Some(after)) = (before, after) {
        let stored = after.done - before.done;
        anyhow::ensure!(stored == stages as i64, "{stored} of {stages} stages are stored as done");
    }
    Ok(run)
}

async fn plain(scene: &Scene<'_>, url: &str, how: (i64, usize), stages: usize) -> anyhow::Result<MeasuredRun> {
    plain_queue::prepare(url, stages).await?;
    scene.settle().await?;
    let run = scene.costed(&scene.pair.ours, plain_queue::drain(url, how.1, how.0)).await?;
    let done = plain_queue::done(url).await?;
    anyhow::ensure!(done == stages as i64, "{done} of {stages} rows are done");
    Ok(run)
}

async fn drain_queue(address: &Address, way: Way, queue: String, stages: u64) -> anyhow::Result<Sample> {
    let left = Arc::new(AtomicU64::new(stages));
    let channels = channels(address, WORKERS * 64).await?;
    let started = Instant::now();
    let workers = channels.into_iter().take(WORKERS).enumerate().map(|(i, channel)| {
        let worker = Worker { client: WorkerServiceClient::new(channel), queue: queue.clone(), left: left.clone(), i };
        let work: BoxFuture<'static, anyhow::Result<()>> = match way {
            Way::Single => Box::pin(worker.single_calls()),
            Way::Batch => Box::pin(worker.batches()),
            Way::Stream => Box::pin(worker.stream()),
        };
        tokio::spawn(work)
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    Ok(Sample { calls: stages, applied: stages, took: started.elapsed(), latencies: Vec::new() })
}

struct Worker {
    client: WorkerServiceClient<KeyedChannel>,
    queue: String,
    left: Arc<AtomicU64>,
    i: usize,
}

impl Worker {
    fn is_done(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    async fn lease(&mut self) -> anyhow::Result<Vec<proto::Lease>> {
        let poll = proto::LeaseStagesRequest {
            worker_id: format!("bench-{}", self.i),
            queues: vec![self.queue.clone()],
            max_stages: BATCH,
            wait: Some(prost_types::Duration { seconds: 0, nanos: LAST_WAIT_NANOS }),
            ..Default::default()
        };
        Ok(self.client.lease_stages(poll).await?.into_inner().leases)
    }

    async fn single_calls(mut self) -> anyhow::Result<()> {
        while !self.is_done() {
            let leases = self.lease().await?;
            let calls = leases.into_iter().map(|lease| {
                let mut client = self.client.clone();
                async move { client.complete_stage(completion(lease)).await }
            });
            for completed in futures::future::join_all(calls).await {
                completed?;
                self.left.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn batches(mut self) -> anyhow::Result<()> {
        while !self.is_done() {
            let leases = self.lease().await?;
            if leases.is_empty() {
                continue;
            }
            let request = proto::CompleteStagesRequest { outcomes: outcomes(leases), ..Default::default() };
            self.count(&self.client.clone().complete_stages(request).await?.into_inner().results)?;
        }
        Ok(())
    }

    async fn stream(mut self) -> anyhow::Result<()> {
        let (requests, messages) = mpsc::channel(16);
        let begin = proto::WorkBegin {
            worker_id: format!("bench-{}", self.i),
            queues: vec![self.queue.clone()],
            ..Default::default()
        };
        let first = proto::WorkRequest { begin: Some(begin), capacity: Some(CAPACITY), ..Default::default() };
        requests.send(first).await?;
        let mut responses = self.client.work(ReceiverStream::new(messages)).await?.into_inner();
        let mut received = 0;
        while !self.is_done() {
            // Another worker may hold the last stages; its completions are not announced.
            let pause = std::time::Duration::from_millis(20);
            let Ok(response) = tokio::time::timeout(pause, responses.message()).await else { continue };
            let response = response?.context("the stream has ended")?;
            self.count(&response.results)?;
            if !response.leases.is_empty() {
                received += i64::try_from(response.leases.len())?;
                let outcomes = outcomes(response.leases);
                let message = proto::WorkRequest { leases_received: Some(received), outcomes, ..Default::default() };
                requests.send(message).await?;
            }
        }
        Ok(())
    }

    fn count(&self, results: &[proto::StageOutcomeResult]) -> anyhow::Result<()> {
        for result in results {
            let status = result.status.as_ref().context("a result without a status")?;
            anyhow::ensure!(status.code == 0, "a completion was refused: {}", status.message);
        }
        self.left.fetch_sub(results.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

fn completion(lease: proto::Lease) -> proto::CompleteStageRequest {
    let target = Some(proto::StageTarget::leased(lease.lease_token));
    proto::CompleteStageRequest { target, ..Default::default() }
}

fn outcomes(leases: Vec<proto::Lease>) -> Vec<proto::StageOutcome> {
    let outcome = |lease| proto::StageOutcome { outcome: Some(Outcome::CompleteStage(completion(lease))) };
    leases.into_iter().map(outcome).collect()
}

/// Submits jobs of independent stages to a queue.
async fn submit(scene: &Scene<'_>, queue: &str, stages: usize) -> anyhow::Result<()> {
    let channel = channels(&scene.pair.ours.address, 1).await?.remove(0);
    let per_job = scene.settings.stages_per_job;
    let stage = |i| proto::StageSpec { name: format!("s{i}"), queue: queue.to_owned(), ..Default::default() };
    let job = proto::SubmitJobRequest {
        kind: scene.name.clone(),
        stages: (0..per_job).map(stage).collect(),
        ..Default::default()
    };
    let jobs = (UNIT / per_job).min(500);
    for _ in 0..stages / (jobs * per_job) {
        let request = proto::BatchSubmitJobsRequest { jobs: vec![job.clone(); jobs], ..Default::default() };
        JobServiceClient::new(channel.clone()).batch_submit_jobs(request).await?;
    }
    Ok(())
}
