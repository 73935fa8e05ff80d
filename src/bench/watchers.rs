//! Watchers of a bench: they check the chain of versions of every message, count messages, and measure their latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use prost::Message;
use tokio::task::JoinSet;

use super::address::{Address, KeyedChannel};

use crate::proto::job_service_client::JobServiceClient;
use crate::proto::{self, watch_job_response::Update};

/// Number of watches that share a connection.
const PER_CONNECTION: usize = 500;
/// One message in this number is measured for latency.
const SAMPLED: u64 = 8;
/// Resolution of the latency histogram in microseconds, and its number of steps.
const STEP_US: u64 = 20;
const STEPS: usize = 100_000;
/// Timeout until all watches have begun, or have received a version.
const PATIENCE: Duration = Duration::from_secs(60);

/// The fields that are read of a [`proto::JobChange`]; the others are skipped, so that the load generator uses less
/// CPU.
#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(int64, tag = "2")]
    version: i64,
    #[prost(int64, tag = "3")]
    previous_version: i64,
    #[prost(message, optional, tag = "8")]
    change_time: Option<prost_types::Timestamp>,
}

/// Counters of all watchers.
pub struct WatchCounts {
    begun: AtomicU64,
    received: AtomicU64,
    skipped: AtomicU64,
    latencies: Vec<AtomicU64>,
}

pub struct Watchers {
    tasks: JoinSet<anyhow::Result<()>>,
    counts: Arc<WatchCounts>,
    newest: Vec<Arc<AtomicI64>>,
}

/// One watch of a job or session.
pub struct Watch {
    pub channel: KeyedChannel,
    /// Id of the job or session.
    pub name: String,
    counts: Arc<WatchCounts>,
    /// Its newest version.
    newest: Arc<AtomicI64>,
}

impl Watchers {
    /// Opens `count` watches, distributed over the jobs, each after the version `from` (0: with a snapshot), and waits
    /// until all have begun.
    pub async fn begin(address: &Address, count: usize, jobs: &[String], from: i64) -> anyhow::Result<Self> {
        Self::of(address, count, jobs, move |one| watch(one, from)).await
    }

    /// Opens `count` watches, distributed over what has these names, and waits until all have begun.
    pub async fn of<F>(
        address: &Address,
        count: usize,
        names: &[String],
        watch: impl Fn(Watch) -> F,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let mut channels = Vec::new();
        for _ in 0..count.div_ceil(PER_CONNECTION) {
            channels.push(address.connect().await?);
        }
        let mut watchers = Self { tasks: JoinSet::new(), counts: Arc::default(), newest: Vec::new() };
        for i in 0..count {
            let newest = Arc::new(AtomicI64::new(0));
            watchers.newest.push(newest.clone());
            let (channel, name) = (channels[i / PER_CONNECTION].clone(), names[i % names.len()].clone());
            watchers.tasks.spawn(watch(Watch { channel, name, counts: watchers.counts.clone(), newest }));
        }
        let counts = watchers.counts.clone();
        watchers.until("all watches have begun", || counts.begun.load(Ordering::Relaxed) == count as u64).await?;
        Ok(watchers)
    }

    /// Changes received so far.
    pub fn received(&self) -> u64 {
        self.counts.received.load(Ordering::Relaxed)
    }

    /// Number of versions so far that were merged into later ones.
    pub fn skipped(&self) -> u64 {
        self.counts.skipped.load(Ordering::Relaxed)
    }

    /// Quantile of the latency of changes, in microseconds, from the decision (before the commit) to the arrival.
    pub fn latency(&self, quantile: f64) -> u32 {
        let counts: Vec<u64> = self.counts.latencies.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let rank = counts.iter().sum::<u64>() as f64 * quantile;
        let mut seen = 0;
        let step = counts.iter().position(|count| {
            seen += count;
            seen as f64 >= rank && seen > 0
        });
        step.map_or(0, |step| u32::try_from(step as u64 * STEP_US).unwrap_or(u32::MAX))
    }

    pub fn forget_latencies(&self) {
        self.counts.latencies.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    /// Waits until all watchers have received a version.
    pub async fn until_all_at(&mut self, version: i64) -> anyhow::Result<()> {
        self.until_each_at(&[version]).await
    }

    /// Waits until each watcher has received the version of what it watches; `versions` are in the order of the names.
    pub async fn until_each_at(&mut self, versions: &[i64]) -> anyhow::Result<()> {
        let newest = self.newest.clone();
        let are_there = || {
            newest.iter().zip(versions.iter().cycle()).all(|(newest, least)| newest.load(Ordering::Relaxed) >= *least)
        };
        self.until("all watchers have come to the newest version", are_there).await
    }

    /// Fails if a watch has ended: a watch ends by itself only if it found a fault.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.tasks.try_join_next() {
            Some(ended) => ended?.context("a watch failed").and_then(|()| Err(anyhow::anyhow!("a watch has ended"))),
            None => Ok(()),
        }
    }

    pub async fn end(mut self) -> anyhow::Result<()> {
        self.check()?;
        self.tasks.shutdown().await;
        Ok(())
    }

    async fn until(&mut self, what: &str, holds: impl Fn() -> bool) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds() {
            self.check()?;
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok(())
    }
}

impl Default for WatchCounts {
    fn default() -> Self {
        let latencies = (0..STEPS).map(|_| AtomicU64::new(0)).collect();
        Self { begun: AtomicU64::new(0), received: AtomicU64::new(0), skipped: AtomicU64::new(0), latencies }
    }
}

impl WatchCounts {
    fn note(&self, change_time: Option<&prost_types::Timestamp>) {
        if !self.received.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLED) {
            return;
        }
        let Some(changed) = change_time else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::new(changed.seconds.unsigned_abs(), changed.nanos.unsigned_abs());
        let step = now.saturating_sub(changed).as_micros() as usize / STEP_US as usize;
        self.latencies[step.min(STEPS - 1)].fetch_add(1, Ordering::Relaxed);
    }
}

impl Watch {
    pub fn begun(&self) {
        self.counts.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a change with the versions from `previous` to `version`, where `known` is the newest that was received before.
    /// Fails if there is a gap between. `change_time` is when it was decided.
    pub fn received(
        &self,
        known: i64,
        (previous, version): (i64, i64),
        change_time: Option<&prost_types::Timestamp>,
    ) -> anyhow::Result<()> {
        // A watcher that begins in the middle of the broadcast accepts the first message.
        anyhow::ensure!(
            previous == known || known == 0,
            "a gap: {known} was received, then {version} after {previous}"
        );
        self.counts.skipped.fetch_add((version - previous - 1).unsigned_abs(), Ordering::Relaxed);
        self.counts.note(change_time);
        self.is_at(version);
        Ok(())
    }

    fn is_at(&self, version: i64) {
        self.newest.store(version, Ordering::Relaxed);
    }
}

async fn watch(one: Watch, from: i64) -> anyhow::Result<()> {
    let request = proto::WatchJobRequest { job_id: one.name.clone(), from_version: from };
    let mut stream = JobServiceClient::new(one.channel.clone()).watch_job(request).await?.into_inner();
    one.begun();
    let mut version = from;
    one.is_at(version);
    while let Some(response) = stream.message().await? {
        match response.update {
            Some(Update::Change(change)) => {
                let link = Link::decode(change)?;
                one.received(version, (link.previous_version, link.version), link.change_time.as_ref())?;
                version = link.version;
            }
            Some(Update::Snapshot(job)) => {
                version = Snapshot::decode(job)?.version;
                one.is_at(version);
            }
            Some(Update::Gap(_)) => anyhow::bail!("a gap after {version}"),
            Some(Update::Keepalive(_)) | None => {}
        }
    }
    Ok(())
}

/// The fields that are read of a [`proto::Job`].
#[derive(Clone, PartialEq, Message)]
struct Snapshot {
    #[prost(int64, tag = "4")]
    version: i64,
}
