//! A namespace: whose jobs they are. The row also carries the floor below which no fencing token is issued again.

use super::id::{Name, NamespaceId};
use super::time::Timestamp;

/// One namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its number in all keys.
    pub id: NamespaceId,
    /// Its name in metadata.
    pub name: Name,
    /// Grows by one with each change of the row.
    pub version: i64,
    /// Stages that are created under a name a deleted job may have used start their fencing tokens above this.
    pub fencing_floor: i64,
    /// Whether it held anything but idle locks when it was loaded; only its deletion asks, and proves it again.
    pub holds_anything: bool,
    /// When it was created.
    pub create_time: Timestamp,
}
