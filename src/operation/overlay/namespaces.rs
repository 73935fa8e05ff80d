//! Namespaces in an overlay.

use std::sync::Arc;

use super::key::Key;
use super::{NamespaceChange, Overlay};
use crate::domain::id::{Name, NamespaceId};
use crate::domain::namespace::Namespace;

impl Overlay {
    /// A namespace. None: there is none, or it was not loaded.
    pub fn namespace(&mut self, id: NamespaceId) -> Option<Arc<Namespace>> {
        self.savepoint.access.read.push(Key::Namespace(id));
        if !self.loaded.namespaces.contains_key(&id) {
            self.savepoint.access.unloaded.push(Key::Namespace(id));
        }
        self.loaded.namespaces.get(&id).cloned().flatten().filter(|_| !self.deletes_namespace(id))
    }

    /// Whether there is a namespace. Not noted as read: what is created in a namespace checks it in any case.
    pub fn has_namespace(&self, id: NamespaceId) -> bool {
        !self.deletes_namespace(id) && self.loaded.namespaces.get(&id).is_some_and(Option::is_some)
    }

    /// The name of a namespace, for the audit log. None: it was not loaded. Not noted as read: a name never changes.
    pub fn namespace_name(&self, id: NamespaceId) -> Option<Name> {
        self.loaded.namespaces.get(&id)?.as_ref().map(|namespace| namespace.name.clone())
    }

    /// A namespace by name, which is always read from the database. None: there is none.
    pub fn namespace_named(&mut self, name: &Name) -> Option<Arc<Namespace>> {
        self.savepoint.access.read.push(Key::NamespaceName(name.clone()));
        let namespace = self.loaded.names.get(name).cloned().flatten()?;
        (!self.deletes_namespace(namespace.id)).then_some(namespace)
    }

    /// Whether this group creates a namespace of this name.
    pub fn creates_namespace(&self, name: &Name) -> bool {
        self.created.contains(name)
    }

    pub fn change_namespace(&mut self, id: NamespaceId, change: NamespaceChange) {
        self.savepoint.access.written.push(Key::Namespace(id));
        self.savepoint.namespaces.push((id, change));
    }

    pub fn create_namespace(&mut self, name: Name) {
        self.savepoint.access.written.push(Key::NamespaceName(name.clone()));
        self.savepoint.names.push(name);
    }

    /// Adds the change of an applied operation to those of the group. Of two floors the higher one stays, else the later change.
    pub(super) fn merge_namespace(&mut self, id: NamespaceId, change: NamespaceChange) {
        let merged = self.namespaces.entry(id).or_insert_with(|| change.clone());
        match (&mut *merged, change) {
            (NamespaceChange::RaiseFloor(floor), NamespaceChange::RaiseFloor(other)) => *floor = (*floor).max(other),
            (merged, change) => *merged = change,
        }
    }

    fn deletes_namespace(&self, id: NamespaceId) -> bool {
        self.namespaces.get(&id) == Some(&NamespaceChange::Delete)
    }
}
