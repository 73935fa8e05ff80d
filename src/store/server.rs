//! Servers that are present, and leader leases of roles that only one of them has at a time.

use std::time::Duration;

use foldhash::HashSet;
use uuid::Uuid;

use super::Store;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// The servers that are present.
#[derive(Debug)]
pub struct PresentServers {
    /// Their ids, with that of this server.
    pub servers: HashSet<Uuid>,
    /// Whether one of them does not know jobs in one row.
    pub has_older: bool,
    /// When the statement began, by the database's clock.
    pub now: Timestamp,
}

impl Store {
    /// Announces a server for the next 5 seconds, and returns which servers are present.
    pub async fn greet_servers(&self, server: Uuid) -> Result<PresentServers> {
        let rows = self.background(include_str!("sql/server/greet_servers.sql"), &[&server]).await?;
        // There is a row of this server at least.
        let now = rows.first().map_or(Timestamp(0), |row| row.get(1));
        let has_older = rows.iter().any(|row| !row.get::<_, bool>(2));
        Ok(PresentServers { servers: rows.iter().map(|row| row.get(0)).collect(), has_older, now })
    }

    /// Removes a server from those that are present.
    pub async fn leave_servers(&self, server: Uuid) -> Result<()> {
        self.background(include_str!("sql/server/leave_servers.sql"), &[&server]).await.map(drop)
    }

    /// Acquires or renews the leader lease of a role; false while another server has it.
    pub async fn acquire_leader_lease(&self, role: &str, server: Uuid, lasts: Duration) -> Result<bool> {
        let rows = self
            .background(include_str!("sql/server/acquire_leader_lease.sql"), &[&role, &server, &lasts.as_secs_f64()])
            .await?;
        Ok(!rows.is_empty())
    }

    /// Releases the leader lease of a role if this server has it.
    pub async fn release_leader_lease(&self, role: &str, server: Uuid) -> Result<()> {
        self.background(include_str!("sql/server/release_leader_lease.sql"), &[&role, &server]).await?;
        Ok(())
    }
}
