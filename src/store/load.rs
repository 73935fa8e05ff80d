//! Loads for decisions, under one name for all aggregates, and what their decoders share.

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use tokio_postgres::Row;
use uuid::Uuid;

pub use super::job::load::{jobs, lock_jobs};
pub use super::job::load_leases::leases;
pub use super::namespace::namespaces;
pub use super::permit::load::{lock_resources, resources};
pub use super::record::load::{lock_records, look_at_records, records};
pub use super::session::load::{lock_sessions, segments, sessions};

use super::pg::connection::{DbResult, Run};
use super::pg::types::JsonText;
use crate::domain::id::NamespaceId;
use crate::domain::request::{RequestKey, RequestRecord};
use crate::domain::time::Timestamp;

/// Result of reading a state that is known at some version.
#[derive(Debug)]
pub enum StateRead<S> {
    /// The key does not exist.
    Missing,
    /// The state still has the known version.
    Unchanged,
    /// The state has another version.
    Changed(Arc<S>),
}

impl<S> Clone for StateRead<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Missing => Self::Missing,
            Self::Unchanged => Self::Unchanged,
            Self::Changed(state) => Self::Changed(state.clone()),
        }
    }
}

/// Remembered requests by key; new ones are absent.
pub async fn requests(client: &impl Run, keys: &[RequestKey]) -> DbResult<HashMap<RequestKey, Arc<RequestRecord>>> {
    let namespaces: Vec<i32> = keys.iter().map(|key| key.namespace.0).collect();
    let ids: Vec<Uuid> = keys.iter().map(|key| key.request_id).collect();
    let rows = client.rows(include_str!("sql/request/load_requests.sql"), &[&namespaces, &ids]).await?;
    let record = |row: &Row| {
        let uids: &[u8] = row.get(3);
        let (uids, _) = uids.as_chunks::<16>();
        let record = RequestRecord {
            digest: row.get(2),
            jobs: uids.iter().map(|bytes| Uuid::from_bytes(*bytes)).collect(),
            stage_no: row.get::<_, Option<i32>>(4).map(number),
            revision: row.get(5),
            applied: row.get(6),
            versions: row.get::<_, Option<&[u8]>>(7).map(versions).unwrap_or_default(),
        };
        (RequestKey { namespace: NamespaceId(row.get(0)), request_id: row.get(1) }, Arc::new(record))
    };
    Ok(rows.iter().map(record).collect())
}

fn versions(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_be_bytes(*bytes)).collect()
}

pub(in crate::store) fn number(number: i32) -> u32 {
    u32::try_from(number).expect("we store no negative numbers")
}

pub(in crate::store) fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros.unsigned_abs())
}

pub(in crate::store) fn parsed<T: serde::de::DeserializeOwned>(text: &JsonText) -> T {
    serde_json::from_str(&text.0).expect("we read back what we wrote")
}

/// The time by the database's clock, read by the statement.
pub async fn clock(client: &impl Run) -> DbResult<Timestamp> {
    let rows = client.rows("SELECT clock_timestamp()", &[]).await?;
    Ok(rows.first().map_or(Timestamp(0), |row| row.get(0)))
}
