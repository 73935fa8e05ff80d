//! Changes of a resource by operators: policy, breaker reset, deletion.

use std::sync::Arc;

use super::resource_tx::ResourceTx;
use crate::domain::audit::AuditEntry;
use crate::domain::id::Name;
use crate::domain::permit::ResourceKey;
use crate::domain::permit::policy::Policy;
use crate::domain::permit::resource::{Reset, Resource};
use crate::domain::permit::wait_queue::StageWakeUp;
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, NamespaceChange, Overlay};
use crate::operation::{Operation, Reply};

/// ResourceChange of a resource.
#[derive(Debug)]
pub enum ResourceChange {
    /// Sets the policy. `None`: makes it a lock.
    SetPolicy(Option<Arc<Policy>>),
    /// Closes the circuit breaker.
    ResetBreaker {
        /// Operator, as named in the request.
        requester: Name,
        /// Reason, as given in the request.
        reason: String,
    },
    /// Deletes the resource, if it is not in use.
    Delete,
    /// Deletes the resource if it is a lock, after it was not used for a day.
    Forget,
}

/// Applies a change to one resource.
#[derive(Debug)]
pub struct ChangeResource {
    /// Key of the resource.
    pub key: ResourceKey,
    /// Name of the resource. Empty: only an existing resource can be changed.
    pub resource: Name,
    /// The change to apply.
    pub change: ResourceChange,
    /// Version that the caller expects. 0: the resource is expected to be missing. `None`: any.
    pub expected_version: Option<i64>,
    /// Identity of the request. `None`: the caller gave no `request_id`.
    pub request: Option<RequestIdentity>,
}

impl ChangeResource {
    fn existing(&self, overlay: &mut Overlay) -> Result<Arc<Resource>, Refusal> {
        let resource = overlay.resource(self.key);
        let resource = resource.ok_or_else(|| Refusal::ResourceNotFound { name: self.resource.to_string() })?;
        expect_version(resource.version, self.expected_version)?;
        Ok(resource)
    }

    fn set_policy(&self, overlay: &mut Overlay, policy: Option<&Arc<Policy>>) -> Result<Reply, Refusal> {
        if !overlay.has_namespace(self.key.namespace) {
            return Err(Refusal::NamespaceNotFound { name: String::new() });
        }
        let mut tx = ResourceTx::new(overlay, self.key.namespace);
        let now = tx.now;
        let resource = tx.get_or_new(&self.resource);
        expect_version(resource.version, self.expected_version)?;
        // A lock that was never used gets a row when it is set explicitly.
        if resource.version == 0 || resource.policy.as_deref() != policy.map(|policy| &**policy) {
            resource.set_policy(policy.cloned(), now);
            // Under the new policy stages may get what was not available before.
            if let Some(stages) = &mut resource.state.stages {
                stages.wake = StageWakeUp::None;
            }
            tx.mark_changed(self.key);
        }
        let applied = tx.finish();
        Ok(self.blockers(overlay, applied))
    }

    fn reset_breaker(&self, overlay: &mut Overlay, requester: &Name, reason: &str) -> Result<Reply, Refusal> {
        self.existing(overlay)?;
        let mut tx = ResourceTx::new(overlay, self.key.namespace);
        let now = tx.now;
        let resource = tx.get_or_new(&self.resource);
        let from = resource.breaker_phase(now);
        let reset = Reset { at: now, requester: requester.clone(), reason: reason.to_owned(), from };
        if !resource.reset_breaker(reset) {
            let what = format!("resource {:?}", self.resource);
            return Err(Refusal::InvalidTransition { what, state: "without a breaker", why: "none can be closed" });
        }
        tx.mark_changed(self.key);
        let applied = tx.finish();
        Ok(self.blockers(overlay, applied))
    }

    /// Deletes the resource and raises the fencing floor of the namespace to its newest fencing token.
    fn delete(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let resource = self.existing(overlay)?;
        // Late holders do not prevent the deletion.
        let mut tx = ResourceTx::new(overlay, self.key.namespace);
        tx.expire(self.key, true);
        let held = tx.get(self.key).map_or(0, |resource| resource.held());
        if held > 0 || resource.is_awaited() {
            return Err(Refusal::ResourceInUse { name: resource.name.to_string() });
        }
        overlay.delete_resource(self.key);
        let (namespace, highest) = (self.key.namespace, resource.fencing_token);
        if overlay.namespace(namespace).is_some_and(|namespace| namespace.fencing_floor < highest) {
            overlay.change_namespace(namespace, NamespaceChange::RaiseFloor(highest));
        }
        Ok(Reply { resource: Some(resource), applied: true, ..Reply::default() })
    }

    fn blockers(&self, overlay: &mut Overlay, applied: bool) -> Reply {
        Reply { resource: overlay.resource(self.key), applied, ..Reply::default() }
    }
}

impl Operation for ChangeResource {
    fn name(&self) -> &'static str {
        match self.change {
            ResourceChange::SetPolicy(_) => "update_resource",
            ResourceChange::ResetBreaker { .. } => "reset_breaker",
            ResourceChange::Delete => "delete_resource",
            ResourceChange::Forget => "forget_resource",
        }
    }

    fn audit(&self) -> Option<AuditEntry> {
        let entry = |method| AuditEntry::new(method, &self.resource).within(self.key.namespace);
        match &self.change {
            ResourceChange::SetPolicy(policy) => {
                let policy = policy.as_ref().and_then(|policy| serde_json::to_value(&**policy).ok());
                Some(entry("PermitService/UpdateResource").with("policy", policy))
            }
            ResourceChange::ResetBreaker { requester, reason } => Some(
                entry("PermitService/ResetBreaker").with("requester", &**requester).with("reason", reason.as_str()),
            ),
            ResourceChange::Delete => Some(entry("PermitService/DeleteResource")),
            ResourceChange::Forget => None,
        }
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Resource(self.key), Key::Namespace(self.key.namespace)]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn is_urgent(&self) -> bool {
        // Operators make few calls, and need them most under load.
        matches!(self.change, ResourceChange::SetPolicy(_) | ResourceChange::ResetBreaker { .. })
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        match &self.change {
            ResourceChange::SetPolicy(policy) => self.set_policy(overlay, policy.as_ref()),
            ResourceChange::ResetBreaker { requester, reason } => self.reset_breaker(overlay, requester, reason),
            ResourceChange::Delete => self.delete(overlay),
            ResourceChange::Forget => match overlay.resource(self.key).filter(|resource| resource.policy.is_none()) {
                Some(_) => self.delete(overlay),
                None => Ok(Reply::default()),
            },
        }
    }
}
