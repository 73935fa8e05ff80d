//! Changes fields of one record or of many, all or nothing. Each update is a change of its own: a record that is named twice gets
//! two versions.

use std::sync::Arc;

use super::{Operation, RecordOutcome, Reply, Weight};
use crate::domain::field_op::FieldOp;
use crate::domain::record::{Record, RecordKey};
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};

/// About the size, in bytes, from which a value has a row of its own.
const LARGE_BYTES: usize = 256;

/// One update of one record.
#[derive(Debug)]
pub struct RecordUpdate {
    pub key: RecordKey,
    /// Operations on its fields, in order.
    pub operations: Vec<FieldOp>,
    /// The version the record must have; 0: it must not exist. None: any.
    pub expected_version: Option<i64>,
    /// Whether the record is created if it does not exist.
    pub allow_missing: bool,
}

#[derive(Debug)]
pub struct UpdateRecords {
    pub updates: Vec<RecordUpdate>,
    /// The field of the request that holds the batch; a refusal names it with the position. None: the request has one update.
    pub list: Option<&'static str>,
    pub request: Option<RequestIdentity>,
}

impl RecordUpdate {
    fn weight(&self) -> Weight {
        let bytes = |operation: &FieldOp| operation.field.len() + operation.change.bytes();
        let large = self.operations.iter().filter(|operation| operation.change.bytes() > LARGE_BYTES).count();
        Weight { rows: 2 + large, bytes: 256 + self.operations.iter().map(bytes).sum::<usize>() }
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<RecordOutcome, Refusal> {
        let now = overlay.now();
        let base = match overlay.record(&self.key) {
            Some(record) => record,
            None if !self.allow_missing => return Err(not_found(&self.key)),
            None if !overlay.has_namespace(self.key.namespace) => {
                return Err(Refusal::NamespaceNotFound { name: String::new() });
            }
            None => Arc::new(Record::new(self.key.clone(), now)),
        };
        expect_version(base.version, self.expected_version)?;
        match Record::apply(&base, &self.operations, base.version + 1, now, "operations")? {
            Some(record) => {
                let record = Arc::new(record);
                overlay.put_record(record.clone());
                Ok(RecordOutcome { record, applied: true })
            }
            None => Ok(RecordOutcome { record: base, applied: false }),
        }
    }
}

/// The refusal for a record that does not exist.
pub(super) fn not_found(key: &RecordKey) -> Refusal {
    Refusal::RecordNotFound { collection: key.collection.to_string(), record_id: key.record_id.to_string() }
}

impl Operation for UpdateRecords {
    fn name(&self) -> &'static str {
        "update_records"
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.updates.iter().map(|update| Key::Record(update.key.clone())).collect();
        let creates = self.updates.iter().find(|update| update.allow_missing);
        keys.extend(creates.map(|update| Key::Namespace(update.key.namespace)));
        keys
    }

    fn weight(&self) -> Weight {
        self.updates.iter().map(RecordUpdate::weight).fold(Weight { rows: 0, bytes: 0 }, Weight::plus)
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let mut reply = Reply::default();
        for (index, update) in self.updates.iter().enumerate() {
            let outcome = update.decide(overlay).map_err(|refusal| match self.list {
                Some(list) => refusal.at(index, format!("{list}[{index}]")),
                None => refusal,
            })?;
            reply.applied |= outcome.applied;
            reply.records.push(outcome);
        }
        Ok(reply)
    }
}
