//! The only module that uses Postgres: connections, the group commit, loads, queries and migrations.
//!
//! SQL stands in files under `sql/`, one statement each, in a folder for each aggregate. The parts of the commit statement are in `commit/` of these
//! folders. `sql/template/` has the statements that differ between aggregates by table and key only.

pub mod aggregate;
pub mod audit;
pub mod bounded;
pub mod commit;
pub mod credential;
pub mod due;
mod figures;
pub mod job;
pub mod lexemes;
pub mod load;
mod namespace;
mod page;
pub mod permit;
mod pg;
pub mod record;
pub mod replica;
mod server;
pub mod session;
mod table;
pub mod timeline;
mod values;

use std::sync::Arc;

pub use job::{changes, ready};
pub use pg::{
    connection, health, held, inspect, listen, log_position, migrate, no_connection, pool, target_text, types, walk,
};

use connection::Target;
use health::Pulse;
use lexemes::LexemeCache;
use pool::{PoolFigures, PoolSettings, ReadPool};

/// Connections that users' reads cannot use up: for the dispatcher, the documents of its leases, and background jobs.
const RESERVED: usize = 4;

/// The database: where it is, and pools of connections for reads.
#[derive(Clone)]
pub struct Store {
    /// Where the database is, for callers that need a connection of their own.
    pub target: Target,
    /// Connections for reads of users.
    pub reads: ReadPool,
    /// Connections for work that must not wait for reads of users: the dispatcher, background jobs, and documents of leases.
    reserved: ReadPool,
    /// Half of `reserved`, for lookups of calls, so that they cannot use up all of it.
    repeats: ReadPool,
    /// One connection for credentials: a revoked key is refused within seconds, however busy the other connections are.
    credentials: ReadPool,
    pulse: Arc<tokio::sync::Mutex<Pulse>>,
    lease_reads: Arc<job::lease_reads::LeaseReads>,
    /// Lexemes of words of segments.
    pub lexemes: Arc<LexemeCache>,
}

impl Store {
    /// A store that opens connections as they are needed.
    pub fn new(target: Target, settings: PoolSettings) -> Result<Self, deadpool::managed::BuildError> {
        let reserved =
            ReadPool::new(&target, PoolSettings { max_connections: RESERVED, min_connections: 1, ..settings.clone() })?;
        let one = PoolSettings { max_connections: 1, min_connections: 1, ..settings.clone() };
        let credentials = ReadPool::new(&target, one)?;
        let reads = ReadPool::new(&target, settings)?;
        let repeats = reserved.share(RESERVED / 2);
        let (pulse, lease_reads, lexemes) = Default::default();
        Ok(Self { target, reads, reserved, repeats, credentials, pulse, lease_reads, lexemes })
    }

    /// The same database for reads of watches, which may use half of the connections at most: thousands of watches begin after a restart.
    pub fn for_watches(&self) -> Self {
        Self { reads: self.reads.share((self.reads.max_connections() / 2).max(1)), ..self.clone() }
    }

    /// The same database for background work: its reads use connections that reads of calls cannot use up.
    pub fn for_background(&self) -> Self {
        Self { reads: self.reserved.clone(), ..self.clone() }
    }

    /// The figures of each pool, by name.
    pub fn pools(&self) -> [(&'static str, PoolFigures); 2] {
        [("reads", self.reads.figures()), ("reserved", self.reserved.figures())]
    }

    /// Closes connections that have been idle for longer than `max_idle`; returns how many.
    pub fn retire_idle(&self) -> usize {
        self.reads.retire_idle() + self.reserved.retire_idle() + self.credentials.retire_idle()
    }

    /// Closes all connections that exist now after their current use.
    fn renew(&self) {
        self.reads.renew();
        self.reserved.renew();
        self.credentials.renew();
    }
}

#[cfg(test)]
mod bounded_tests;
#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod page_cost_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
pub(crate) mod tests;
