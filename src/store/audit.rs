//! Reads of the audit log.

use tokio_postgres::Row;

use super::Store;
use super::connection::{Run, unavailable};
use super::types::JsonText;
use crate::domain::audit::{AuditEvent, AuditQuery};
use crate::domain::json::Document;
use crate::domain::time::Timestamp;
use crate::error::Result;

impl Store {
    /// Entries of the audit log, the newest first, behind an entry (its moment and id).
    pub async fn audit_events(
        &self,
        query: &AuditQuery,
        after: Option<(Timestamp, i64)>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>> {
        let client = self.reads.get().await?;
        let (time, id) = after.unzip();
        let AuditQuery { principal, method, since, until } = query;
        let sql = include_str!("sql/list_audit_events.sql");
        let rows = client.rows(sql, &[&time, &id, principal, method, since, until, &i64::from(limit)]).await;
        Ok(rows.map_err(|error| unavailable(&error))?.iter().map(event).collect())
    }
}

fn event(row: &Row) -> AuditEvent {
    AuditEvent {
        id: row.get(0),
        time: row.get(1),
        principal: row.get::<_, &str>(2).into(),
        method: row.get::<_, &str>(3).into(),
        namespace: row.get::<_, Option<&str>>(4).map(Into::into),
        target: row.get(5),
        details: Document::from_checked(row.get::<_, JsonText>(6).0),
    }
}
