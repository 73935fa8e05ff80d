//! Counters and settings of Postgres during a bench, and the flush time of the disk.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use crate::store::connection::{Client, Run, Target};

/// Settings without which an acknowledgement means nothing.
const DURABLE: &[&str] = &["fsync", "full_page_writes", "synchronous_commit"];

/// A connection for measurements and checks.
pub struct Database {
    client: Client,
}

/// Counters of Postgres; only differences have a meaning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Bytes of the write-ahead log.
    pub wal_bytes: f64,
    /// Transactions committed so far.
    pub commits: f64,
}

/// Counts of what a run has stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredCounts {
    /// Sum of the versions of the jobs.
    pub versions: i64,
    pub jobs: i64,
    /// Number of succeeded stages.
    pub done: i64,
}

impl Database {
    /// Connects to the database.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        Ok(Self { client: Target::parse(url)?.connect("SET timezone = 'UTC'").await? })
    }

    /// Reads the settings that affect the results; fails if one of them is not durable.
    pub async fn settings(&self) -> anyhow::Result<Vec<(String, String)>> {
        let sql = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', \
            'commit_delay', 'shared_buffers', 'server_version') ORDER BY name";
        let rows = self.client.rows(sql, &[]).await?;
        let settings: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for (name, value) in settings.iter().filter(|(name, _)| DURABLE.contains(&name.as_str())) {
            anyhow::ensure!(value == "on", "{name} is {value}: nothing measured would be durable");
        }
        Ok(settings)
    }

    pub async fn counters(&self) -> anyhow::Result<Counters> {
        let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8, \
            (SELECT sum(xact_commit) FROM pg_stat_database)::float8";
        let rows = self.client.rows(sql, &[]).await?;
        let row = rows.first().context("Postgres returned no counters")?;
        Ok(Counters { wal_bytes: row.get(0), commits: row.get(1) })
    }

    /// Counts what is stored of the jobs of a kind, to compare it with the acknowledged calls.
    pub async fn stored(&self, kind: &str) -> anyhow::Result<StoredCounts> {
        let sql = "SELECT (SELECT coalesce(sum(revision), 0)::int8 FROM jobs WHERE kind = $1), \
            (SELECT count(*) FROM jobs WHERE kind = $1), (SELECT count(*) FROM stages s \
            JOIN jobs j USING (namespace_id, job_uid) WHERE s.state = 5 AND j.kind = $1) \
            + (SELECT count(*) FROM jobs j, json_array_elements(j.stages::json) s WHERE s ->> 'state' = '5' AND j.kind = $1)";
        let rows = self.client.rows(sql, &[&kind]).await?;
        let row = rows.first().context("Postgres returned nothing")?;
        Ok(StoredCounts { versions: row.get(0), jobs: row.get(1), done: row.get(2) })
    }

    /// Number of segments of sessions whose ids begin with a name.
    pub async fn segments(&self, name: &str) -> anyhow::Result<i64> {
        let sql = "SELECT coalesce(sum(segment_count), 0)::int8 FROM sessions WHERE starts_with(session_id, $1)";
        let rows = self.client.rows(sql, &[&name]).await?;
        Ok(rows.first().context("Postgres returned nothing")?.get(0))
    }

    /// Number of leases that have not expired, of jobs of a kind.
    pub async fn live_leases(&self, kind: &str) -> anyhow::Result<i64> {
        let sql = "SELECT count(*) FROM leases l JOIN jobs j USING (namespace_id, job_uid) \
            WHERE j.kind = $1 AND l.expires_at > now()";
        let rows = self.client.rows(sql, &[&kind]).await?;
        Ok(rows.first().context("Postgres returned nothing")?.get(0))
    }

    /// Number of changes of the records of a collection: the sum of their versions.
    pub async fn record_changes(&self, collection: &str) -> anyhow::Result<i64> {
        let sql = "SELECT coalesce(sum(version), 0)::int8 FROM records WHERE namespace_id = 1 AND collection = $1";
        let rows = self.client.rows(sql, &[&collection]).await?;
        Ok(rows.first().context("Postgres returned no totals")?.get(0))
    }

    /// Vacuums and checkpoints the database between preparations and runs.
    pub async fn settle(&self) -> anyhow::Result<()> {
        self.client.batch_execute("VACUUM ANALYZE").await?;
        self.client.batch_execute("CHECKPOINT").await?;
        Ok(())
    }
}

/// Measures the time that the disk below the data takes to make small writes durable.
pub fn probe_fdatasync(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.with_extension("probe");
    let mut file = std::fs::File::create(&path).context("the probe's file")?;
    let mut micros: Vec<u128> = Vec::with_capacity(100);
    for _ in 0..100 {
        file.write_all(&[7; 8192])?;
        let started = Instant::now();
        file.sync_data()?;
        micros.push(started.elapsed().as_micros());
    }
    std::fs::remove_file(&path)?;
    micros.sort_unstable();
    Ok(format!("median {} µs, 90 % within {} µs", micros[50], micros[90]))
}
