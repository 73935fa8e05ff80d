//! What a server knows of the cluster.

use std::sync::Arc;

use foldhash::HashSet;
use uuid::Uuid;

use crate::domain::time::Timestamp;

/// The cluster as this server last read it. Affects only liveness (such as whose waiters to skip), never safety: no commit checks it.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    pub server: Uuid,
    /// Servers that are alive, this one included.
    pub servers: Arc<HashSet<Uuid>>,
    /// When `servers` was read; servers that started later are missing. None: it was never read.
    pub as_of: Option<Timestamp>,
    /// Whether a server of a version may be alive that cannot read jobs in one row (see `store/in_row.rs`). New jobs then get rows for their
    /// stages.
    pub has_older_servers: bool,
    /// Permits that do not expire yet, because the database was unavailable and their holders need time to renew.
    pub spared: Spared,
}

/// Leases and permits that do not expire for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spared {
    /// None: all expire at their time.
    #[default]
    None,
    /// Those granted or last renewed before this moment, by the database's clock.
    Before(Timestamp),
    /// All: the database is unavailable.
    All,
}

impl Spared {
    /// Whether a lease or permit is spared that was granted or last renewed at this moment.
    pub fn spares(self, held_since: Timestamp) -> bool {
        match self {
            Self::None => false,
            Self::Before(moment) => held_since < moment,
            Self::All => true,
        }
    }
}
