//! RenewPermit: extends a permit.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::id::NamespaceId;
use crate::domain::permit::resource::Resource;
use crate::domain::permit::{Granted, Permit, PermitToken, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::operation::overlay::{Key, Overlay};
use crate::operation::permits::resource_tx::ResourceTx;
use crate::operation::permits::{PermitReply, expect_permit};
use crate::operation::{Operation, Reply};

/// Extends a permit at all of its resources. An expired permit can be renewed until it was ended for another waiter.
#[derive(Debug)]
pub struct RenewPermit {
    /// Namespace of the call.
    pub namespace: NamespaceId,
    /// Token of the permit.
    pub token: PermitToken,
    /// New time to live. `None`: as before.
    pub ttl: Option<Duration>,
}

impl Operation for RenewPermit {
    fn name(&self) -> &'static str {
        "renew_permit"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Resource(self.token.key())]
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let keys = expect_permit(overlay, self.namespace, self.token)?;
        self.write_with_resource(overlay, &keys);
        let mut granted = Vec::with_capacity(keys.len());
        for key in keys {
            let resource = overlay.resource(key).ok_or(Refusal::PermitLost)?;
            granted.push(self.renew(overlay, &resource).ok_or(Refusal::PermitLost)?);
        }
        Ok(Reply { permit: Some(PermitReply::Granted(granted)), applied: true, ..Reply::default() })
    }
}

impl RenewPermit {
    /// Writes the resource too, if the permit's row alone cannot store the renewal: it lasts longer than ever before, or
    /// the clock stepped back.
    fn write_with_resource(&self, overlay: &mut Overlay, keys: &[ResourceKey]) {
        let mut tx = ResourceTx::new(overlay, self.namespace);
        let now = tx.now;
        for key in keys {
            let found = tx.overlay.resource(*key);
            let is_longer = |permit: &Arc<Permit>| self.ttl.is_some_and(|ttl| ttl > permit.longest());
            let longer =
                found.as_ref().and_then(|resource| resource.held_permit(&self.token.id)).cloned().filter(is_longer);
            if longer.is_none() && found.is_none_or(|resource| !resource.is_ahead(now)) {
                continue;
            }
            let Some(resource) = tx.get(*key) else { continue };
            if let (Some(permit), Some(renewed_for)) = (longer, self.ttl) {
                let expires_at = resource.held_permit(&permit.id).and_then(|permit| permit.expires_at);
                let permit = Permit { renewed_for, expires_at, ..Permit::clone(&permit) };
                resource.permits.insert(permit.id, permit.into());
                tx.mark_changed(*key);
            }
        }
        tx.finish();
    }

    fn renew(&self, overlay: &mut Overlay, resource: &Resource) -> Option<Granted> {
        let permit = resource.held_permit(&self.token.id)?;
        let ttl = self.ttl.unwrap_or(permit.ttl);
        let end = overlay.now().after(ttl);
        let mut expires_at = permit.expires_at;
        // A permit is written at most three times per time to live: not while more than two thirds of it remain.
        if expires_at.is_some_and(|at| at < end && (self.ttl.is_some() || overlay.now().until(at) < ttl * 2 / 3)) {
            expires_at = Some(end);
            let mut renewed = resource.clone();
            renewed.permits.insert(permit.id, Permit { expires_at, ..Permit::clone(permit) }.into());
            overlay.put_resource(renewed);
        }
        let fencing_token = permit.fencing_token;
        Some(Granted { key: resource.key, resource: resource.name.clone(), fencing_token, expires_at })
    }
}
