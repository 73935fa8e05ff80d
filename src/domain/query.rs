//! What a list of jobs is asked for, as plain values that the store turns into SQL with bound parameters.

use serde::{Deserialize, Serialize};

use super::job::JobPhase;
use super::time::Timestamp;

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// One comparison with a value. Where the field has no value, only [`Comparison::NotEqual`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test<T> {
    /// How.
    pub comparison: Comparison,
    /// With what.
    pub value: T,
}

/// A moment of a job that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeField {
    /// When it was submitted.
    Create,
    /// When its first stage started.
    Start,
    /// When it ended.
    End,
}

/// A condition on one field: one of the alternatives has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clause {
    /// The job is in one of these states, each listed once. Empty: no job is meant.
    State(Vec<JobPhase>),
    /// The kind; texts compare by their bytes.
    Kind(Vec<Test<String>>),
    /// The label of this key; texts compare by their bytes.
    Label {
        /// Which label.
        key: String,
        /// The alternatives.
        any_of: Vec<Test<String>>,
    },
    /// A moment.
    Time {
        /// Which.
        field: TimeField,
        /// The alternatives.
        any_of: Vec<Test<Timestamp>>,
    },
}

/// Which jobs: those for which every clause holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// The conditions. Empty: all jobs.
    pub clauses: Vec<Clause>,
}

/// By what jobs are ordered; their id breaks ties, in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderField {
    /// When they were submitted.
    CreateTime,
    /// When they ended; those that have not come last in either direction.
    EndTime,
    /// Their priority.
    Priority,
}

/// The order of a list of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobOrder {
    /// By what.
    pub field: OrderField,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl Default for JobOrder {
    fn default() -> Self {
        Self { field: OrderField::CreateTime, descending: true }
    }
}

/// Where a page of jobs ended; the next one starts behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCursor {
    /// The last job's value of the order's field: microseconds since 1970, or the priority. `None`: it has none.
    pub value: Option<i64>,
    /// The last job's id.
    pub job_id: String,
}

/// One page of a list of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobQuery {
    /// Which jobs.
    pub filter: JobFilter,
    /// In which order.
    pub order: JobOrder,
    /// Where the page before ended. `None`: the first page.
    pub after: Option<JobCursor>,
    /// How many jobs at most.
    pub limit: u32,
}
