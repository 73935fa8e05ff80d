//! The stored state that a refused compare-and-set returns, so that a retry needs no read.

use std::sync::Arc;

use super::id::StageNo;
use super::job::Job;
use super::record::Record;

/// State with the version that was compared with the expected one.
#[derive(Clone, Debug)]
pub enum ComparedState {
    /// A record with its fields.
    Record(Arc<Record>),
    /// A job with its stages.
    Job(Arc<Job>),
    /// A stage of a job.
    Stage(Arc<Job>, StageNo),
}

impl PartialEq for ComparedState {
    /// States are equal if key and version are.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Record(one), Self::Record(other)) => (&one.key, one.version) == (&other.key, other.version),
            (Self::Job(one), Self::Job(other)) => (one.key, one.revision) == (other.key, other.revision),
            (Self::Stage(one, no), Self::Stage(other, other_no)) => {
                (one.key, one.revision, no) == (other.key, other.revision, other_no)
            }
            (Self::Record(_) | Self::Job(_) | Self::Stage(..), _) => false,
        }
    }
}
