//! The stored state that a refused compare-and-set returns, so that a retry needs no read.

use std::sync::Arc;

use super::id::StageNo;
use super::job::Job;
use super::record::Record;

/// State with the version that was compared with the expected one; a [`super::refusal::AttachedState`] holds it.
#[derive(Clone, Debug)]
pub enum ComparedState {
    /// A record with its fields.
    Record(Arc<Record>),
    /// A job with its stages.
    Job(Arc<Job>),
    /// A stage of a job.
    Stage(Arc<Job>, StageNo),
}
