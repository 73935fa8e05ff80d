//! The rows of a changed record: the difference between the record as it was loaded and as it was decided, one net effect per row.

use crate::domain::fields::Field;
use crate::domain::record::{Record, RecordKey};
use crate::store::commit::CommitMode;
use crate::store::commit::columns::*;
use crate::store::commit::plan::Plan;
use crate::store::pg::types::JsonText;
use crate::store::record::fields_text;

/// Values up to this size stand in the record's own row, in bytes as JSON. Larger ones have a row each, so that a change of
/// another field does not write them again.
const INLINE_BYTES: usize = 256;

impl Plan {
    /// Writes a record that is new (`base` is `None`), changed or deleted (`after` is `None`).
    pub fn write_record(&mut self, c: i32, key: &RecordKey, base: Option<&Record>, after: Option<&Record>) {
        match (base, after) {
            (None, None) => return self.check_absent_records.push(id(c, key)),
            (None, Some(after)) => {
                self.check_absent_records.push(id(c, key));
                self.insert_records.push(row(c, after));
            }
            (Some(base), Some(after)) => {
                if self.mode == CommitMode::PerComponent {
                    self.lock_records.push(root(c, base));
                }
                self.update_records.push(changed(c, base, after));
            }
            (Some(base), None) => {
                self.lock_records.push(root(c, base));
                self.delete_records.push(id(c, key));
            }
        }
        self.write_values(c, key, base, after);
    }

    /// One row for each large value that is new, changed or gone.
    fn write_values(&mut self, c: i32, key: &RecordKey, base: Option<&Record>, after: Option<&Record>) {
        let namespace_id = key.namespace.0;
        let (collection, record_id) = (&key.collection, &key.record_id);
        let before = |name| base.and_then(|base| base.fields.get(name)).filter(|field| is_apart(field));
        for (name, field) in
            after.into_iter().flat_map(|after| after.fields.iter()).filter(|(_, field)| is_apart(field))
        {
            if before(name).is_none_or(|before| before.value != field.value) {
                self.set_record_values.push(RecordValue {
                    c,
                    namespace_id,
                    collection: collection.clone(),
                    record_id: record_id.clone(),
                    field: name.clone(),
                    value: JsonText(field.value.as_str().into()),
                });
            }
        }
        for (name, _) in base.into_iter().flat_map(|base| base.fields.iter()).filter(|(_, field)| is_apart(field)) {
            if after.and_then(|after| after.fields.get(name)).is_none_or(|field| !is_apart(field)) {
                self.clear_record_values.push(RecordField {
                    c,
                    namespace_id,
                    collection: collection.clone(),
                    record_id: record_id.clone(),
                    field: name.clone(),
                });
            }
        }
    }

    /// Checks that a record has the version that was read, or still does not exist.
    pub fn check_record(&mut self, c: i32, key: &RecordKey, base: Option<&Record>) {
        match base {
            Some(base) => self.check_version_records.push(root(c, base)),
            None => self.check_absent_records.push(id(c, key)),
        }
    }

    /// Checks the same, and keeps an existing record from changing until the group is committed.
    pub fn share_lock_record(&mut self, c: i32, key: &RecordKey, base: Option<&Record>) {
        match base {
            Some(base) => self.share_lock_records.push(root(c, base)),
            None => self.check_absent_records.push(id(c, key)),
        }
    }
}

fn is_apart(field: &Field) -> bool {
    field.value.len() > INLINE_BYTES
}

fn apart(record: &Record) -> usize {
    record.fields.values().filter(|field| is_apart(field)).count()
}

fn id(c: i32, key: &RecordKey) -> RecordId {
    let (collection, record_id) = (key.collection.clone(), key.record_id.clone());
    RecordId { c, namespace_id: key.namespace.0, collection, record_id }
}

fn root(c: i32, base: &Record) -> RecordVersion {
    let (collection, record_id) = (base.key.collection.clone(), base.key.record_id.clone());
    let (namespace_id, version, create_time) = (base.key.namespace.0, base.version, base.create_time);
    RecordVersion { c, namespace_id, collection, record_id, version, create_time }
}

fn row(c: i32, record: &Record) -> RecordRow {
    RecordRow {
        c,
        namespace_id: record.key.namespace.0,
        collection: record.key.collection.clone(),
        record_id: record.key.record_id.clone(),
        version: record.version,
        fields: fields_text::text(record.fields.iter(), is_apart),
        apart: i32::try_from(apart(record)).expect("a record has at most 1,000 fields"),
        create_time: record.create_time,
        update_time: record.update_time,
    }
}

fn changed(c: i32, base: &Record, after: &Record) -> ChangedRecord {
    let RecordRow { namespace_id, collection, record_id, version, fields, apart, create_time, update_time, .. } =
        row(c, after);
    ChangedRecord {
        c,
        namespace_id,
        collection,
        record_id,
        version,
        fields,
        apart: (apart > 0).then_some(apart),
        create_time,
        update_time,
        replaced_version: base.version,
        replaced_create_time: (base.create_time != create_time).then_some(base.create_time),
    }
}
