//! What a server does when more is asked of it than it can do: new jobs in an open loop at multiples of the peak rate, and beside them workers who
//! only keep their leases.
//!
//! In an open loop requests come at their time whether or not earlier ones were answered, as those of many independent callers do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Code, Status};

use super::address::KeyedChannel;
use super::compare::Scene;
use super::encoded::{Encoded, call};
use super::load::{Sample, channels, closed_loop};
use super::report::Row;
use crate::proto;
use crate::proto::job_service_client::JobServiceClient;
use crate::proto::worker_service_client::WorkerServiceClient;

/// Stages of each submitted job.
const STAGES: usize = 60;
/// Calls in flight that find the peak.
const AT_PEAK: usize = 64;
/// Submits that may be unanswered; beyond it the generator would measure itself.
const MAX_UNANSWERED: usize = 40_000;
/// Connections of the open loop.
const CONNECTIONS: usize = 64;
/// Workers, each with one lease, and how long a lease lasts without a heartbeat.
const WORKERS: usize = 60;
const LEASE: Duration = Duration::from_secs(9);
/// Between two heartbeats of a worker: a third of the lease.
const BEAT_EVERY: Duration = Duration::from_secs(3);
/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of one submit: how long it took, and its code.
type Answered = (Duration, Code);

/// All multiples of the peak.
pub async fn overload(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let address = &scene.pair.ours.address;
    let channels = channels(address, CONNECTIONS * 64).await?;
    let request = Encoded::of(&job(&scene.name, STAGES));
    let submit = {
        let request = request.clone();
        move |channel: KeyedChannel, _: u64| {
            let request = request.clone();
            async move { submit(channel, request).await.map(|()| true) }
        }
    };
    let peak = closed_loop(&channels, AT_PEAK, scene.settings.run.max(Duration::from_secs(3)), submit).await?;
    let mut rows = vec![row("peak", AT_PEAK, &peak, peak.per_second(), scene)];
    for multiple in [1.0, 3.0, 10.0] {
        // Of a queue of their own: stages whose leases ran out in the run before are leased alone.
        let workers = Workers::start(&channels, &format!("{}-{multiple}", scene.name)).await?;
        let began = Instant::now();
        let rate = peak.per_second() * multiple;
        let answered = open_loop(&channels, &request, rate, scene.settings.run).await;
        let took = began.elapsed().max(scene.settings.run);
        let beats = workers.stop().await?;
        rows.push(tell(multiple, rate, &answered, &beats, took, &peak, scene));
    }
    Ok(rows)
}

fn job(name: &str, stages: usize) -> proto::SubmitJobRequest {
    let stage = |i| proto::StageSpec { name: format!("stage-{i}"), queue: name.to_owned(), ..Default::default() };
    proto::SubmitJobRequest { kind: name.to_owned(), stages: (0..stages).map(stage).collect(), ..Default::default() }
}

async fn submit(channel: KeyedChannel, request: Encoded) -> Result<(), Status> {
    let _reply: Encoded = call(channel, "/interlock.v1.JobService/SubmitJob", request).await?;
    Ok(())
}

/// Submits at a rate for so long, then waits for the last answers.
async fn open_loop(channels: &[KeyedChannel], request: &Encoded, rate: f64, run: Duration) -> Vec<Answered> {
    let answered = Arc::new(Mutex::new(Vec::new()));
    let places = Arc::new(Semaphore::new(MAX_UNANSWERED));
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (began, mut sent) = (Instant::now(), 0_usize);
    while began.elapsed() < run {
        tick.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate) as usize;
        while sent < due {
            let Ok(place) = places.clone().try_acquire_owned() else { break };
            let (channel, request, answered) =
                (channels[sent % channels.len()].clone(), request.clone(), answered.clone());
            tokio::spawn(async move {
                let sent = Instant::now();
                let outcome = tokio::time::timeout(PATIENCE, submit(channel, request)).await;
                let code = match outcome {
                    Ok(outcome) => outcome.map_or_else(|status| status.code(), |()| Code::Ok),
                    Err(_) => Code::DeadlineExceeded,
                };
                answered.lock().await.push((sent.elapsed(), code));
                drop(place);
            });
            sent += 1;
        }
    }
    let most = u32::try_from(MAX_UNANSWERED).expect("small");
    let _all = tokio::time::timeout(PATIENCE, places.acquire_many(most)).await;
    std::mem::take(&mut *answered.lock().await)
}

/// What the heartbeats came to.
#[derive(Default)]
struct Beats {
    latencies: Vec<u32>,
    refused: usize,
    lost: usize,
}

/// Workers who hold a lease each and do nothing but keep it.
struct Workers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Beats>>,
}

impl Workers {
    async fn start(channels: &[KeyedChannel], name: &str) -> anyhow::Result<Self> {
        let queue = format!("{name}-held");
        let mut jobs = JobServiceClient::new(channels[0].clone());
        // The run before may still be worked off.
        let until = Instant::now() + PATIENCE;
        while let Err(status) = jobs.submit_job(job(&queue, WORKERS)).await {
            anyhow::ensure!(status.code() == Code::ResourceExhausted && Instant::now() < until, "{status}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let request = proto::LeaseStagesRequest {
            worker_id: name.to_owned(),
            queues: vec![queue],
            max_stages: i32::try_from(WORKERS)?,
            wait: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            lease_duration: Some(prost_types::Duration { seconds: i64::try_from(LEASE.as_secs())?, nanos: 0 }),
            ..Default::default()
        };
        let leases = WorkerServiceClient::new(channels[0].clone()).lease_stages(request).await?.into_inner().leases;
        anyhow::ensure!(leases.len() == WORKERS, "only {} of {WORKERS} stages were leased", leases.len());
        let stop = Arc::new(AtomicBool::new(false));
        let beat = |(i, lease): (usize, proto::Lease)| {
            tokio::spawn(keep(channels[i % channels.len()].clone(), lease.lease_token, i, stop.clone()))
        };
        Ok(Self { stop: stop.clone(), tasks: leases.into_iter().enumerate().map(beat).collect() })
    }

    async fn stop(self) -> anyhow::Result<Beats> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Beats::default();
        for task in self.tasks {
            let beats = task.await.context("a worker panicked")?;
            all.latencies.extend(beats.latencies);
            all.refused += beats.refused;
            all.lost += beats.lost;
        }
        all.latencies.sort_unstable();
        Ok(all)
    }
}

/// Keeps one lease until it is told to stop, or the lease is lost.
async fn keep(channel: KeyedChannel, token: String, i: usize, stop: Arc<AtomicBool>) -> Beats {
    let mut beats = Beats::default();
    // Spread over the interval, as those of workers that began at different times are.
    tokio::time::sleep(BEAT_EVERY.mul_f64(i as f64 / WORKERS as f64)).await;
    let mut tick = tokio::time::interval(BEAT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let beat = proto::LeaseBeat { lease_token: token.clone(), ..Default::default() };
        let request = proto::HeartbeatRequest { beats: vec![beat] };
        let sent = Instant::now();
        match WorkerServiceClient::new(channel.clone()).heartbeat(request).await {
            Ok(reply) => {
                beats.latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
                let lost = proto::LeaseDirective::Lost as i32;
                if reply.into_inner().statuses.iter().any(|status| status.directive == lost) {
                    beats.lost += 1;
                    return beats;
                }
            }
            Err(_) => beats.refused += 1,
        }
    }
    beats
}

fn tell(
    multiple: f64,
    rate: f64,
    answered: &[Answered],
    beats: &Beats,
    took: Duration,
    peak: &Sample,
    scene: &Scene<'_>,
) -> Row {
    let sorted = |wanted: &dyn Fn(Code) -> bool| {
        let micros = |time: &Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let mut times: Vec<u32> =
            answered.iter().filter(|(_, code)| wanted(*code)).map(|(time, _)| micros(time)).collect();
        times.sort_unstable();
        times
    };
    let refused = Sample { latencies: sorted(&|code| code == Code::ResourceExhausted), ..Sample::default() };
    let failed = sorted(&|code| !matches!(code, Code::Ok | Code::ResourceExhausted)).len();
    let accepted = sorted(&|code| code == Code::Ok);
    let good = accepted.len() as f64 / took.as_secs_f64();
    let accepted = Sample { calls: accepted.len() as u64, took, latencies: accepted, ..Sample::default() };
    let beat = Sample { latencies: beats.latencies.clone(), ..Sample::default() };
    let ms = |micros: u32| f64::from(micros) / 1_000.0;
    eprintln!(
        "overload {multiple}×: {rate:.0} submits/s offered, {good:.0}/s accepted within {:.0} ms (p99 {:.0}); {} refused within {:.0} ms (p99 {:.0}), \
         {failed} failed otherwise; {} heartbeats p50 {:.1} ms p99 {:.1} ms, {} refused, {} leases lost",
        ms(accepted.quantile(1.0)),
        ms(accepted.quantile(0.99)),
        refused.latencies.len(),
        ms(refused.quantile(1.0)),
        ms(refused.quantile(0.99)),
        beats.latencies.len(),
        ms(beat.quantile(0.5)),
        ms(beat.quantile(0.99)),
        beats.refused,
        beats.lost,
    );
    Row {
        ratio: Some(good / peak.per_second()),
        ..row(&format!("overload {multiple}×"), answered.len(), &accepted, good, scene)
    }
}

fn row(workload: &str, in_flight: usize, sample: &Sample, per_second: f64, scene: &Scene<'_>) -> Row {
    Row {
        per_second,
        p50_us: sample.quantile(0.5),
        p99_us: sample.quantile(0.99),
        memory_bytes: scene.pair.ours.memory_bytes(),
        ..Row::blank(workload, "interlock", in_flight)
    }
}
