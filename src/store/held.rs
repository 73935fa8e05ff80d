//! Tables that other sessions hold, as a LOCK TABLE, an ALTER TABLE or a CREATE INDEX does.

use super::connection::{DbResult, Run};

/// What is written together: the tables of one kind of root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tables {
    /// Jobs, and all that is below them.
    Jobs = 1,
    /// Records with their values.
    Records = 2,
    /// Resources with permits and waiters.
    Resources = 4,
    /// Remembered requests.
    Requests = 8,
    /// Namespaces.
    Namespaces = 16,
    /// Credentials.
    Credentials = 32,
    /// The audit log.
    AuditLog = 64,
    /// The outcomes of groups, which every commit writes.
    WriteGroups = 128,
}

impl Tables {
    /// Those that a table belongs to; none for what no operation is about.
    fn of(table: &str) -> Option<Self> {
        match table {
            "jobs" | "job_documents" | "job_events" | "stages" | "stage_specs" | "stage_artifacts" | "ready_stages"
            | "leases" => Some(Self::Jobs),
            "records" | "record_values" => Some(Self::Records),
            "resources" | "permits" | "permit_waiters" => Some(Self::Resources),
            "requests" => Some(Self::Requests),
            "namespaces" => Some(Self::Namespaces),
            "key_ring" | "api_keys" => Some(Self::Credentials),
            "audit_events" => Some(Self::AuditLog),
            "write_groups" => Some(Self::WriteGroups),
            _ => None,
        }
    }
}

/// The tables that other sessions hold now.
pub async fn held_tables(client: &impl Run) -> DbResult<Vec<Tables>> {
    let rows = client.rows(include_str!("sql/held_tables.sql"), &[]).await?;
    Ok(rows.iter().filter_map(|row| Tables::of(row.get(0))).collect())
}
