//! A record as an aggregate: its large values are below it.

use super::{Record, RecordKey};
use crate::domain::aggregate::Aggregate;
use crate::domain::id::NamespaceId;
use crate::domain::time::Timestamp;

impl Aggregate for Record {
    type Key = RecordKey;
    type Effects = ();

    fn namespace(key: &RecordKey) -> Option<NamespaceId> {
        Some(key.namespace)
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn create_time(&self) -> Timestamp {
        self.create_time
    }

    fn weight_bytes(&self) -> usize {
        Record::weight_bytes(self)
    }
}
