//! Reads of credentials, and when they were last used.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;

use crate::domain::access::{NamespacePattern, RateLimits, Role, Roles};
use crate::domain::credential::{ApiKey, KeyChanges, KeyId, PreviousSecret, Proof, SecretHash};
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;
use crate::store::load::parsed;
use crate::store::pg::connection::{DbResult, Run, unavailable};
use crate::store::pg::types::JsonText;

/// Columns of the key ring before those of a key.
const RING_COLUMNS: usize = 3;

impl Store {
    /// The credentials that changed after a version of the key ring, as one snapshot: one row if none did. Version 0 gives all.
    pub async fn credentials_changed_since(&self, version: i64) -> Result<KeyChanges> {
        let client = self.credentials.get().await?;
        changed_keys(&client, version).await.map_err(|error| unavailable(&error))
    }

    /// The credential of an id. None: there is no such credential.
    pub async fn credential(&self, id: KeyId) -> Result<Option<ApiKey>> {
        self.find_credential(Some(id.as_str()), None).await
    }

    /// The credential of a name in a client certificate. None: there is none, or it was revoked.
    pub async fn credential_of_certificate(&self, name: &str) -> Result<Option<ApiKey>> {
        self.find_credential(None, Some(name)).await
    }

    async fn find_credential(&self, id: Option<&str>, certificate: Option<&str>) -> Result<Option<ApiKey>> {
        let client = self.reserved.get().await?;
        let rows = client.rows(include_str!("../sql/credential/find_keys.sql"), &[&id, &certificate]).await;
        Ok(rows.map_err(|error| unavailable(&error))?.first().map(|row| key(row, 0)))
    }

    /// Credentials, newest first, behind one: its creation time and id.
    pub async fn credentials_page(&self, after: Option<(Timestamp, String)>, limit: u32) -> Result<Vec<ApiKey>> {
        let client = self.reads.get().await?;
        let (time, id) = after.unzip();
        let rows = client.rows(include_str!("../sql/credential/list_keys.sql"), &[&time, &id, &i64::from(limit)]).await;
        Ok(rows.map_err(|error| unavailable(&error))?.iter().map(|row| key(row, 0)).collect())
    }

    /// Whether any credential expired or was revoked more than `ago` ago.
    pub async fn has_ended_keys(&self, ago: Duration) -> Result<bool> {
        let client = self.reserved.get().await?;
        let ago_us = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
        let rows = client.rows(include_str!("../sql/credential/ended_keys.sql"), &[&ago_us]).await;
        Ok(rows.map_err(|error| unavailable(&error))?.first().is_some_and(|row| row.get(0)))
    }

    /// Stores when credentials were last used, at most once an hour each. Returns how many were written.
    pub async fn note_key_use(&self, ids: &[KeyId]) -> Result<usize> {
        let client = self.reserved.get().await?;
        let ids: Vec<&str> = ids.iter().map(KeyId::as_str).collect();
        let rows = client.rows(include_str!("../sql/credential/note_key_use.sql"), &[&ids]).await;
        Ok(rows.map_err(|error| unavailable(&error))?.len())
    }
}

/// Locks the key ring. Where another transaction has locked it, it waits or fails.
pub async fn lock_key_ring(client: &impl Run, wait: bool) -> DbResult<()> {
    let sql = if wait {
        include_str!("../sql/credential/lock_key_ring.sql")
    } else {
        include_str!("../sql/credential/try_lock_key_ring.sql")
    };
    client.rows(sql, &[]).await?;
    Ok(())
}

/// The credentials that changed after a version of the key ring.
pub async fn changed_keys(client: &impl Run, version: i64) -> DbResult<KeyChanges> {
    let rows = client.rows(include_str!("../sql/credential/changed_keys.sql"), &[&version]).await?;
    let has_key = |row: &&Row| row.get::<_, Option<&str>>(RING_COLUMNS).is_some();
    let (version, floor_version, is_whole) =
        rows.first().map_or((0, 0, true), |row| (row.get(0), row.get(1), row.get(2)));
    let keys = rows.iter().filter(has_key).map(|row| Arc::new(key(row, RING_COLUMNS))).collect();
    Ok(KeyChanges { version, floor_version, is_whole, keys })
}

/// A credential from columns that begin at a position.
fn key(row: &Row, at: usize) -> ApiKey {
    let patterns: Vec<String> = parsed(&row.get::<_, JsonText>(at + 9));
    let roles: Vec<String> = parsed(&row.get::<_, JsonText>(at + 8));
    let [read, write, watch, essential]: [Option<u32>; 4] = parsed(&row.get::<_, JsonText>(at + 10));
    ApiKey {
        id: KeyId::parse(row.get(at)).expect("a CHECK keeps ids in form"),
        version: row.get(at + 1),
        changed_version: row.get(at + 2),
        proof: proof(row, at + 3),
        label: row.get::<_, &str>(at + 7).into(),
        // What a later version calls otherwise is no permission here.
        roles: roles.iter().filter_map(|name| Role::of(name)).collect::<Roles>(),
        namespaces: patterns.iter().filter_map(|pattern| NamespacePattern::parse(pattern)).collect(),
        rates: RateLimits { read, write, watch, essential },
        create_time: row.get(at + 11),
        expire_time: row.get(at + 12),
        revoke_time: row.get(at + 13),
        last_use_time: row.get(at + 14),
    }
}

fn proof(row: &Row, at: usize) -> Proof {
    let hash = |at: usize| row.get::<_, Option<&[u8]>>(at).and_then(SecretHash::of_bytes);
    match hash(at) {
        Some(newest) => {
            let until: Option<Timestamp> = row.get(at + 2);
            let previous = hash(at + 1).zip(until).map(|(hash, until)| PreviousSecret { hash, until });
            Proof::Secret { hash: newest, previous }
        }
        None => Proof::Certificate(row.get::<_, Option<&str>>(at + 3).unwrap_or_default().into()),
    }
}
