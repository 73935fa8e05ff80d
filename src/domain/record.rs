//! A record: named fields, each with the version at which it last changed.
//!
//! **Invariants.** A record is within the limits below. `version` grows by one per change, and a field that changed has
//! the record's version; so a field's version never comes back, not even after the field was gone for a while.

mod aggregate;

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;

use super::equality::equal;
use super::field_op::FieldOp;
use super::fields::Fields;
use super::id::{JobKey, NamespaceId};
use super::json::Document;
use super::refusal::Refusal;
use super::short::Short;
use super::time::Timestamp;

/// Fields of one record.
pub const MAX_FIELDS: usize = 1_000;
/// The value of a field, in bytes as JSON.
pub const MAX_FIELD_BYTES: usize = 64 * 1024;
/// All fields of a record, in bytes: names and values, and four bytes more for each.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// The context of a job, in bytes as for a record.
pub const MAX_CONTEXT_BYTES: usize = 64 * 1024;
/// Quotes, colon and comma around a field.
const FIELD_OVERHEAD: usize = 4;

/// A record, wherever it is stored. It is looked up a dozen times on its way through a group, so it knows its hash.
#[derive(Clone, Debug)]
pub struct RecordKey {
    hash: u64,
    name: RecordName,
}

/// What a record is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordName {
    /// Whose record it is.
    pub namespace: NamespaceId,
    /// Its collection; empty for the context of a job, which no caller can name.
    pub collection: Short,
    /// Its id in the collection.
    pub record_id: Short,
}

impl RecordKey {
    /// The key of a record.
    pub fn new(namespace: NamespaceId, collection: Short, record_id: Short) -> Self {
        // Seeded at random, so that nobody can choose names that meet in one place.
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
        let name = RecordName { namespace, collection, record_id };
        Self { hash: SEED.hash_one(&name), name }
    }

    /// The context of a job: a record that goes with it.
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
    /// The order of names, the same on all servers: rows are locked in it.
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

impl Hash for RecordKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The text of one JSON value of any type, compact and checked at the edge like a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Short);

impl Json {
    /// Takes text that is known to be a JSON value.
    pub fn from_checked(text: impl Into<Short>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The text as it is kept.
    pub fn as_short(&self) -> &Short {
        &self.0
    }

    /// How many bytes the text has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text has no bytes, which no value has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Document> for Json {
    fn from(document: Document) -> Self {
        Self(document.into_text().into())
    }
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The version of the record at which it last changed.
    pub version: i64,
    /// Its value.
    pub value: Json,
}

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it is stored.
    pub key: RecordKey,
    /// Its fields by name.
    pub fields: Fields,
    /// Grows by exactly one per committed change.
    pub version: i64,
    /// What its fields have, as [`MAX_RECORD_BYTES`] counts; follows from the fields.
    pub bytes: usize,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
}

impl Record {
    /// An empty record at version 0, which nobody has seen.
    pub fn new(key: RecordKey, now: Timestamp) -> Self {
        Self { key, fields: Fields::default(), version: 0, bytes: 0, create_time: now, update_time: now }
    }

    /// Computes what follows from the fields, after they were loaded.
    pub fn derive(&mut self) {
        self.bytes = self.fields.iter().map(|(name, field)| cost(name, &field.value)).sum();
    }

    /// Applies operations in order, all or none; `version` is what the record has afterwards. `path` is where the operations
    /// stand in the request. `None` if they change nothing.
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
        // What was changed and changed back keeps its version.
        let mut changed = base.version == 0;
        for operation in operations {
            let before = base.fields.get(&operation.field);
            match record.fields.get_mut(&operation.field) {
                Some(field) => match before.filter(|before| equal(before.value.as_str(), field.value.as_str())) {
                    // The text may be another one, such as that of −0.
                    Some(before) => {
                        record.bytes = record.bytes + before.value.len() - field.value.len();
                        *field = before.clone();
                    }
                    None => changed = true,
                },
                None => changed |= before.is_some(),
            }
        }
        record.version = version;
        // Another server, whose clock was ahead, may have created it.
        record.update_time = now.max(record.create_time);
        Ok(changed.then_some(record))
    }

    fn apply_one(&mut self, operation: &FieldOp, version: i64) -> Result<(), Fault> {
        let before = self.fields.get(&operation.field);
        let after = operation.change.apply(before.map(|field| &field.value))?;
        if let Some(before) = before {
            self.bytes -= cost(&operation.field, &before.value);
        }
        match after {
            Some(value) if value.len() > MAX_FIELD_BYTES => {
                Err(Fault::Limit(format!("the field would have more than {MAX_FIELD_BYTES} bytes as JSON")))
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

    /// Only the end counts: a field may be made before another one is removed.
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

    /// About how much memory it takes, in bytes, for the cache's bound.
    pub fn weight_bytes(&self) -> usize {
        400 + self.key.collection.len() + self.key.record_id.len() + self.bytes + 120 * self.fields.len()
    }
}

fn cost(name: &Short, value: &Json) -> usize {
    name.len() + value.len() + FIELD_OVERHEAD
}

/// Why an operation cannot be applied to a field.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The field has another type than the operation needs.
    WrongType {
        /// What it needs.
        needs: &'static str,
        /// What is there.
        is: &'static str,
    },
    /// The outcome would be too large.
    Limit(String),
}

impl Fault {
    fn refusal(self, path: &str, operation: &FieldOp) -> Refusal {
        match self {
            Self::WrongType { needs, is } => {
                Refusal::WrongType { path: path.to_owned(), field: operation.field.to_string(), needs, is }
            }
            Self::Limit(why) => Refusal::LimitExceeded { path: path.to_owned(), why },
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
