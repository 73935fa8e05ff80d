//! The end of a wait: its time is over, or the caller has disconnected.

use std::cmp::Reverse;

use uuid::Uuid;

use super::resource_tx::{ResourceTx, blockers};
use super::{PermitReply, keys};
use crate::domain::id::NamespaceId;
use crate::domain::permit::{Granted, Permit, PermitClaim, PermitOutcome, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::operation::overlay::{Key, Overlay};
use crate::operation::permits::release::unbind;
use crate::operation::{Operation, Reply};

/// Removes a waiter from its queues. A permit that it was granted meanwhile is kept or released.
#[derive(Debug)]
pub struct EndWait {
    /// Namespace of the call.
    pub namespace: NamespaceId,
    /// Id of the permit that it waits for.
    pub id: Uuid,
    /// Claims of the request.
    pub claims: Vec<PermitClaim>,
    /// What happens to a permit that it was granted meanwhile.
    pub granted: WhenGranted,
}

/// What happens to a permit that was granted before the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenGranted {
    /// The caller takes it: its time to live starts now.
    Take,
    /// It is left as it is: the caller will ask for it again.
    Leave,
    /// It is released with a neutral outcome.
    Release,
}

impl Operation for EndWait {
    fn name(&self) -> &'static str {
        "end_wait"
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys = keys(self.namespace, self.claims.iter().map(|claim| &*claim.resource));
        keys.push(Key::Namespace(self.namespace));
        keys
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let mut tx = ResourceTx::new(overlay, self.namespace);
        let now = tx.now;
        let mut granted = Vec::new();
        let mut bound = None;
        // A permit that was lost at one of its resources is not valid any more.
        let mut holds = |claim: &PermitClaim| {
            let resource = tx.get(ResourceKey::of(self.namespace, &claim.resource));
            resource.is_some_and(|resource| resource.held_permit(&self.id).is_some())
        };
        let is_whole = self.claims.iter().all(&mut holds);
        for claim in &self.claims {
            let key = ResourceKey::of(self.namespace, &claim.resource);
            let Some(resource) = tx.get(key) else { continue };
            let waits = resource.wait_queue.values().find(|waiter| waiter.id == self.id).cloned();
            if let Some(waiter) = waits {
                tx.dequeue(&waiter);
                continue;
            }
            let Some(permit) = resource.held_permit(&self.id).cloned() else { continue };
            if self.granted == WhenGranted::Leave {
                continue;
            }
            let expires_at = permit.expires_at.max(Some(now.after(permit.ttl)));
            let (name, fencing_token) = (resource.name.clone(), permit.fencing_token);
            if self.granted == WhenGranted::Release || !is_whole {
                bound = permit.lease;
                resource.release(&self.id, PermitOutcome::NEUTRAL, now);
            } else {
                // It may have been granted for a short time only, until the caller takes it.
                let kept = Permit { expires_at, ..Permit::clone(&permit) };
                resource.permits.insert(self.id, kept.into());
                granted.push(Granted { key, resource: name, fencing_token, expires_at });
            }
            tx.mark_changed(key);
        }
        if granted.is_empty() {
            let blocked = tx.find_blocks(&self.claims, (Reverse(0), now, Uuid::max()), false);
            tx.finish();
            unbind(overlay, self.namespace, bound, &self.id);
            return Ok(Reply { permit: Some(PermitReply::Denied(blockers(blocked))), ..Reply::default() });
        }
        tx.finish();
        Ok(Reply { permit: Some(PermitReply::Granted(granted)), applied: true, ..Reply::default() })
    }
}
