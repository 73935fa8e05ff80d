//! Reads of the audit log.

use postgres_types::ToSql;
use tokio_postgres::Row;

use super::Store;
use super::pg::connection::{Run, unavailable};
use super::pg::types::JsonText;
use crate::domain::audit::{AuditEvent, AuditQuery};
use crate::domain::json::Document;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Entries that are read for one page at most: no index serves filters by principal and rpc.
const MAX_LOOK: i64 = 10_000;

/// A position in the audit log: time and id of an entry.
pub type AuditPlace = (Timestamp, i64);

impl Store {
    /// Entries of the audit log, newest first, behind a position; and the position behind which the next page begins. None: there is no next page.
    pub async fn audit_events(
        &self,
        query: &AuditQuery,
        after: Option<AuditPlace>,
        limit: u32,
    ) -> Result<(Vec<AuditEvent>, Option<AuditPlace>)> {
        let client = self.reads.get().await?;
        let (time, id) = after.unzip();
        let AuditQuery { principal, method, since, until } = query;
        let sql = include_str!("sql/audit/list_audit_events.sql");
        let one_more = i64::from(limit) + 1;
        let params: [&(dyn ToSql + Sync); 8] = [&time, &id, principal, method, since, until, &one_more, &MAX_LOOK];
        let rows = client.rows(sql, &params).await.map_err(|error| unavailable(&error))?;
        let mut found: Vec<AuditEvent> = rows.iter().filter_map(event).collect();
        if found.len() > limit as usize {
            found.truncate(limit as usize);
            let next = found.last().map(|last| (last.time, last.id));
            return Ok((found, next));
        }
        let next = rows.first().and_then(|row| row.get::<_, Option<Timestamp>>(0).zip(row.get(1)));
        Ok((found, next))
    }
}

/// The entry of a row. None: the row has only the position of the next page.
fn event(row: &Row) -> Option<AuditEvent> {
    Some(AuditEvent {
        id: row.get::<_, Option<i64>>(2)?,
        time: row.get(3),
        principal: row.get::<_, &str>(4).into(),
        method: row.get::<_, &str>(5).into(),
        namespace: row.get::<_, Option<&str>>(6).map(Into::into),
        target: row.get(7),
        details: Document::from_checked(row.get::<_, JsonText>(8).0),
    })
}
