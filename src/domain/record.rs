//! A record: named fields, each with the version of its last change.
//!
//! **Invariants.** A record is within the limits below. `version` grows by one per change, and a changed field gets the record's version.
//! So a field never gets a version again that it had before, not even after it was removed and set again.

mod aggregate;

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;

use super::equality::equal;
use super::field_op::{FieldError, FieldOp};
use super::fields::{Field, Fields};
use super::id::{JobKey, NamespaceId};
use super::json::Json;
use super::refusal::Refusal;
use super::short::Short;
use super::time::Timestamp;

/// Maximum number of fields of a record.
pub const MAX_FIELDS: usize = 1_000;
/// Maximum size of a field's value, in bytes of JSON.
pub const MAX_FIELD_BYTES: usize = 64 * 1024;
/// Maximum size of all fields of a record: bytes of names and values, and four more for each field.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// Maximum size of the context of a job, counted as for a record.
pub const MAX_CONTEXT_BYTES: usize = 64 * 1024;
/// Bytes of the quotes, colon and comma around a field.
const FIELD_OVERHEAD: usize = 4;

/// Key of a record. It stores its hash, since it is looked up about a dozen times while a group is decided and committed.
#[derive(Clone, Debug)]
pub struct RecordKey {
    hash: u64,
    name: RecordName,
}

/// Namespace, collection and id of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordName {
    /// Namespace of the record.
    pub namespace: NamespaceId,
    /// Collection of the record. Empty: the context of a job, which callers cannot name.
    pub collection: Short,
    /// Id of the record in its collection.
    pub record_id: Short,
}

impl RecordKey {
    /// Makes the key of a record.
    pub fn new(namespace: NamespaceId, collection: Short, record_id: Short) -> Self {
        // Seeded at random, so that callers cannot choose names with colliding hashes.
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
        let name = RecordName { namespace, collection, record_id };
        Self { hash: SEED.hash_one(&name), name }
    }

    /// Key of the context of a job, which is a record that is deleted with the job.
    pub fn context(job: JobKey) -> Self {
        Self::new(job.namespace, "".into(), job.uid.to_string().into())
    }

    fn max_bytes(&self) -> usize {
        if self.collection.is_empty() { MAX_CONTEXT_BYTES } else { MAX_RECORD_BYTES }
    }
}

impl Deref for RecordKey {
    type Target = RecordName;

    fn deref(&self) -> &RecordName {
        &self.name
    }
}

impl PartialEq for RecordKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.name == other.name
    }
}

impl Eq for RecordKey {}

impl PartialOrd for RecordKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RecordKey {
    /// The order of names. Rows are locked in this order, so it has to be the same on all servers.
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

impl Hash for RecordKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A record with its fields.
#[derive(Clone, Debug)]
pub struct Record {
    /// Key of the record.
    pub key: RecordKey,
    /// Fields by their name.
    pub fields: Fields,
    /// Version; grows by exactly one per committed change.
    pub version: i64,
    /// Size of all fields, counted as for [`MAX_RECORD_BYTES`]. Derived.
    pub bytes: usize,
    /// Time of the creation.
    pub create_time: Timestamp,
    /// Time of the last change.
    pub update_time: Timestamp,
}

impl Record {
    /// Makes an empty record at version 0, which is not stored.
    pub fn new(key: RecordKey, now: Timestamp) -> Self {
        Self { key, fields: Fields::default(), version: 0, bytes: 0, create_time: now, update_time: now }
    }

    /// Computes the derived size, after the fields were loaded.
    pub fn derive(&mut self) {
        self.bytes = self.fields.iter().map(|(name, field)| cost(name, &field.value)).sum();
    }

    /// Applies operations in order, all or none. `version` is the record's version afterwards; `path` is the request field that contains
    /// the operations, for errors. `None`: they change nothing.
    pub fn apply(
        base: &Arc<Record>,
        operations: &[FieldOp],
        version: i64,
        now: Timestamp,
        path: &str,
    ) -> Result<Option<Record>, Refusal> {
        for (i, operation) in operations.iter().enumerate() {
            let Some(expected) = operation.expected_version else { continue };
            let actual = base.fields.get(&operation.field).map_or(0, |field| field.version);
            if expected != actual {
                let (path, field) = (format!("{path}[{i}]"), operation.field.to_string());
                return Err(Refusal::FieldVersionMismatch { path, field, expected, actual });
            }
        }
        let mut record = Record::clone(base);
        for (i, operation) in operations.iter().enumerate() {
            record.apply_one(operation, version).map_err(|fault| fault.refusal(&format!("{path}[{i}]"), operation))?;
        }
        record.check_size(path)?;
        // A field that was changed and changed back keeps its version.
        let mut changed = base.version == 0;
        for operation in operations {
            let before = base.fields.get(&operation.field);
            match record.fields.get_mut(&operation.field) {
                Some(field) => match before.filter(|before| equal(before.value.as_str(), field.value.as_str())) {
                    // Equal values can have different texts, such as 0 and −0.
                    Some(before) => {
                        record.bytes = record.bytes + before.value.len() - field.value.len();
                        *field = before.clone();
                    }
                    None => changed = true,
                },
                None => changed |= before.is_some(),
            }
        }
        debug_assert_eq!(
            record.bytes,
            record.fields.iter().map(|(name, field)| cost(name, &field.value)).sum::<usize>()
        );
        debug_assert!(record.fields.values().all(|field| field.version <= version), "a field changes with its record");
        record.version = version;
        // A server with a clock that was ahead may have created the record.
        record.update_time = now.max(record.create_time);
        Ok(changed.then_some(record))
    }

    fn apply_one(&mut self, operation: &FieldOp, version: i64) -> Result<(), FieldError> {
        let before = self.fields.get(&operation.field);
        let after = operation.change.apply(before.map(|field| &field.value))?;
        if let Some(before) = before {
            self.bytes -= cost(&operation.field, &before.value);
        }
        match after {
            Some(value) if value.len() > MAX_FIELD_BYTES => {
                Err(FieldError::Limit(format!("the field would have more than {MAX_FIELD_BYTES} bytes as JSON")))
            }
            Some(value) => {
                self.bytes += cost(&operation.field, &value);
                self.fields.insert(&operation.field, Field { version, value });
                Ok(())
            }
            None => {
                self.fields.remove(&operation.field);
                Ok(())
            }
        }
    }

    /// Checks the size after all operations: one may set a field before another removes one.
    fn check_size(&self, path: &str) -> Result<(), Refusal> {
        let limit = |why: String| Err(Refusal::LimitExceeded { path: path.to_owned(), why });
        let max_bytes = self.key.max_bytes();
        if self.fields.len() > MAX_FIELDS {
            return limit(format!("would have {} fields, {MAX_FIELDS} are allowed", self.fields.len()));
        }
        if self.bytes > max_bytes {
            return limit(format!("would have {} bytes, {max_bytes} are allowed", self.bytes));
        }
        Ok(())
    }

    /// Approximate memory in bytes, for the bound of the cache.
    pub fn weight_bytes(&self) -> usize {
        400 + self.key.collection.len() + self.key.record_id.len() + self.bytes + 120 * self.fields.len()
    }
}

fn cost(name: &Short, value: &Json) -> usize {
    name.len() + value.len() + FIELD_OVERHEAD
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
