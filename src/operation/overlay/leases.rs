//! Leases in an overlay: their expiries, which are renewed without their job.

use super::Overlay;
use super::key::Key;
use crate::domain::lease::{LeaseKey, StoredLease};

impl Overlay {
    /// A lease. None: it is not held. Leases are read for each group, so one that the group does not renew needs no check.
    pub fn lease(&mut self, key: LeaseKey) -> Option<StoredLease> {
        let own = self.savepoint.leases.iter().rev().find(|(renewed, _)| *renewed == key).map(|(_, lease)| lease);
        let Some(renewed) = own.or_else(|| self.leases.get(&key)) else {
            return self.loaded.leases.get(&key).cloned();
        };
        self.savepoint.access.read.push(Key::Lease(key));
        Some(renewed.clone())
    }

    /// Renews a lease. It is committed only if the lease still has the same secret.
    pub fn renew_lease(&mut self, key: LeaseKey, renewed: StoredLease) {
        self.savepoint.access.written.push(Key::Lease(key));
        self.savepoint.leases.push((key, renewed));
    }
}
