//! Overload: new jobs in an open loop at multiples of the peak rate, and beside them workers that only keep their
//! leases.
//!
//! In an open loop requests are sent on schedule whether or not earlier ones were answered, like those of many
//! independent callers.
//!
//! At ten times the peak the generator itself is short of CPU, so the latency seen by one caller is not measured in it:
//! the workers, and a client that submits twenty jobs a second, have a thread and connections of their own.

mod bystanders;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Code, Status};

use bystanders::{Bystanders, Seen};

use super::address::KeyedChannel;
use super::compare::Scene;
use super::encoded::{EncodedRequest, call};
use super::load::{Sample, channels, closed_loop, micros};
use super::report::{Row, remark};
use crate::proto;

/// Number of stages of each submitted job.
const STAGES: usize = 60;
/// Calls in flight while the peak is measured: few enough that a slow machine does not refuse some of them.
const AT_PEAK: usize = 24;
/// Maximum number of unanswered submits; beyond it the generator would measure itself.
const MAX_UNANSWERED: usize = 40_000;
/// Number of connections of the open loop.
const CONNECTIONS: usize = 64;
/// Timeout of a call.
const PATIENCE: Duration = Duration::from_secs(30);

/// Latency and status code of one submit.
type Answered = (Duration, Code);

/// Runs all multiples of the peak.
pub async fn overload(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let address = &scene.pair.ours.address;
    let channels = channels(address, CONNECTIONS * 64).await?;
    let request = EncodedRequest::of(&job(&scene.name, STAGES));
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
        // Each run has a queue of its own: stages with a lease that expired in the run before are leased one at a time.
        let bystanders = Bystanders::start(address, &format!("{}-{multiple}", scene.name), &request).await?;
        let began = Instant::now();
        let rate = peak.per_second() * multiple;
        let answered = open_loop(&channels, &request, rate, scene.settings.run).await;
        let took = began.elapsed().max(scene.settings.run);
        let seen = bystanders.stop().await?;
        rows.push(report(multiple, rate, &answered, &seen, took, &peak, scene));
    }
    Ok(rows)
}

fn job(name: &str, stages: usize) -> proto::SubmitJobRequest {
    let stage = |i| proto::StageSpec { name: format!("stage-{i}"), queue: name.to_owned(), ..Default::default() };
    proto::SubmitJobRequest { kind: name.to_owned(), stages: (0..stages).map(stage).collect(), ..Default::default() }
}

async fn submit(channel: KeyedChannel, request: EncodedRequest) -> Result<(), Status> {
    let _reply: EncodedRequest = call(channel, "/interlock.v1.JobService/SubmitJob", request).await?;
    Ok(())
}

/// Submits at a rate for `run`, then waits for the last responses.
async fn open_loop(channels: &[KeyedChannel], request: &EncodedRequest, rate: f64, run: Duration) -> Vec<Answered> {
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

fn report(
    multiple: f64,
    rate: f64,
    answered: &[Answered],
    seen: &Seen,
    took: Duration,
    peak: &Sample,
    scene: &Scene<'_>,
) -> Row {
    let refused = sorted(answered, |code| code == Code::ResourceExhausted);
    let failed = sorted(answered, |code| !matches!(code, Code::Ok | Code::ResourceExhausted)).latencies.len();
    let accepted = sorted(answered, |code| code == Code::Ok);
    let good = accepted.calls as f64 / took.as_secs_f64();
    let accepted = Sample { took, ..accepted };
    remark(format!(
        "overload {multiple}×: {rate:.0} submits/s offered, {:.0}/s sent; {good:.0}/s accepted within {:.0} ms (p99 {:.0}); {} refused within {:.0} ms \
         (p99 {:.0}), {failed} failed otherwise",
        answered.len() as f64 / took.as_secs_f64(),
        ms(&accepted, 1.0),
        ms(&accepted, 0.99),
        refused.calls,
        ms(&refused, 1.0),
        ms(&refused, 0.99),
    ));
    seen.print();
    Row {
        ratio: Some(good / peak.per_second()),
        ..row(&format!("overload {multiple}×"), answered.len(), &accepted, good, scene)
    }
}

/// Latencies of the responses with the wanted codes, sorted.
fn sorted(answered: &[Answered], wanted: impl Fn(Code) -> bool) -> Sample {
    let mut latencies: Vec<u32> =
        answered.iter().filter(|(_, code)| wanted(*code)).map(|(time, _)| micros(*time)).collect();
    latencies.sort_unstable();
    Sample { calls: latencies.len() as u64, latencies, ..Sample::default() }
}

/// A quantile in milliseconds.
fn ms(sample: &Sample, q: f64) -> f64 {
    f64::from(sample.quantile(q)) / 1_000.0
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
