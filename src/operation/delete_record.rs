//! Deletes a record, at the version that the caller expects if it names one.

use super::update_records::not_found;
use super::{Operation, RecordOutcome, Reply};
use crate::domain::record::RecordKey;
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};

#[derive(Debug)]
pub struct DeleteRecord {
    pub key: RecordKey,
    /// The version the record must have. None: any.
    pub expected_version: Option<i64>,
    pub request: Option<RequestIdentity>,
}

impl Operation for DeleteRecord {
    fn name(&self) -> &'static str {
        "delete_record"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Record(self.key.clone())]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let record = overlay.record(&self.key).ok_or_else(|| not_found(&self.key))?;
        expect_version(record.version, self.expected_version)?;
        overlay.delete_record(&self.key);
        Ok(Reply { records: vec![RecordOutcome { record, applied: true }], applied: true, ..Reply::default() })
    }
}
