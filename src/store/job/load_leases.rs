//! Loads of leases without their jobs, for heartbeats and the reaper.

use foldhash::{HashMap, HashMapExt};
use postgres_types::ToSql;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::lease::{LeaseKey, StoredLease};
use crate::store::job::load::job_state;
use crate::store::job::queries::signed;
use crate::store::load::micros;
use crate::store::pg::connection::{DbResult, Run};

/// Leases by key. Those that are not held are absent.
pub async fn leases(client: &impl Run, keys: &[LeaseKey]) -> DbResult<HashMap<LeaseKey, StoredLease>> {
    let namespaces: Vec<i32> = keys.iter().map(|key| key.job.namespace.0).collect();
    let uids: Vec<Uuid> = keys.iter().map(|key| key.job.uid).collect();
    let numbers: Vec<i32> = keys.iter().map(|key| signed(key.stage_no)).collect();
    let places: Vec<i32> = (0..).take(keys.len()).collect();
    let params: [&(dyn ToSql + Sync); 4] = [&namespaces, &uids, &numbers, &places];
    let rows = client.rows(include_str!("../sql/lease/find_leases.sql"), &params).await?;
    let mut leases = HashMap::with_capacity(rows.len());
    for row in &rows {
        let key = usize::try_from(row.get::<_, i32>(0)).ok().and_then(|place| keys.get(place));
        leases.extend(key.and_then(|key| Some((*key, lease(row)?))));
    }
    Ok(leases)
}

/// The lease of a row. None: its job does not exist.
fn lease(row: &Row) -> Option<StoredLease> {
    let job_revision: Option<i64> = row.get(5);
    Some(StoredLease {
        secret: row.get(1),
        fencing_token: row.get(2),
        duration: micros(row.get(3)),
        expires_at: row.get(4),
        // The rest of the timeout of a paused job does not matter to a lease.
        job_state: job_state(row.get(6), row.get(7), None),
        job_revision: job_revision?,
    })
}
