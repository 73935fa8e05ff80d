//! A resource as an aggregate: its permits and waiters are below it.

use super::ResourceKey;
use super::resource::Resource;
use crate::domain::aggregate::Aggregate;
use crate::domain::id::NamespaceId;
use crate::domain::time::Timestamp;

impl Aggregate for Resource {
    type Key = ResourceKey;
    type Effects = ();

    // Expiries of permits are extended without a new version.
    const HAS_UNVERSIONED_ROWS: bool = true;

    fn namespace(key: &ResourceKey) -> Option<NamespaceId> {
        Some(key.namespace)
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn create_time(&self) -> Timestamp {
        self.create_time
    }

    fn weight_bytes(&self) -> usize {
        Resource::weight_bytes(self)
    }
}
