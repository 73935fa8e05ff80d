//! Resources in an overlay.

use std::sync::Arc;

use super::Overlay;
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;

impl Overlay {
    /// A resource. None: there is none, or it was not loaded.
    pub fn resource(&mut self, key: ResourceKey) -> Option<Arc<Resource>> {
        self.read(&key)
    }

    /// Writes a new or changed resource.
    pub fn put_resource(&mut self, resource: Resource) {
        // A resource that this group deletes is created again in the next one: its fencing tokens go on above a floor that is only raised
        // by this group.
        let resources = &self.tables.resources;
        let is_deleted = resources.change(&resource.key).is_some_and(|change| change.after.is_none());
        self.savepoint.access.needs_next_group |= is_deleted;
        self.write(resource.key, Some(Arc::new(resource)), ());
    }

    pub fn delete_resource(&mut self, key: ResourceKey) {
        self.write::<Resource>(key, None, ());
    }
}
