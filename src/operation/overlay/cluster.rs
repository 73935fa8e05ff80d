//! What a server knows of the cluster when it decides.

use std::sync::Arc;

use foldhash::HashSet;
use uuid::Uuid;

use crate::domain::time::Timestamp;

/// What is known around a decision that it does not stand on: liveness, never safety, rests on it.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// This server.
    pub server: Uuid,
    /// The servers that are there, this one included.
    pub servers: Arc<HashSet<Uuid>>,
    /// When that was known: about who came later nothing is.
    pub as_of: Option<Timestamp>,
    /// Whether a server may be there that knows no jobs in one row (see `store/in_row.rs`). New jobs get rows for their stages then.
    pub has_older_servers: bool,
    /// Permits that do not expire yet: the database was away, and their holders renew first.
    pub spared: Spared,
}

/// Leases and permits that do not expire for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spared {
    /// None of them.
    #[default]
    None,
    /// Those that were granted or last renewed before a moment of the database's clock.
    Before(Timestamp),
    /// All: the database is away.
    All,
}

impl Spared {
    /// Whether one is spared that was granted or last renewed at a moment.
    pub fn spares(self, held_since: Timestamp) -> bool {
        match self {
            Self::None => false,
            Self::Before(moment) => held_since < moment,
            Self::All => true,
        }
    }
}
