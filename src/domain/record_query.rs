//! What a list of records is asked for, as plain values that the store turns into SQL with bound parameters.

use serde::{Deserialize, Serialize};

use super::id::NamespaceId;
use super::query::Test;
use super::short::Short;
use super::time::Timestamp;

/// A value that a field can be compared with.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // The names say it.
pub enum Scalar {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

/// A moment of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordTime {
    /// When it was created.
    Create,
    /// When it last changed.
    Update,
}

/// A condition on one thing: one of the alternatives has to hold.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordClause {
    /// The record's id; texts compare by their bytes.
    RecordId(Vec<Test<String>>),
    /// A moment.
    Time {
        /// Which.
        field: RecordTime,
        /// The alternatives.
        any_of: Vec<Test<Timestamp>>,
    },
    /// The value of this field. One of another type than the value it is compared with differs from it, and holds in no other
    /// comparison; null and bools are compared by `=` and `!=` only.
    Field {
        /// Which field.
        name: String,
        /// The alternatives.
        any_of: Vec<Test<Scalar>>,
    },
}

/// By what records are ordered; their id breaks ties, in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOrderField {
    /// Their id.
    RecordId,
    /// When they were created.
    CreateTime,
    /// When they last changed.
    UpdateTime,
}

/// The order of a list of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordOrder {
    /// By what.
    pub field: RecordOrderField,
    /// Whether the largest comes first.
    pub descending: bool,
}

/// Where a page of records ended; the next one starts behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCursor {
    /// The last record's moment in microseconds since 1970, if the order is by one.
    pub value: i64,
    /// The last record's id.
    pub record_id: String,
}

/// One page of the records of a collection.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordQuery {
    /// Whose.
    pub namespace: NamespaceId,
    /// Where.
    pub collection: Short,
    /// Those for which all of these hold. Empty: all.
    pub clauses: Vec<RecordClause>,
    /// In which order.
    pub order: RecordOrder,
    /// Where the page before ended. `None`: the first page.
    pub after: Option<RecordCursor>,
    /// How many at most.
    pub limit: u32,
}
