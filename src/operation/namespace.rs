//! Creates and deletes namespaces.

use super::{Operation, Reply, Weight};
use crate::domain::audit::AuditEntry;
use crate::domain::id::{Name, NamespaceId};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::MAX_GROUP_ROWS;
use crate::operation::overlay::{Key, NamespaceChange, Overlay};

#[derive(Debug)]
pub struct CreateNamespace {
    pub name: Name,
    pub request: Option<RequestIdentity>,
}

impl Operation for CreateNamespace {
    fn name(&self) -> &'static str {
        "create_namespace"
    }

    fn audit(&self) -> Option<AuditEntry> {
        Some(AuditEntry::new("AdminService/CreateNamespace", &self.name))
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::NamespaceName(self.name.clone())]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        if overlay.namespace_named(&self.name).is_some() || overlay.creates_namespace(&self.name) {
            return Err(Refusal::NamespaceAlreadyExists { name: self.name.to_string() });
        }
        overlay.create_namespace(self.name.clone());
        Ok(Reply { applied: true, ..Reply::default() })
    }
}

/// Deletes a namespace that has nothing in it but idle resources.
#[derive(Debug)]
pub struct DeleteNamespace {
    pub id: NamespaceId,
    pub name: Name,
    pub request: Option<RequestIdentity>,
}

impl Operation for DeleteNamespace {
    fn name(&self) -> &'static str {
        "delete_namespace"
    }

    fn audit(&self) -> Option<AuditEntry> {
        Some(AuditEntry::new("AdminService/DeleteNamespace", &self.name))
    }

    /// It may delete many idle resources, so it is committed alone.
    fn weight(&self) -> Weight {
        Weight { rows: MAX_GROUP_ROWS + 1, ..Weight::SMALL }
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Namespace(self.id), Key::NamespaceName(self.name.clone())]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let name = || self.name.to_string();
        // One created after the caller read it is another namespace, with a number that was not loaded.
        let namespace = overlay.namespace_named(&self.name).filter(|namespace| namespace.id == self.id);
        let namespace = namespace.ok_or_else(|| Refusal::NamespaceNotFound { name: name() })?;
        if namespace.holds_anything {
            let why = "it holds jobs, records, sessions, resources with a policy, permits or waiters";
            return Err(Refusal::NamespaceInUse { name: name(), why });
        }
        overlay.change_namespace(self.id, NamespaceChange::Delete);
        Ok(Reply { applied: true, ..Reply::default() })
    }
}
