//! Namespaces in the overlay.

use std::sync::Arc;

use super::{Key, NamespaceChange, Overlay};
use crate::domain::id::{Name, NamespaceId};
use crate::domain::namespace::Namespace;

impl Overlay {
    /// A namespace.
    pub fn namespace(&mut self, id: NamespaceId) -> Option<Arc<Namespace>> {
        self.savepoint.trace.read.push(Key::Namespace(id));
        if !self.loaded.namespaces.contains_key(&id) {
            self.savepoint.trace.unloaded.push(Key::Namespace(id));
        }
        if self.namespaces.get(&id) == Some(&NamespaceChange::Delete) {
            return None;
        }
        self.loaded.namespaces.get(&id).cloned().flatten()
    }

    /// Whether a namespace is there; what is put into it proves so by itself.
    pub fn has_namespace(&self, id: NamespaceId) -> bool {
        let is_deleted = self.namespaces.get(&id) == Some(&NamespaceChange::Delete);
        !is_deleted && self.loaded.namespaces.get(&id).is_some_and(Option::is_some)
    }

    /// Changes a namespace.
    pub fn change_namespace(&mut self, id: NamespaceId, effect: NamespaceChange) {
        self.savepoint.trace.written.push(Key::Namespace(id));
        self.savepoint.namespaces.push((id, effect));
    }

    /// A namespace by name; unlike that by number it is never taken from the cache.
    pub fn namespace_named(&mut self, name: &Name) -> Option<Arc<Namespace>> {
        self.savepoint.trace.read.push(Key::NamespaceName(name.clone()));
        let namespace = self.loaded.names.get(name).cloned().flatten()?;
        (self.namespaces.get(&namespace.id) != Some(&NamespaceChange::Delete)).then_some(namespace)
    }

    /// Whether this group creates a namespace of this name.
    pub fn creates_namespace(&self, name: &Name) -> bool {
        self.created.contains(name)
    }

    /// Creates a namespace.
    pub fn create_namespace(&mut self, name: Name) {
        self.savepoint.trace.written.push(Key::NamespaceName(name.clone()));
        self.savepoint.names.push(name);
    }
}
