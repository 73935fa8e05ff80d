//! What a refused compare-and-set shows, so that a retry needs no read.

use std::sync::Arc;

use super::id::StageNo;
use super::job::Job;
use super::record::Record;

/// The state that a version was compared with.
#[derive(Clone, Debug)]
pub enum Current {
    /// A record with its fields.
    Record(Arc<Record>),
    /// A job.
    Job(Arc<Job>),
    /// A stage of a job.
    Stage(Arc<Job>, StageNo),
}

impl PartialEq for Current {
    /// Versions tell states of one thing apart.
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
