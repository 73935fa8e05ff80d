//! `interlock bench`: measures the server from outside, beside a baseline with one transaction per request that does
//! the same work.
//!
//! It starts a Postgres of its own with full durability, the real server in a process of its own, and the baseline in
//! another. Both run in alternation (A B A B …) over the same database, and the report gives ratios, since absolute
//! figures depend on the machine. A server that already runs can be measured too; it is compared only if its database
//! is known. Nothing here is part of a server. Acknowledged writes are checked afterwards by SQL, not by the counters
//! of a client.

mod address;
mod baseline;
mod broadcast;
mod captions;
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
mod raw_timeline;
mod records;
mod report;
mod segments;
mod servers;
mod settings;
mod timeline;
mod watchers;
mod workloads;

use std::path::Path;

use anyhow::Context;
use compare::Scene;
use database::Database;

use crate::dev::{Durability, Postgres, Storage};
pub use address::Address;
pub use baseline::serve as serve_baseline;
pub use broadcast::serve as serve_broadcast;
pub use report::Row;
pub use servers::Demands;
use servers::Pair;
pub use settings::{BenchSettings, Workload};

/// Writes a part of the report for its reader.
pub type Print = fn(&[u8]) -> anyhow::Result<()>;

/// Runs one workload and prints the report.
///
/// # Errors
/// If a server cannot be started, if the stored data does not match the acknowledged calls, or if the report cannot be printed.
pub async fn run(mut settings: BenchSettings, print: Print) -> anyhow::Result<()> {
    let rows = match &settings.target {
        Some(target) => {
            let pair = Pair::beside(target, settings.database_url.as_deref()).await?;
            measure(&settings, pair, None, print).await?
        }
        None => on_our_own(&mut settings, print).await?,
    };
    let mut report = Vec::new();
    report::write(&mut report, &rows, settings.json)?;
    print(&report)
}

/// Runs with a Postgres and servers of its own.
async fn on_our_own(settings: &mut BenchSettings, print: Print) -> anyhow::Result<Vec<Row>> {
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
        measure(settings, pair, Some(postgres.data_dir()), print).await
    };
    let measured = measured.await;
    postgres.stop().await;
    measured
}

async fn measure(
    settings: &BenchSettings,
    pair: Pair,
    data_dir: Option<&Path>,
    print: Print,
) -> anyhow::Result<Vec<Row>> {
    let database = match &settings.database_url {
        Some(url) => Some(Database::connect(url).await?),
        None => None,
    };
    // A database that is not durable is refused even if the settings are not printed.
    let durable = match &database {
        Some(database) => database.settings().await?,
        None => Vec::new(),
    };
    if !settings.json {
        let probe = data_dir.map(database::probe_fdatasync).transpose()?;
        let mut heading = Vec::new();
        report::heading(&mut heading, &durable, probe.as_deref())?;
        print(&heading)?;
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
        Workload::Timeline => timeline::timeline(&scene).await,
    };
    scene.pair.stop().await;
    rows
}

fn postgres_settings(slow_fsync: bool) -> Vec<(String, String)> {
    let mut settings = vec![("max_wal_size", "4GB"), ("checkpoint_timeout", "30min"), ("shared_buffers", "256MB")];
    if slow_fsync {
        // The leader of a flush waits 1 ms first, whatever the number of other commits: in effect a slower disk.
        settings.extend([("commit_delay", "1000"), ("commit_siblings", "0")]);
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
