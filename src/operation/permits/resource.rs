//! What people do to a resource: set its rules, close its breaker, delete it.

use std::sync::Arc;

use super::desk::Desk;
use crate::domain::audit::AuditEntry;
use crate::domain::id::Name;
use crate::domain::permit::ResourceKey;
use crate::domain::permit::line::Wake;
use crate::domain::permit::policy::Policy;
use crate::domain::permit::resource::{Reset, Resource};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, NamespaceChange, Overlay};
use crate::operation::{Operation, Reply};

/// What shall happen.
#[derive(Debug)]
pub enum Change {
    /// Sets the rules; `None` for a lock.
    SetPolicy(Option<Arc<Policy>>),
    /// Closes the breaker.
    ResetBreaker {
        /// Who, by its own word.
        requester: Name,
        /// Why, by its own word.
        reason: String,
    },
    /// Removes it.
    Delete,
    /// Removes it, if it is a lock that nobody has used for long.
    Forget,
}

/// One of them, for one resource.
#[derive(Debug)]
pub struct ChangeResource {
    /// Which.
    pub key: ResourceKey,
    /// Its name; empty where only a resource that is there is meant.
    pub resource: Name,
    /// What shall happen.
    pub change: Change,
    /// The version that the caller knows; 0 if it is to be missing.
    pub expected_version: Option<i64>,
    /// The caller's `request_id`.
    pub request: Option<RequestIdentity>,
}

impl ChangeResource {
    fn existing(&self, overlay: &mut Overlay) -> Result<Arc<Resource>, Refusal> {
        let resource = overlay.resource(self.key);
        let resource = resource.ok_or_else(|| Refusal::ResourceNotFound { name: self.resource.to_string() })?;
        self.expect_version(resource.version)?;
        Ok(resource)
    }

    fn expect_version(&self, actual: i64) -> Result<(), Refusal> {
        match self.expected_version {
            Some(expected) if expected != actual => Err(Refusal::VersionMismatch { expected, actual }),
            Some(_) | None => Ok(()),
        }
    }

    fn set_policy(&self, overlay: &mut Overlay, policy: Option<&Arc<Policy>>) -> Result<Reply, Refusal> {
        if !overlay.has_namespace(self.key.namespace) {
            return Err(Refusal::NamespaceNotFound { name: String::new() });
        }
        let mut desk = Desk::new(overlay, self.key.namespace);
        let now = desk.now;
        let resource = desk.get_or_new(&self.resource);
        self.expect_version(resource.version)?;
        // A lock that was never used is worth a row as soon as somebody says that it is one.
        if resource.version == 0 || resource.policy.as_deref() != policy.map(|policy| &**policy) {
            resource.set_policy(policy.cloned(), now);
            // What the stages could not have before they may have now.
            if let Some(stages) = &mut resource.state.stages {
                stages.wake = Wake::None;
            }
            desk.changed(self.key);
        }
        let applied = desk.close();
        Ok(self.told(overlay, applied))
    }

    fn reset_breaker(&self, overlay: &mut Overlay, requester: &Name, reason: &str) -> Result<Reply, Refusal> {
        self.existing(overlay)?;
        let mut desk = Desk::new(overlay, self.key.namespace);
        let now = desk.now;
        let resource = desk.get_or_new(&self.resource);
        let from = resource.breaker_phase(now);
        let reset = Reset { at: now, requester: requester.clone(), reason: reason.to_owned(), from };
        if !resource.reset_breaker(reset) {
            let what = format!("resource {:?}", self.resource);
            return Err(Refusal::InvalidTransition { what, state: "without a breaker", why: "none can be closed" });
        }
        desk.changed(self.key);
        let applied = desk.close();
        Ok(self.told(overlay, applied))
    }

    /// Its numbers go on above the floor of its namespace.
    fn delete(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let resource = self.existing(overlay)?;
        // Holders who are late are in nobody's way.
        let mut desk = Desk::new(overlay, self.key.namespace);
        desk.expire(self.key, true);
        let held = desk.get(self.key).map_or(0, |resource| resource.held());
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

    fn told(&self, overlay: &mut Overlay, applied: bool) -> Reply {
        Reply { resource: overlay.resource(self.key), applied, ..Reply::default() }
    }
}

impl Operation for ChangeResource {
    fn name(&self) -> &'static str {
        match self.change {
            Change::SetPolicy(_) => "update_resource",
            Change::ResetBreaker { .. } => "reset_breaker",
            Change::Delete => "delete_resource",
            Change::Forget => "forget_resource",
        }
    }

    fn audit(&self) -> Option<AuditEntry> {
        let entry = |method| AuditEntry::new(method, &self.resource).within(self.key.namespace);
        match &self.change {
            Change::SetPolicy(policy) => {
                let policy = policy.as_ref().and_then(|policy| serde_json::to_value(&**policy).ok());
                Some(entry("PermitService/UpdateResource").with("policy", policy))
            }
            Change::ResetBreaker { requester, reason } => Some(
                entry("PermitService/ResetBreaker").with("requester", &**requester).with("reason", reason.as_str()),
            ),
            Change::Delete => Some(entry("PermitService/DeleteResource")),
            Change::Forget => None,
        }
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Resource(self.key), Key::Namespace(self.key.namespace)]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn is_urgent(&self) -> bool {
        // An operator's calls are few, and matter most under load.
        matches!(self.change, Change::SetPolicy(_) | Change::ResetBreaker { .. })
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        match &self.change {
            Change::SetPolicy(policy) => self.set_policy(overlay, policy.as_ref()),
            Change::ResetBreaker { requester, reason } => self.reset_breaker(overlay, requester, reason),
            Change::Delete => self.delete(overlay),
            Change::Forget => match overlay.resource(self.key).filter(|resource| resource.policy.is_none()) {
                Some(_) => self.delete(overlay),
                None => Ok(Reply::default()),
            },
        }
    }
}
