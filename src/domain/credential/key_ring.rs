//! All credentials as one: the root whose version every change of a credential raises.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{ApiKey, KeyId};
use crate::domain::id::Name;

/// All credentials at one version.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    /// Grows by one with each change of a credential. 0: nothing was read yet.
    pub version: i64,
    /// The version at which credentials were last deleted. 0: none were.
    pub floor_version: i64,
    keys: BTreeMap<KeyId, Arc<ApiKey>>,
    /// Those that are not revoked, by the name in their certificate.
    by_certificate: HashMap<Name, KeyId>,
}

/// What changed since a version that somebody knows.
#[derive(Clone, Debug)]
pub struct KeyChanges {
    /// The version that is stored.
    pub version: i64,
    /// The version at which credentials were last deleted.
    pub floor_version: i64,
    /// Whether these are all credentials, and not only those that changed.
    pub is_whole: bool,
    /// In the order of their ids.
    pub keys: Vec<Arc<ApiKey>>,
}

impl KeyRing {
    /// The key of an id.
    pub fn get(&self, id: KeyId) -> Option<&Arc<ApiKey>> {
        self.keys.get(&id)
    }

    /// The credential of a name in a client certificate, unless it was revoked.
    pub fn of_certificate(&self, name: &str) -> Option<&Arc<ApiKey>> {
        self.keys.get(self.by_certificate.get(name)?)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.keys.values()
    }

    /// Takes over what changed since this version.
    pub fn apply(&mut self, changes: KeyChanges) {
        if changes.is_whole {
            *self = Self::default();
        }
        (self.version, self.floor_version) = (changes.version, changes.floor_version);
        changes.keys.into_iter().for_each(|key| self.put(key));
    }

    /// Puts a new or changed key in.
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

    /// Takes a key out.
    pub fn remove(&mut self, id: KeyId) {
        let Some(key) = self.keys.remove(&id) else { return };
        if let Some(name) = key.certificate().filter(|name| self.by_certificate.get(*name) == Some(&id)) {
            self.by_certificate.remove(name);
        }
    }

    /// About how much memory it takes.
    pub fn weight_bytes(&self) -> usize {
        self.keys.values().map(|key| key.weight_bytes()).sum::<usize>() + 200
    }
}
