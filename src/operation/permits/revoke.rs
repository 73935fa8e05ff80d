//! RevokePermit: an operator ends a held permit.

use std::sync::Arc;

use super::release::unbind;
use super::resource_tx::ResourceTx;
use crate::domain::audit::AuditEntry;
use crate::domain::id::Name;
use crate::domain::permit::resource::{Resource, Revocation};
use crate::domain::permit::{Permit, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};
use crate::operation::{Operation, Reply};

/// Revokes a permit at all of its resources. Waiters are served in the same commit.
#[derive(Debug)]
pub struct RevokePermit {
    /// Key of one of its resources.
    pub key: ResourceKey,
    /// Name of that resource.
    pub resource: Name,
    /// Fencing token of the permit at that resource.
    pub fencing_token: i64,
    /// Operator, as named in the request.
    pub requester: Name,
    /// Reason, as given in the request.
    pub reason: String,
    /// Identity of the request. `None`: the caller gave no `request_id`.
    pub request: Option<RequestIdentity>,
}

impl RevokePermit {
    /// The permit with the fencing token. `None`: it is not held any more.
    fn permit(&self, resource: &Resource) -> Result<Option<Arc<Permit>>, Refusal> {
        if self.fencing_token > resource.fencing_token {
            let why = format!("was never granted, the newest is {}", resource.fencing_token);
            return Err(Refusal::field("fencing_token".to_owned(), why));
        }
        let held = resource.held_permits().find(|permit| permit.fencing_token == self.fencing_token).cloned();
        if held.as_ref().is_some_and(|permit| permit.expires_at.is_none()) {
            let what = format!("permit {} of resource {:?}", self.fencing_token, self.resource);
            let why = "it ends with the attempt, which CancelJob ends";
            return Err(Refusal::InvalidTransition { what, state: "held by the attempt of a stage", why });
        }
        Ok(held)
    }
}

impl Operation for RevokePermit {
    fn name(&self) -> &'static str {
        "revoke_permit"
    }

    fn audit(&self) -> Option<AuditEntry> {
        let entry = AuditEntry::new("PermitService/RevokePermit", &self.resource).within(self.key.namespace);
        let entry = entry.with("fencing_token", self.fencing_token).with("requester", &*self.requester);
        Some(entry.with("reason", self.reason.as_str()))
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Resource(self.key), Key::Namespace(self.key.namespace)]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn is_urgent(&self) -> bool {
        // Operators make few calls, and need them most under load.
        true
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let not_found = || Refusal::ResourceNotFound { name: self.resource.to_string() };
        let resource = overlay.resource(self.key).ok_or_else(not_found)?;
        let Some(permit) = self.permit(&resource)? else {
            return Ok(Reply { resource: Some(resource), ..Reply::default() });
        };
        let mut tx = ResourceTx::new(overlay, self.key.namespace);
        let revocation = Revocation {
            at: tx.now,
            requester: self.requester.clone(),
            reason: self.reason.clone(),
            fencing_token: self.fencing_token,
            holder: permit.holder.clone(),
        };
        for key in permit.keys(self.key) {
            if tx.get(key).is_some_and(|resource| resource.revoke(&permit.id, &revocation)) {
                tx.mark_changed(key);
            }
        }
        tx.finish();
        unbind(overlay, self.key.namespace, permit.lease, &permit.id);
        Ok(Reply { resource: overlay.resource(self.key), applied: true, ..Reply::default() })
    }
}
