//! Queries of jobs, as plain values that the store turns into SQL with bound parameters.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::job::{Job, JobPhase};
use super::time::Timestamp;

/// Operator of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Comparison of a field with a value. If the field has no value, only [`Comparison::NotEqual`] holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Test<T> {
    /// Operator of the comparison.
    pub comparison: Comparison,
    /// Value on the right side.
    pub value: T,
}

/// Time of a job that can be filtered by, in the order in which they occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeField {
    /// Time of the submission.
    Create,
    /// Time at which the first stage started.
    Start,
    /// Time at which the job ended.
    End,
}

/// Condition on one field: one of the alternatives has to hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Clause {
    /// The state is one of these, each listed once. Empty: no job matches.
    State(Vec<JobPhase>),
    /// Comparisons of the kind, by bytes.
    Kind(Vec<Test<String>>),
    /// Comparisons of one label, by bytes.
    Label {
        /// Key of the label.
        key: String,
        /// Comparisons of which one has to hold.
        any_of: Vec<Test<String>>,
    },
    /// Comparisons of a time.
    Time {
        /// The time that is compared.
        field: TimeField,
        /// Comparisons of which one has to hold.
        any_of: Vec<Test<Timestamp>>,
    },
}

/// Filter of jobs: all clauses have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct JobFilter {
    /// Clauses of the filter. Empty: all jobs match.
    pub clauses: Vec<Clause>,
}

impl JobFilter {
    /// Whether a job matches. Has to agree with the SQL of the store.
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
        // Rust compares strings by bytes.
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
    /// Cursor of a job in this order.
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
    /// Cursor of a job with the given value of the ordered field.
    pub fn at(job: &Job, value: Option<i64>) -> Self {
        Self { value, created: Some(job.meta.create_time.0), job_id: job.meta.job_id.to_string() }
    }
}

/// Field that jobs are ordered by. Jobs of the same priority, and jobs without an end, are ordered by create time; ties are broken by id.
/// All in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderField {
    /// Time of the submission.
    CreateTime,
    /// Time at which the job ended; jobs that have not ended come last in either direction.
    EndTime,
    /// Priority of the job.
    Priority,
}

/// Order of a list of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobOrder {
    /// Field that is ordered by.
    pub field: OrderField,
    /// Whether the largest value comes first.
    pub descending: bool,
}

impl Default for JobOrder {
    fn default() -> Self {
        Self { field: OrderField::CreateTime, descending: true }
    }
}

/// Position at which a page of jobs ended; the next page starts after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCursor {
    /// Value of the ordered field of the last job: microseconds since 1970, or the priority. `None`: the job has no value.
    pub value: Option<i64>,
    /// Create time of the last job, in microseconds since 1970. `None`: the page token is of a server that did not store it yet.
    #[serde(default)]
    pub created: Option<i64>,
    /// Id of the last job.
    pub job_id: String,
}

/// One page of a list of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobQuery {
    /// Filter of the list.
    pub filter: JobFilter,
    /// Order of the list.
    pub order: JobOrder,
    /// Position after which the page starts. `None`: the first page.
    pub after: Option<JobCursor>,
    /// Maximum number of jobs of the page.
    pub limit: u32,
}

/// Page of jobs without their stages.
#[derive(Clone, Debug)]
pub struct JobPage {
    /// Jobs in order. There can be fewer than the limit although more match.
    pub jobs: Vec<Arc<Job>>,
    /// Position after which the next page starts. `None`: this is the last page.
    pub next: Option<JobCursor>,
}
