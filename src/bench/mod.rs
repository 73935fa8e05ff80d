//! `interlock bench`: measures the server from outside, beside a transaction per request that does the same work.
//!
//! It starts a Postgres of its own with everything durable, the real server in a process of its own, and the comparison in
//! another, lets both run in turn (A B A B …) over the same database, and tells ratios: absolute figures do not survive the machine.
//! A server that runs already can be measured too, beside the comparison only if its database is known. Nothing here is part of
//! a server. What was acknowledged is checked afterwards by SQL, not by the counters of a client.

mod address;
mod baseline;
mod broadcast;
mod compare;
mod database;
mod door;
mod drain;
mod encoded;
mod fanout;
mod heartbeats;
mod limits;
mod load;
mod overload;
mod permits;
mod plain_queue;
mod raw;
mod records;
mod report;
mod servers;
mod watchers;
mod workloads;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use compare::Scene;
use database::Database;

use crate::dev::{Durability, Postgres, PostgresOptions, Storage};
pub use address::Address;
pub use baseline::serve as serve_baseline;
pub use broadcast::serve as serve_broadcast;
pub use report::Row;
pub use servers::Demands;
use servers::Pair;

/// A workload of `interlock bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// SubmitJob, one stage each.
    Submit,
    /// UpdateStageProgress on many jobs and on one.
    Update,
    /// Lease and complete until nothing is left.
    Drain,
    /// From 1 to 1,024 writers on one job.
    Contention,
    /// UpdateStageProgress on many jobs through two servers at random, beside one server.
    Servers,
    /// Changes sent to 100 and 2,000 watchers.
    Fanout,
    /// UpdateRecord on many records and on one, and batches of a hundred.
    Records,
    /// Pairs of AcquirePermit and ReleasePermit.
    Permits,
    /// SubmitJob in an open loop at multiples of the peak rate, with heartbeats beside it.
    Overload,
    /// UpdateStageProgress on a server without TLS, on one with it, and on one that requires API keys too.
    Door,
    /// Live leases, each renewed every ten seconds, then as fast as possible.
    Heartbeats,
    /// Clients at their rate and at twice their rate, beside some that stay below it.
    Limits,
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct BenchSettings {
    /// Workload to run.
    pub workload: Workload,
    /// How long one run of one variant takes.
    pub run: Duration,
    /// How many runs of each variant.
    pub pairs: usize,
    /// Stages to drain, of each variant and in all runs together; half of them are leased where heartbeats are measured.
    pub stages: usize,
    /// Stages of a job that is drained.
    pub stages_per_job: usize,
    /// Whether Postgres waits a millisecond more before each flush of its log.
    pub slow_fsync: bool,
    /// Print JSON instead of a table.
    pub json: bool,
    /// Calls in flight, instead of those that the workload has.
    pub in_flight: Option<usize>,
    /// The address of a server that runs already; without it, one is started.
    pub target: Option<Address>,
    /// What a server that is started asks of its clients.
    pub demands: Demands,
    /// The database of the server, once it runs or if it is known.
    pub database_url: Option<String>,
    /// Where the private Postgres keeps its data and finds its binaries.
    pub postgres: PostgresOptions,
}

/// Runs one workload and prints what it found.
///
/// # Errors
/// When a server cannot be started, or when what was acknowledged is not what is stored.
pub async fn run(mut settings: BenchSettings) -> anyhow::Result<()> {
    let rows = match &settings.target {
        Some(target) => {
            let pair = Pair::beside(target, settings.database_url.as_deref()).await?;
            measure(&settings, pair, None).await?
        }
        None => on_our_own(&mut settings).await?,
    };
    report::print(&rows, settings.json);
    Ok(())
}

/// With a Postgres and servers that are started for it.
async fn on_our_own(settings: &mut BenchSettings) -> anyhow::Result<Vec<Row>> {
    settings.postgres.durability = Durability::Full;
    settings.postgres.settings.extend(postgres_settings(settings.slow_fsync));
    anyhow::ensure!(
        matches!(settings.postgres.storage, Storage::Ephemeral { .. }),
        "a bench runs on a database of its own"
    );
    let postgres = Postgres::start(settings.postgres.clone()).await.context("Postgres does not start")?;
    let url = postgres.database_url();
    settings.database_url = Some(url.clone());
    let measured = async {
        let pair = Pair::start(&url, postgres.pid(), settings.demands).await?;
        measure(settings, pair, Some(postgres.data_dir())).await
    };
    let measured = measured.await;
    postgres.stop().await;
    measured
}

async fn measure(settings: &BenchSettings, pair: Pair, data_dir: Option<&Path>) -> anyhow::Result<Vec<Row>> {
    let database = match &settings.database_url {
        Some(url) => Some(Database::connect(url).await?),
        None => None,
    };
    // Not durable is refused also where nothing is printed.
    let durable = match &database {
        Some(database) => database.settings().await?,
        None => Vec::new(),
    };
    if !settings.json {
        let probe = data_dir.map(database::probe_fdatasync).transpose()?;
        report::heading(&durable, probe.as_deref());
    }
    let name = format!("bench-{:08x}", rand::random::<u32>());
    let scene = Scene { settings, pair, database, name };
    let rows = match settings.workload {
        Workload::Submit => workloads::submit(&scene).await,
        Workload::Update => workloads::update(&scene).await,
        Workload::Contention => workloads::contention(&scene).await,
        Workload::Servers => workloads::servers(&scene).await,
        Workload::Fanout => fanout::fanout(&scene).await,
        Workload::Records => records::records(&scene).await,
        Workload::Permits => permits::permits(&scene).await,
        Workload::Door => door::door(&scene).await,
        Workload::Heartbeats => heartbeats::heartbeats(&scene).await,
        Workload::Limits => limits::limits(&scene).await,
        Workload::Overload => overload::overload(&scene).await,
        Workload::Drain => drain::drain(&scene).await,
    };
    scene.pair.stop().await;
    rows
}

impl BenchSettings {
    /// The calls in flight that a workload has, or the number that was asked for.
    fn in_flight(&self, usual: &[usize]) -> Vec<usize> {
        self.in_flight.map_or_else(|| usual.to_vec(), |in_flight| vec![in_flight])
    }
}

fn postgres_settings(slow_fsync: bool) -> Vec<(String, String)> {
    let mut settings = vec![("max_wal_size", "4GB"), ("checkpoint_timeout", "30min"), ("shared_buffers", "256MB")];
    if slow_fsync {
        // The leader of a flush waits a millisecond first, whoever else is there: a slower disk, in effect.
        settings.extend([("commit_delay", "1000"), ("commit_siblings", "0")]);
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
