//! Tables that other sessions have locked, as a LOCK TABLE, an ALTER TABLE or a CREATE INDEX does.

use super::connection::{DbResult, Run};

/// The tables that are written together: those of one aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Tables {
    /// Jobs with their stages, documents, leases and history.
    Jobs = 1,
    /// Records with their large values.
    Records = 2,
    /// Resources with permits and waiters.
    Resources = 4,
    /// Requests whose results are remembered.
    Requests = 8,
    /// Namespaces, without what is in them.
    Namespaces = 16,
    /// The key ring and its credentials.
    Credentials = 32,
    /// Entries of the audit log.
    AuditLog = 64,
    /// The outcomes of groups, which every commit writes.
    WriteGroups = 128,
    /// Sessions with their segments.
    Timelines = 256,
}

impl Tables {
    /// The aggregate of a table. None: no operation writes the table.
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
            "sessions" | "segments" => Some(Self::Timelines),
            _ => None,
        }
    }
}

/// The aggregates of which other sessions have locked tables now.
pub async fn held_tables(client: &impl Run) -> DbResult<Vec<Tables>> {
    let rows = client.rows(include_str!("../sql/database/held_tables.sql"), &[]).await?;
    Ok(rows.iter().filter_map(|row| Tables::of(row.get(0))).collect())
}
