//! Somebody stops waiting: its time is up, or it has gone.

use std::cmp::Reverse;

use uuid::Uuid;

use super::desk::{Desk, told};
use super::{PermitReply, keys};
use crate::domain::id::NamespaceId;
use crate::domain::permit::{Claim, Granted, Outcome, Permit, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::operation::overlay::{Key, Overlay};
use crate::operation::permits::release::unbind;
use crate::operation::{Operation, Reply};

/// Takes a waiter out of its lines. What it was granted meanwhile it keeps, or gives back if it has gone.
#[derive(Debug)]
pub struct EndWait {
    /// The caller's namespace.
    pub namespace: NamespaceId,
    /// The permit it waits for.
    pub id: Uuid,
    /// What it asked for.
    pub claims: Vec<Claim>,
    /// What becomes of a permit that it was granted meanwhile.
    pub granted: WhenGranted,
}

/// What becomes of a permit that somebody was granted who stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenGranted {
    /// It is wanted, and is made to last as long as was asked for.
    Take,
    /// It stays as it is: somebody will ask for it again.
    Leave,
    /// Nobody wants it any more.
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
        let mut desk = Desk::new(overlay, self.namespace);
        let now = desk.now;
        let mut granted = Vec::new();
        let mut bound = None;
        // What was lost at one of its resources meanwhile is no permit any more.
        let mut holds = |claim: &Claim| {
            let resource = desk.get(ResourceKey::of(self.namespace, &claim.resource));
            resource.is_some_and(|resource| resource.held_permit(&self.id).is_some())
        };
        let is_whole = self.claims.iter().all(&mut holds);
        for claim in &self.claims {
            let key = ResourceKey::of(self.namespace, &claim.resource);
            let Some(resource) = desk.get(key) else { continue };
            let waits = resource.line.values().find(|waiter| waiter.id == self.id).cloned();
            if let Some(waiter) = waits {
                desk.leave(&waiter);
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
                resource.release(&self.id, Outcome::NEUTRAL, now);
            } else {
                // It may have been granted for a moment only, until somebody says that it is wanted.
                let kept = Permit { expires_at, ..Permit::clone(&permit) };
                resource.permits.insert(self.id, kept.into());
                granted.push(Granted { key, resource: name, fencing_token, expires_at });
            }
            desk.changed(key);
        }
        if granted.is_empty() {
            let blocked = desk.blocked(&self.claims, (Reverse(0), now, Uuid::max()), false);
            desk.close();
            unbind(overlay, self.namespace, bound, &self.id);
            return Ok(Reply { permit: Some(PermitReply::Denied(told(blocked))), ..Reply::default() });
        }
        desk.close();
        Ok(Reply { permit: Some(PermitReply::Granted(granted)), applied: true, ..Reply::default() })
    }
}
