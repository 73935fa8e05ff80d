//! Reads for `interlock doctor`, over one connection: settings, replication and schema of the database.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;
use tokio_postgres::Row;

use super::connection::{Client, DbError, Explained, Target};
use super::migrate;
use super::no_connection::NoConnection;

/// How long connecting may take, with the check that sessions are not shared.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The settings of the session: one statement may take 5 s.
const SETUP: &str = "SET statement_timeout = '5s'; SET timezone = 'UTC'";

/// The settings of Postgres that are read.
const SETTINGS: &[&str] = &[
    "autovacuum",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "fsync",
    "full_page_writes",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "max_connections",
    "reserved_connections",
    "shared_buffers",
    "statement_timeout",
    "superuser_reserved_connections",
    "synchronous_commit",
    "synchronous_standby_names",
    "transaction_timeout",
    "wal_level",
];

/// A connection for an inspection of the database.
pub struct Inspection {
    client: Client,
}

/// Why a statement of the inspection failed, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{}", Explained(.0))]
pub struct Unanswered(#[from] DbError);

/// The instance and the database.
#[derive(Clone, Debug)]
pub struct Instance {
    /// As Postgres numbers it: 150004 is 15.4.
    pub version_number: i32,
    /// As people write it.
    pub version: String,
    /// Whether it is a standby.
    pub is_in_recovery: bool,
    /// The encoding of its text.
    pub encoding: String,
    /// The name of the database.
    pub database: String,
    /// The bytes that the database takes.
    pub size_bytes: i64,
    /// Transactions since the oldest row that is not frozen. At two billion Postgres takes no more writes.
    pub oldest_xid_age: i32,
    /// Whether this role may make tables.
    pub can_create: bool,
    /// The number of connections of clients.
    pub connections: i64,
    /// The number of connections of Interlock among them, with this one.
    pub own_connections: i64,
    /// How far its clock is ahead of this machine's, in seconds; half of the round-trip time may be error.
    pub clock_ahead: f64,
}

/// A standby that is connected.
#[derive(Clone, Debug)]
pub struct Standby {
    /// The name: its `application_name`.
    pub name: String,
    /// `async`, `potential`, `sync` or `quorum`. Empty: this role may not see it.
    pub sync_state: String,
    /// Bytes of log that it has not replayed.
    pub lag_bytes: Option<f64>,
    /// Seconds from a write here until it was replayed there. None: nothing was written lately.
    pub lag_seconds: Option<f64>,
}

/// A replication slot of the database.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The name of the slot.
    pub name: String,
    /// Whether a client reads from it.
    pub is_active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Bytes of log that are kept for it.
    pub kept_bytes: f64,
}

/// A transaction that is open for more than a minute.
#[derive(Clone, Debug)]
pub struct LongTransaction {
    /// The process, or the name of a prepared one.
    pub id: String,
    /// The application that has it, or the owner of a prepared one.
    pub owner: String,
    /// Such as `idle in transaction` or `prepared`.
    pub state: String,
    /// Since when, in seconds.
    pub age_seconds: f64,
}

/// A table with more dead rows than others.
#[derive(Clone, Debug)]
pub struct DeadRows {
    /// The name of the table.
    pub table: String,
    /// The number of dead rows.
    pub dead: i64,
    /// The number of live rows.
    pub live: i64,
}

/// The schema that Interlock has created in the database.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The newest migration that was applied.
    pub version: i32,
    /// The newest migration that this program has.
    pub known_version: i32,
    /// Days after today for which history has a partition.
    pub days_ahead: i64,
    /// Servers that are present now.
    pub servers: i64,
}

impl Inspection {
    /// Connects as a server does: to the host that takes writes, through no pooler that shares sessions.
    ///
    /// # Errors
    /// When there is no such connection; the error says why, for each host.
    pub async fn begin(target: &Target) -> Result<Self, NoConnection> {
        let opened = timeout(CONNECT_TIMEOUT, target.open(SETUP)).await;
        opened.unwrap_or(Err(NoConnection::TimedOut)).map(|client| Self { client })
    }

    /// The instance and the database.
    ///
    /// # Errors
    /// When the statement failed, as for all others.
    pub async fn instance(&self) -> Result<Instance, Unanswered> {
        let before = now();
        let row = self.client.query_one(include_str!("../sql/database/inspect_instance.sql"), &[]).await?;
        let middle = f64::midpoint(before, now());
        Ok(Instance {
            version_number: row.get(0),
            version: row.get(1),
            is_in_recovery: row.get(2),
            encoding: row.get(3),
            database: row.get(4),
            size_bytes: row.get(5),
            oldest_xid_age: row.get(6),
            can_create: row.get(7),
            connections: row.get(8),
            own_connections: row.get(9),
            clock_ahead: row.get::<_, f64>(10) - middle,
        })
    }

    /// Settings by name, as a new session of this role has them. Those that this version of Postgres does not know are missing.
    pub async fn settings(&self) -> Result<BTreeMap<String, String>, Unanswered> {
        let rows = self.client.query(include_str!("../sql/database/inspect_settings.sql"), &[&SETTINGS]).await?;
        let value = |row: &Row| {
            let (value, unit): (Option<String>, String) = (row.get(1), row.get(2));
            in_base_units(value.unwrap_or_default(), &unit)
        };
        Ok(rows.iter().map(|row| (row.get(0), value(row))).collect())
    }

    /// Standbys that are connected.
    pub async fn standbys(&self) -> Result<Vec<Standby>, Unanswered> {
        let rows = self.client.query(include_str!("../sql/database/inspect_standbys.sql"), &[]).await?;
        let standby = |row: &Row| Standby {
            name: row.get(0),
            sync_state: row.get(1),
            lag_bytes: row.get(2),
            lag_seconds: row.get(3),
        };
        Ok(rows.iter().map(standby).collect())
    }

    /// The replication slots of the database.
    pub async fn slots(&self) -> Result<Vec<Slot>, Unanswered> {
        let rows = self.client.query(include_str!("../sql/database/inspect_slots.sql"), &[]).await?;
        let slot = |row: &Row| Slot {
            name: row.get(0),
            is_active: row.get(1),
            wal_status: row.get(2),
            kept_bytes: row.get::<_, Option<f64>>(3).unwrap_or_default(),
        };
        Ok(rows.iter().map(slot).collect())
    }

    /// The oldest five transactions that are open for more than a minute, the oldest first.
    pub async fn long_transactions(&self) -> Result<Vec<LongTransaction>, Unanswered> {
        let rows = self.client.query(include_str!("../sql/database/inspect_transactions.sql"), &[]).await?;
        let transaction = |row: &Row| LongTransaction {
            id: row.get(0),
            owner: row.get(1),
            state: row.get(2),
            age_seconds: row.get(3),
        };
        Ok(rows.iter().map(transaction).collect())
    }

    /// The five tables with the most dead rows, where these outnumber the others.
    pub async fn dead_rows(&self) -> Result<Vec<DeadRows>, Unanswered> {
        let rows = self.client.query(include_str!("../sql/database/inspect_tables.sql"), &[]).await?;
        Ok(rows.iter().map(|row| DeadRows { table: row.get(0), dead: row.get(1), live: row.get(2) }).collect())
    }

    /// Indexes that Postgres does not use because they were not finished.
    pub async fn unfinished_indexes(&self) -> Result<Vec<String>, Unanswered> {
        let rows = self.client.query(include_str!("../sql/database/inspect_indexes.sql"), &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The schema that Interlock has created. None: no migration was applied.
    pub async fn schema(&self) -> Result<Option<Schema>, Unanswered> {
        let there = "SELECT to_regclass('refinery_schema_history') IS NOT NULL AND to_regclass('servers') IS NOT NULL";
        if !self.client.query_one(there, &[]).await?.get::<_, bool>(0) {
            return Ok(None);
        }
        let row = self.client.query_one(include_str!("../sql/database/inspect_schema.sql"), &[]).await?;
        let Some(version) = row.get(0) else { return Ok(None) };
        let known_version = migrate::newest();
        Ok(Some(Schema { version, known_version, days_ahead: row.get(1), servers: row.get(2) }))
    }
}

/// A setting in bytes or milliseconds, where it has such a unit.
fn in_base_units(value: String, unit: &str) -> String {
    let factor = match unit {
        "B" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "kB" => 1 << 10,
        "8kB" => 8 << 10,
        "MB" => 1 << 20,
        _ => return value,
    };
    value.parse::<i64>().map_or(value, |number| (number * factor).to_string())
}

/// The time by this machine's clock, in seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
