//! `interlock bench`: measures the server from outside, beside a transaction per request that does the same work.
//!
//! It starts a Postgres of its own with everything durable, the real server in a process of its own, and the comparison in
//! another, lets both run in turn (A B A B …) over the same database, and tells ratios: absolute figures do not survive the machine.
//! Nothing here is part of a server. What was acknowledged is checked afterwards by SQL, not by the counters of a client.

mod baseline;
mod broadcast;
mod database;
mod fanout;
mod load;
mod raw;
mod report;
mod servers;
mod watchers;
mod workloads;

use std::time::Duration;

use anyhow::Context;

use crate::dev::{Durability, Options, Postgres, Storage};
pub use baseline::serve as serve_baseline;
pub use broadcast::serve as serve_broadcast;
pub use report::Row;
use servers::Pair;

/// What is measured.
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
    /// Changes told to 100 and 2,000 watchers.
    Fanout,
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What.
    pub workload: Workload,
    /// How long one run of one variant takes.
    pub run: Duration,
    /// How many runs of each variant.
    pub pairs: usize,
    /// Stages to drain.
    pub stages: usize,
    /// Whether Postgres waits a millisecond more before each flush of its log.
    pub slow_fsync: bool,
    /// Print JSON instead of a table.
    pub json: bool,
    /// Its address, once it runs.
    pub database_url: String,
    /// Where the private Postgres keeps its data and finds its binaries.
    pub postgres: Options,
}

/// Runs one workload and prints what it found.
///
/// # Errors
/// When a server cannot be started, or when what was acknowledged is not what is stored.
pub async fn run(mut settings: Settings) -> anyhow::Result<()> {
    settings.postgres.durability = Durability::Full;
    settings.postgres.settings.extend(postgres_settings(settings.slow_fsync));
    anyhow::ensure!(
        matches!(settings.postgres.storage, Storage::Ephemeral { .. }),
        "a bench runs on a database of its own"
    );
    let postgres = Postgres::start(settings.postgres.clone()).await.context("Postgres does not start")?;
    settings.database_url = postgres.database_url();
    let measured = measure(&settings, &postgres).await;
    postgres.stop().await;
    let rows = measured?;
    report::print(&rows, settings.json);
    Ok(())
}

async fn measure(settings: &Settings, postgres: &Postgres) -> anyhow::Result<Vec<Row>> {
    let url = &settings.database_url;
    let pair = Pair::start(url, postgres.pid()).await?;
    let database = database::Database::connect(url).await?;
    if !settings.json {
        report::heading(&database.settings().await?, &database::probe_fdatasync(postgres.data_dir())?);
    }
    let rows = match settings.workload {
        Workload::Submit => workloads::submit(settings, &pair, &database).await,
        Workload::Update => workloads::update(settings, &pair, &database).await,
        Workload::Contention => workloads::contention(settings, &pair, &database).await,
        Workload::Servers => workloads::servers(settings, &pair, &database).await,
        Workload::Fanout => fanout::fanout(settings, &pair, &database).await,
        Workload::Drain => workloads::drain(settings, &pair, &database).await,
    };
    pair.stop().await;
    rows
}

fn postgres_settings(slow_fsync: bool) -> Vec<(String, String)> {
    let mut settings = vec![("max_wal_size", "4GB"), ("checkpoint_timeout", "30min"), ("shared_buffers", "256MB")];
    if slow_fsync {
        // The leader of a flush waits a millisecond first, whoever else is there: a slower disk, in effect.
        settings.extend([("commit_delay", "1000"), ("commit_siblings", "0")]);
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
