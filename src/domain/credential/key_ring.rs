//! All credentials as one root: every change of a credential increments its version.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::ApiKey;
use super::key_text::KeyId;
use crate::domain::id::Name;

/// All credentials at one version.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    /// Version; grows by one with each change of a credential. 0: nothing was read yet.
    pub version: i64,
    /// Version at which credentials were last deleted. 0: never.
    pub floor_version: i64,
    keys: BTreeMap<KeyId, Arc<ApiKey>>,
    /// Credentials that are not revoked, by the name in their certificate.
    by_certificate: HashMap<Name, KeyId>,
}

/// Changes since a known version.
#[derive(Clone, Debug)]
pub struct KeyChanges {
    /// Version of the stored key ring.
    pub version: i64,
    /// Version at which credentials were last deleted.
    pub floor_version: i64,
    /// Whether `keys` are all credentials, and not only the changed ones.
    pub is_whole: bool,
    /// Credentials in the order of their ids.
    pub keys: Vec<Arc<ApiKey>>,
}

impl KeyRing {
    /// The credential with this id.
    pub fn get(&self, id: KeyId) -> Option<&Arc<ApiKey>> {
        self.keys.get(&id)
    }

    /// The credential for a name in a client certificate, unless it was revoked.
    pub fn of_certificate(&self, name: &str) -> Option<&Arc<ApiKey>> {
        self.keys.get(self.by_certificate.get(name)?)
    }

    /// Number of credentials, ended ones included.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no credentials.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All credentials in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.keys.values()
    }

    /// Applies changes since this version.
    pub fn apply(&mut self, changes: KeyChanges) {
        if changes.is_whole {
            *self = Self::default();
        }
        (self.version, self.floor_version) = (changes.version, changes.floor_version);
        changes.keys.into_iter().for_each(|key| self.put(key));
    }

    /// Adds or replaces a credential.
    pub fn put(&mut self, key: Arc<ApiKey>) {
        if let Some(name) = key.certificate() {
            if key.revoke_time.is_none() {
                self.by_certificate.insert(name.clone(), key.id);
            } else if self.by_certificate.get(name) == Some(&key.id) {
                self.by_certificate.remove(name);
            }
        }
        self.keys.insert(key.id, key);
    }

    /// Removes the credential with this id.
    pub fn remove(&mut self, id: KeyId) {
        let Some(key) = self.keys.remove(&id) else { return };
        if let Some(name) = key.certificate().filter(|name| self.by_certificate.get(*name) == Some(&id)) {
            self.by_certificate.remove(name);
        }
    }

    /// Approximate memory in bytes.
    pub fn weight_bytes(&self) -> usize {
        self.keys.values().map(|key| key.weight_bytes()).sum::<usize>() + 200
    }
}
