//! Clients beside an overload: workers that keep their leases, and a client that submits at a low rate.
//!
//! They have a thread of their own, so that their latencies are those of the server and not of the generator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Code;

use super::super::address::{Address, KeyedChannel};
use super::super::encoded::EncodedRequest;
use super::super::load::{Sample, ThreadPriority, apart, channels};
use super::super::report::remark;
use super::{Answered, PATIENCE, job, ms, sorted, submit};
use crate::proto;
use crate::proto::job_service_client::JobServiceClient;
use crate::proto::worker_service_client::WorkerServiceClient;

/// Number of workers, each with one lease, and duration of a lease without a heartbeat.
const WORKERS: usize = 60;
const LEASE: Duration = Duration::from_secs(9);
/// Interval of a worker's heartbeats: a third of the lease.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(3);
/// Interval of the submits of the low-rate client.
const SUBMIT_EVERY: Duration = Duration::from_millis(50);
/// Calls in flight for which connections are opened: 64 share one.
const CALLERS: usize = 4 * 64;

/// Response times and status codes of all calls of the bystanders.
#[derive(Default)]
pub struct Seen {
    renewals: Vec<Answered>,
    submits: Vec<Answered>,
    leases_lost: usize,
}

impl Seen {
    pub fn print(&self) {
        let of = |answered: &[Answered], code: Code| sorted(answered, |found| found == code);
        let (renewals, accepted) = (of(&self.renewals, Code::Ok), of(&self.submits, Code::Ok));
        let refused = of(&self.submits, Code::ResourceExhausted);
        let one = |sample: &Sample| format!("p50 {:.1} ms p99 {:.1} ms", ms(sample, 0.5), ms(sample, 0.99));
        remark(format!(
            "  beside it: {} heartbeats {}, {} refused, {} leases lost; {} submits accepted {}, {} refused {}",
            renewals.calls,
            one(&renewals),
            self.renewals.len() as u64 - renewals.calls,
            self.leases_lost,
            accepted.calls,
            one(&accepted),
            refused.calls,
            one(&refused),
        ));
    }
}

pub struct Bystanders {
    stop: Arc<AtomicBool>,
    seen: oneshot::Receiver<anyhow::Result<Seen>>,
}

impl Bystanders {
    /// Starts the bystanders; they hold their leases when this returns.
    pub async fn start(address: &Address, name: &str, request: &EncodedRequest) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = oneshot::channel();
        let (address, name, request) = (address.clone(), name.to_owned(), request.clone());
        let until = stop.clone();
        let seen = apart("bystanders", ThreadPriority::Usual, async move || {
            run(&address, &name, request, until, ready).await
        })?;
        if started.await.is_err() {
            seen.await.context("the bystanders panicked")??;
            anyhow::bail!("the bystanders stopped before they began");
        }
        Ok(Self { stop, seen })
    }

    /// Stops the bystanders and returns their measurements.
    pub async fn stop(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.seen.await.context("the bystanders panicked")?
    }
}

async fn run(
    address: &Address,
    name: &str,
    request: EncodedRequest,
    stop: Arc<AtomicBool>,
    ready: oneshot::Sender<()>,
) -> anyhow::Result<Seen> {
    let channels = channels(address, CALLERS).await?;
    let leases = lease(&channels[0], name).await?;
    let keep_alive = |(i, lease): (usize, proto::Lease)| {
        tokio::spawn(keep(channels[i % channels.len()].clone(), lease.lease_token, i, stop.clone()))
    };
    let workers: Vec<JoinHandle<(Vec<Answered>, bool)>> = leases.into_iter().enumerate().map(keep_alive).collect();
    let submits = tokio::spawn(submit_now_and_then(channels[0].clone(), request, stop.clone()));
    let _gone = ready.send(());
    let mut seen = Seen { submits: submits.await.context("the client panicked")?, ..Seen::default() };
    for worker in workers {
        let (renewals, is_lost) = worker.await.context("a worker panicked")?;
        seen.renewals.extend(renewals);
        seen.leases_lost += usize::from(is_lost);
    }
    Ok(seen)
}

async fn lease(channel: &KeyedChannel, name: &str) -> anyhow::Result<Vec<proto::Lease>> {
    let queue = format!("{name}-held");
    let mut jobs = JobServiceClient::new(channel.clone());
    // The server may still process jobs of the previous run.
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
    let leases = WorkerServiceClient::new(channel.clone()).lease_stages(request).await?.into_inner().leases;
    anyhow::ensure!(leases.len() == WORKERS, "only {} of {WORKERS} stages were leased", leases.len());
    Ok(leases)
}

/// Renews one lease until stopped or until the lease is lost. Returns the heartbeats, and true if the lease was lost.
async fn keep(channel: KeyedChannel, token: String, i: usize, stop: Arc<AtomicBool>) -> (Vec<Answered>, bool) {
    let mut renewals = Vec::new();
    // Start times are spread over the interval, as with independent workers.
    tokio::time::sleep(HEARTBEAT_EVERY.mul_f64(i as f64 / WORKERS as f64)).await;
    let mut tick = tokio::time::interval(HEARTBEAT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let renewal = proto::LeaseRenewal { lease_token: token.clone(), ..Default::default() };
        let request = proto::HeartbeatRequest { renewals: vec![renewal] };
        let sent = Instant::now();
        let reply = WorkerServiceClient::new(channel.clone()).heartbeat(request).await;
        renewals.push((sent.elapsed(), reply.as_ref().map_or_else(tonic::Status::code, |_| Code::Ok)));
        let lost = proto::LeaseDirective::Lost as i32;
        if reply.is_ok_and(|reply| reply.get_ref().statuses.iter().any(|status| status.directive == lost)) {
            return (renewals, true);
        }
    }
    (renewals, false)
}

async fn submit_now_and_then(channel: KeyedChannel, request: EncodedRequest, stop: Arc<AtomicBool>) -> Vec<Answered> {
    let mut submits = Vec::new();
    let mut tick = tokio::time::interval(SUBMIT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let sent = Instant::now();
        let outcome = submit(channel.clone(), request.clone()).await;
        submits.push((sent.elapsed(), outcome.map_or_else(|status| status.code(), |()| Code::Ok)));
    }
    submits
}
