//! The credentials in the overlay. All of them are one root, so that their number and the names in certificates are decided on one version.

use std::sync::Arc;

use super::{Key, Overlay};
use crate::domain::audit::AuditEntry;
use crate::domain::credential::{ApiKey, KeyId, KeyRing};
use crate::domain::id::{Name, NamespaceId};

impl Overlay {
    /// All credentials as they are now, with what the group has done so far.
    pub fn key_ring(&mut self) -> Arc<KeyRing> {
        self.savepoint.trace.read.push(Key::KeyRing);
        let changed = self.savepoint.key_ring.as_ref().or(self.key_ring.as_ref());
        if changed.is_none() && self.loaded.key_ring.is_none() {
            self.savepoint.trace.unloaded.push(Key::KeyRing);
        }
        changed.or(self.loaded.key_ring.as_ref()).cloned().unwrap_or_default()
    }

    /// Puts a new or changed credential into the overlay. Returns it with its versions.
    pub fn put_key(&mut self, key: ApiKey) -> Arc<ApiKey> {
        let mut ring = self.key_ring();
        let after = Arc::make_mut(&mut ring);
        after.version = self.written_ring_version();
        let version = after.get(key.id).map_or(0, |before| before.version) + 1;
        let key = Arc::new(ApiKey { version, changed_version: after.version, ..key });
        after.put(key.clone());
        self.set_key_ring(ring);
        key
    }

    /// Removes credentials from the overlay.
    pub fn delete_keys(&mut self, ids: &[KeyId]) {
        let mut ring = self.key_ring();
        let after = Arc::make_mut(&mut ring);
        after.version = self.written_ring_version();
        after.floor_version = after.version;
        ids.iter().for_each(|id| after.remove(*id));
        self.set_key_ring(ring);
    }

    /// The version at which this group leaves the key ring: one more than it found, however many operations change it.
    fn written_ring_version(&self) -> i64 {
        self.loaded.key_ring.as_ref().map_or(0, |ring| ring.version) + 1
    }

    fn set_key_ring(&mut self, ring: Arc<KeyRing>) {
        self.savepoint.trace.written.push(Key::KeyRing);
        self.savepoint.key_ring = Some(ring);
    }

    /// Notes what the operation does for the audit log, if it is applied.
    pub fn audit(&mut self, entry: AuditEntry) {
        self.savepoint.trace.audit.push(entry);
    }

    /// The name of a namespace, for the audit log. None: it is not among the operation's keys. It never changes, so nothing stands on it.
    pub fn namespace_name(&self, id: NamespaceId) -> Option<Name> {
        self.loaded.namespaces.get(&id)?.as_ref().map(|namespace| namespace.name.clone())
    }
}
