//! The key ring as an aggregate: the credentials are below it. There is one, which is always there.

use super::key_ring::KeyRing;
use crate::domain::aggregate::Aggregate;
use crate::domain::id::NamespaceId;
use crate::domain::time::Timestamp;

impl Aggregate for KeyRing {
    type Key = ();
    type Effects = ();

    fn namespace((): &()) -> Option<NamespaceId> {
        None
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn create_time(&self) -> Timestamp {
        Timestamp(0)
    }

    fn weight_bytes(&self) -> usize {
        KeyRing::weight_bytes(self)
    }
}
