//! Closed-loop load: a fixed number of calls in flight for a fixed time, with the latency of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::address::{Address, KeyedChannel};

/// Number of calls in flight that share a connection.
const PER_CONNECTION: usize = 64;

/// Result of one run.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Number of acknowledged calls.
    pub calls: u64,
    /// Acknowledged calls that changed something.
    pub applied: u64,
    /// Duration of the run.
    pub took: Duration,
    /// Latencies in microseconds, sorted.
    pub latencies: Vec<u32>,
}

impl Sample {
    /// Acknowledged calls per second.
    pub fn per_second(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }

    /// Quantile of the latencies, in microseconds; `q` from 0 to 1. 0 without calls.
    pub fn quantile(&self, q: f64) -> u32 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * q) as usize).copied().unwrap_or(0)
    }
}

/// Converts to whole microseconds, the unit of latencies.
pub fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Opens connections for `in_flight` calls in flight.
pub async fn channels(address: &Address, in_flight: usize) -> anyhow::Result<Vec<KeyedChannel>> {
    let connections = in_flight.div_ceil(PER_CONNECTION).max(1);
    let mut channels = Vec::with_capacity(connections);
    for _ in 0..connections {
        channels.push(address.connect().await?);
    }
    Ok(channels)
}

/// CPU priority of a thread of clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ThreadPriority {
    /// That of the server.
    Usual,
    /// Below the server and clients of usual priority. For load that would come from other machines: the CPU that it takes here must not count
    /// as a delay of the server.
    Low,
}

/// Niceness of threads of low priority, of at most 19.
const LOW_NICENESS: i32 = 15;

/// Runs clients in a thread and a runtime of their own, so that the latencies that they measure are those of the server and not of the load beside
/// them. The receiver fails if they panic.
pub fn apart<T, F>(
    name: &str,
    priority: ThreadPriority,
    clients: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<T>>>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>>,
{
    let (done, result) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // On Linux this is the niceness of the thread alone.
        let outcome = match priority {
            ThreadPriority::Usual => Ok(0),
            ThreadPriority::Low => rustix::process::nice(LOW_NICENESS),
        };
        let _gone = done.send(match outcome {
            Ok(_) => runtime.block_on(clients()),
            Err(error) => Err(anyhow::Error::new(error).context("the priority of a thread cannot be lowered")),
        });
    })?;
    Ok(result)
}

/// Runs `call` in `in_flight` loops for `run`. A call gets a channel and a unique number, and returns true if it
/// changed something.
pub async fn closed_loop<C, F>(
    channels: &[KeyedChannel],
    in_flight: usize,
    run: Duration,
    call: C,
) -> anyhow::Result<Sample>
where
    C: Fn(KeyedChannel, u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<bool, tonic::Status>> + Send,
{
    let (call, next, stop) = (Arc::new(call), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let started = Instant::now();
    let mut loops = Vec::with_capacity(in_flight);
    for i in 0..in_flight {
        let channel = channels[i % channels.len()].clone();
        let (call, next, stop) = (call.clone(), next.clone(), stop.clone());
        loops.push(tokio::spawn(async move {
            let (mut latencies, mut applied) = (Vec::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                let sent = Instant::now();
                applied += u64::from(call(channel.clone(), next.fetch_add(1, Ordering::Relaxed)).await?);
                latencies.push(micros(sent.elapsed()));
            }
            Ok::<_, tonic::Status>((latencies, applied))
        }));
    }
    tokio::time::sleep(run).await;
    stop.store(true, Ordering::Relaxed);
    let mut sample = Sample::default();
    for one in loops {
        let (latencies, applied) = one.await??;
        sample.calls += latencies.len() as u64;
        sample.applied += applied;
        sample.latencies.extend(latencies);
    }
    sample.took = started.elapsed();
    sample.latencies.sort_unstable();
    Ok(sample)
}
