//! Queries of records, as plain values that the store turns into SQL with bound parameters.

use serde::{Deserialize, Serialize};

use super::id::NamespaceId;
use super::query::Test;
use super::short::Short;
use super::time::Timestamp;

/// Value that a field can be compared with.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Scalar {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

/// Time of a record that can be filtered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordTime {
    /// Time at which the record was created.
    Create,
    /// Time of the last change.
    Update,
}

/// Condition on one property: one of the alternatives has to hold.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordClause {
    /// Comparisons of the record id, by bytes.
    RecordId(Vec<Test<String>>),
    /// Comparisons of a time.
    Time {
        /// The time that is compared.
        field: RecordTime,
        /// Comparisons of which one has to hold.
        any_of: Vec<Test<Timestamp>>,
    },
    /// Comparisons of a field's value. If the field has another type than the value, only `!=` holds. Null and bools are compared by
    /// `=` and `!=` only.
    Field {
        /// Name of the field.
        name: String,
        /// Comparisons of which one has to hold.
        any_of: Vec<Test<Scalar>>,
    },
}

/// Property that records are ordered by; ties are broken by record id, in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOrderField {
    /// Id of the record.
    RecordId,
    /// Time at which the record was created.
    CreateTime,
    /// Time of the last change.
    UpdateTime,
}

/// Order of a list of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordOrder {
    /// Property that is ordered by.
    pub field: RecordOrderField,
    /// Whether the largest value comes first.
    pub descending: bool,
}

/// Position at which a page of records ended; the next page starts after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCursor {
    /// Time of the last record in microseconds since 1970. 0: the order is by record id.
    pub value: i64,
    /// Id of the last record.
    pub record_id: String,
}

/// One page of records of a collection.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordQuery {
    /// Namespace of the records.
    pub namespace: NamespaceId,
    /// Collection of the records.
    pub collection: Short,
    /// Clauses that all have to hold. Empty: all records match.
    pub clauses: Vec<RecordClause>,
    /// Order of the list.
    pub order: RecordOrder,
    /// Position after which the page starts. `None`: the first page.
    pub after: Option<RecordCursor>,
    /// Maximum number of records of the page.
    pub limit: u32,
}
