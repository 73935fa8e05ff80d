//! What a list of jobs is asked for, as plain values that the store turns into SQL with bound parameters.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::job::{Job, JobPhase};
use super::time::Timestamp;

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Test<T> {
    /// How.
    pub comparison: Comparison,
    /// With what.
    pub value: T,
}

/// A moment of a job that can be asked for, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeField {
    /// When it was submitted.
    Create,
    /// When its first stage started.
    Start,
    /// When it ended.
    End,
}

/// A condition on one field: one of the alternatives has to hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct JobFilter {
    /// The conditions. Empty: all jobs.
    pub clauses: Vec<Clause>,
}

impl JobFilter {
    /// Whether a job is meant; the same as the store finds out in SQL.
    pub fn matches(&self, job: &Job) -> bool {
        self.clauses.iter().all(|clause| clause.matches(job))
    }
}

impl Clause {
    fn matches(&self, job: &Job) -> bool {
        match self {
            Self::State(phases) => phases.contains(&job.state.phase()),
            Self::Kind(any_of) => any_of.iter().any(|test| test.holds(Some(&job.meta.kind))),
            Self::Label { key, any_of } => {
                let value = job.labels.get(key).map(String::as_str);
                any_of.iter().any(|test| test.holds(value))
            }
            Self::Time { field, any_of } => {
                let at = match field {
                    TimeField::Create => Some(job.meta.create_time),
                    TimeField::Start => job.start_time,
                    TimeField::End => job.end_time,
                };
                any_of.iter().any(|test| test.comparison.holds(at, test.value))
            }
        }
    }
}

impl Test<String> {
    fn holds(&self, value: Option<&str>) -> bool {
        // Texts of Rust compare by their bytes.
        self.comparison.holds(value, self.value.as_str())
    }
}

impl Comparison {
    fn holds<T: Ord>(self, left: Option<T>, right: T) -> bool {
        let Some(left) = left else { return self == Self::NotEqual };
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl JobOrder {
    /// Where a list in this order stands at a job.
    pub fn cursor(&self, job: &Job) -> JobCursor {
        let value = match self.field {
            OrderField::CreateTime => Some(job.meta.create_time.0),
            OrderField::EndTime => job.end_time.map(|at| at.0),
            OrderField::Priority => Some(i64::from(job.priority)),
        };
        JobCursor::at(job, value)
    }
}

impl JobCursor {
    /// The place of a job, with a value of the order's field.
    pub fn at(job: &Job, value: Option<i64>) -> Self {
        Self { value, created: Some(job.meta.create_time.0), job_id: job.meta.job_id.to_string() }
    }
}

/// By what jobs are ordered. Jobs of one priority, and those without an end, are in the order of their creation; then their id breaks ties. All of
/// it in the same direction.
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
    /// When the last job was created, in microseconds since 1970. `None`: the token is of a version that did not say.
    #[serde(default)]
    pub created: Option<i64>,
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

/// A page of jobs, without their stages.
#[derive(Clone, Debug)]
pub struct JobPage {
    /// The jobs in order; there can be fewer than the limit although more match.
    pub jobs: Vec<Arc<Job>>,
    /// Where the next page begins: behind the last job that was looked at. `None`: there is none.
    pub next: Option<JobCursor>,
}
