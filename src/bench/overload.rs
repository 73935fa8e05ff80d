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
use super::compare::{MeasuredRun, Scene, row};
use super::encoded::{EncodedRequest, call};
use super::load::{Sample, channels, closed_loop, micros};
use super::report::{Row, remark};
use crate::proto;

/// Rates of the open loop, as multiples of the peak.
const MULTIPLES: [f64; 3] = [1.0, 3.0, 10.0];
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

/// Runs all multiples of the peak, once in each pair. The peak is measured before and after each of them, because it
/// falls while tables grow: each is compared with the mean of its two neighbours.
pub async fn overload(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let address = &scene.pair.ours.address;
    let channels = channels(address, CONNECTIONS * 64).await?;
    let request = EncodedRequest::of(&job(&scene.name, STAGES));
    let server = &scene.pair.ours;
    let mut peaks = vec![scene.costed(server, peak(&channels, &request, scene)).await?];
    let mut runs = MULTIPLES.map(|_| Vec::new());
    for pair in 0..scene.settings.pairs {
        for (multiple, runs) in MULTIPLES.iter().zip(&mut runs) {
            let before = peaks.last().map_or(0.0, per_second);
            let queue = format!("{}-{pair}-{multiple}", scene.name);
            let run = scene.costed(server, run(scene, &channels, &request, &queue, before * multiple)).await?;
            peaks.push(scene.costed(server, peak(&channels, &request, scene)).await?);
            let after = peaks.last().map_or(0.0, per_second);
            let ratio = per_second(&run) / f64::midpoint(before, after);
            remark(format!(
                "  {multiple}×: {ratio:.2} of the peak, which was {before:.0}/s before and {after:.0}/s after"
            ));
            runs.push((run, ratio));
        }
    }
    let peak = row("peak", "interlock", AT_PEAK, &peaks.iter().collect::<Vec<_>>());
    let multiples = MULTIPLES.iter().zip(&runs).map(|(multiple, runs)| {
        let (accepted, ratios): (Vec<&MeasuredRun>, Vec<f64>) = runs.iter().map(|(run, ratio)| (run, *ratio)).unzip();
        let mut row = row(&format!("overload {multiple}×"), "interlock", 0, &accepted);
        row.set_ratios(ratios.into_iter());
        row
    });
    let memory_bytes = server.memory_bytes();
    Ok(std::iter::once(peak).chain(multiples).map(|row| Row { memory_bytes, ..row }).collect())
}

fn per_second(run: &MeasuredRun) -> f64 {
    run.sample.per_second()
}

/// Accepted calls of a closed loop.
async fn peak(channels: &[KeyedChannel], request: &EncodedRequest, scene: &Scene<'_>) -> anyhow::Result<Sample> {
    let request = request.clone();
    let submit = move |channel: KeyedChannel, _: u64| {
        let request = request.clone();
        async move { submit(channel, request).await.map(|()| true) }
    };
    closed_loop(channels, AT_PEAK, scene.settings.run.max(Duration::from_secs(3)), submit).await
}

/// Submits at a rate, with workers beside it that have a queue of their own: stages with a lease that expired in the
/// run before are leased one at a time. Returns the accepted calls.
async fn run(
    scene: &Scene<'_>,
    channels: &[KeyedChannel],
    request: &EncodedRequest,
    queue: &str,
    rate: f64,
) -> anyhow::Result<Sample> {
    let bystanders = Bystanders::start(&scene.pair.ours.address, queue, request).await?;
    let began = Instant::now();
    let answered = open_loop(channels, request, rate, scene.settings.run).await;
    let took = began.elapsed().max(scene.settings.run);
    let seen = bystanders.stop().await?;
    Ok(report(rate, &answered, &seen, took))
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

fn report(rate: f64, answered: &[Answered], seen: &Seen, took: Duration) -> Sample {
    let refused = sorted(answered, |code| code == Code::ResourceExhausted);
    let failed = sorted(answered, |code| !matches!(code, Code::Ok | Code::ResourceExhausted)).latencies.len();
    let accepted = Sample { took, ..sorted(answered, |code| code == Code::Ok) };
    remark(format!(
        "overload: {rate:.0} submits/s offered, {:.0}/s sent; {:.0}/s accepted within {:.0} ms (p99 {:.0}); {} refused within {:.0} ms \
         (p99 {:.0}), {failed} failed otherwise",
        answered.len() as f64 / took.as_secs_f64(),
        accepted.per_second(),
        ms(&accepted, 1.0),
        ms(&accepted, 0.99),
        refused.calls,
        ms(&refused, 1.0),
        ms(&refused, 0.99),
    ));
    seen.print();
    accepted
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
