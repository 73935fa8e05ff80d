//! Credentials in an overlay. All of them are one aggregate, so that their number and the names in certificates are decided on one version.

use std::sync::Arc;

use super::Overlay;
use crate::domain::credential::{ApiKey, KeyId, KeyRing};

impl Overlay {
    pub fn key_ring(&mut self) -> Arc<KeyRing> {
        self.read(&()).unwrap_or_default()
    }

    /// Writes a new or changed credential. Returns it with its versions.
    pub fn put_key(&mut self, key: ApiKey) -> Arc<ApiKey> {
        let mut ring = self.key_ring();
        let after = Arc::make_mut(&mut ring);
        after.version = self.written_ring_version();
        let version = after.get(key.id).map_or(0, |before| before.version) + 1;
        let key = Arc::new(ApiKey { version, changed_version: after.version, ..key });
        after.put(key.clone());
        self.write((), Some(ring), ());
        key
    }

    pub fn delete_keys(&mut self, ids: &[KeyId]) {
        let mut ring = self.key_ring();
        let after = Arc::make_mut(&mut ring);
        after.version = self.written_ring_version();
        after.floor_version = after.version;
        ids.iter().for_each(|id| after.remove(*id));
        self.write((), Some(ring), ());
    }

    /// The version at which the group leaves the key ring: one more than it found, however many operations change it.
    fn written_ring_version(&self) -> i64 {
        self.tables.key_ring.base(&()).map_or(0, |ring| ring.version) + 1
    }
}
