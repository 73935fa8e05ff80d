//! Records in an overlay. A record's row is written once, as the group leaves it, so a record may be deleted and created again within a
//! group.

use std::sync::Arc;

use super::Overlay;
use crate::domain::record::{Record, RecordKey};

impl Overlay {
    /// A record. None: there is none, or it was not loaded.
    pub fn record(&mut self, key: &RecordKey) -> Option<Arc<Record>> {
        self.read(key)
    }

    /// Writes a new or changed record.
    pub fn put_record(&mut self, record: Arc<Record>) {
        self.write(record.key.clone(), Some(record), ());
    }

    pub fn delete_record(&mut self, key: &RecordKey) {
        self.write::<Record>(key.clone(), None, ());
    }
}
