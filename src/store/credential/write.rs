//! The rows of changed credentials, one net effect per row, and entries of the audit log.

use std::sync::Arc;

use crate::domain::access::{NamespacePattern, RateLimits, Role};
use crate::domain::audit::{Actor, AuditEntry};
use crate::domain::credential::{ApiKey, KeyRing, Proof};
use crate::domain::id::Name;
use crate::domain::time::Timestamp;
use crate::store::commit::columns::*;
use crate::store::commit::plan::Plan;
use crate::store::pg::types::JsonText;

impl Plan {
    /// Writes the credentials that are new, changed or deleted. The version of the key ring shows that none of them was changed by another server.
    pub fn write_key_ring(&mut self, c: i32, base: Option<&KeyRing>, after: &KeyRing) {
        self.lock_key_ring(c, base);
        self.update_key_ring.push(KeyRingRow { c, version: after.version, floor_version: after.floor_version });
        let before = |key: &ApiKey| base.and_then(|base| base.get(key.id));
        let is_changed = |key: &&Arc<ApiKey>| before(key).is_none_or(|before| before.version != key.version);
        let mut changed: Vec<&Arc<ApiKey>> = after.iter().filter(is_changed).collect();
        // A new credential may have the certificate of one that is revoked with it.
        changed.sort_by_key(|key| key.revoke_time.is_none());
        for key in changed {
            self.put_api_keys.push(row(c, key));
        }
        for key in base.into_iter().flat_map(KeyRing::iter).filter(|key| after.get(key.id).is_none()) {
            self.delete_api_keys.push(KeyIdRow { c, key_id: key.id.to_string() });
        }
    }

    /// Checks that the key ring has the version that was read, and keeps it from changing until the group is committed.
    pub fn lock_key_ring(&mut self, c: i32, base: Option<&KeyRing>) {
        self.lock_key_ring.push(version(c, base));
    }

    /// Checks that the key ring has the version that was read.
    pub fn check_key_ring(&mut self, c: i32, base: Option<&KeyRing>) {
        self.check_key_ring.push(version(c, base));
    }

    /// Adds an entry to the audit log.
    pub fn audit(&mut self, c: i32, entry: &AuditEntry, actor: &Actor, namespace: Option<Name>, now: Timestamp) {
        self.insert_audit_events.push(AuditEventRow {
            c,
            event_time: now,
            principal: actor.to_string(),
            method: entry.method.to_owned(),
            namespace: namespace.map(|name| name.to_string()),
            target: entry.target.clone(),
            details: JsonText::of(&entry.details),
        });
    }
}

fn version(c: i32, ring: Option<&KeyRing>) -> KeyRingVersion {
    // No key ring has version 0, so a check of one that was not loaded fails.
    KeyRingVersion { c, version: ring.map_or(0, |ring| ring.version) }
}

fn row(c: i32, key: &ApiKey) -> ApiKeyRow {
    let (secret, previous) = match &key.proof {
        Proof::Secret { hash, previous } => (Some(hash), previous.as_ref()),
        Proof::Certificate(_) => (None, None),
    };
    let RateLimits { read, write, watch, essential } = key.rates;
    ApiKeyRow {
        c,
        key_id: key.id.to_string(),
        version: key.version,
        changed_version: key.changed_version,
        secret_hash: secret.copied(),
        previous_hash: previous.map(|previous| previous.hash),
        previous_until: previous.map(|previous| previous.until),
        certificate_name: key.certificate().map(|name| name.to_string()),
        label: key.label.to_string(),
        roles: JsonText::of(&key.roles.iter().map(Role::name).collect::<Vec<_>>()),
        namespaces: JsonText::of(&key.namespaces.iter().map(NamespacePattern::to_string).collect::<Vec<_>>()),
        rates: JsonText::of(&[read, write, watch, essential]),
        create_time: key.create_time,
        expire_time: key.expire_time,
        revoke_time: key.revoke_time,
    }
}
