//! Leases in the overlay: rows that are renewed without their job.

use super::{Key, Overlay};
use crate::domain::lease::{LeaseKey, StoredLease};

impl Overlay {
    /// A lease as it is stored, with what the group has renewed so far. Leases are read for each group, so that one which the group does not renew
    /// needs no further proof.
    pub fn lease(&mut self, key: LeaseKey) -> Option<StoredLease> {
        let savepoint = self.savepoint.leases.iter().rev().find(|(renewed, _)| *renewed == key).map(|(_, lease)| lease);
        let Some(renewed) = savepoint.or_else(|| self.leases.get(&key)) else {
            return self.loaded.leases.get(&key).cloned();
        };
        self.savepoint.trace.read.push(Key::Lease(key));
        Some(renewed.clone())
    }

    /// Renews a lease, as long as it has the same secret then.
    pub fn renew_lease(&mut self, key: LeaseKey, renewed: StoredLease) {
        self.savepoint.trace.written.push(Key::Lease(key));
        self.savepoint.leases.push((key, renewed));
    }
}
