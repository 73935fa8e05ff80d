//! A namespace: keys of jobs, records and resources are unique within it. Its row carries the floor of fencing tokens.

use super::id::{Name, NamespaceId};
use super::time::Timestamp;

/// A namespace as it is stored.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Number of the namespace in all keys.
    pub id: NamespaceId,
    /// Name, as callers send it in metadata.
    pub name: Name,
    /// Grows by one with each change of the row.
    pub version: i64,
    /// Highest fencing token that a deleted job or resource may have used. Stages and resources created later start above it.
    pub fencing_floor: i64,
    /// Whether it held anything but idle locks when it was loaded. Read only by the deletion of the namespace, which checks
    /// it again at commit.
    pub holds_anything: bool,
    /// When it was created.
    pub create_time: Timestamp,
}
