//! A job as an aggregate: its stages and leases are below it.

use super::Job;
use super::tx::JobChanges;
use crate::domain::aggregate::{Aggregate, Effects};
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::time::Timestamp;

/// What is written beside the state of a job.
#[derive(Clone, Debug, Default)]
pub struct JobEffects {
    /// Rows below the job that changed, documents and history.
    pub changes: JobChanges,
    /// Whether the job is new under an id that the server generated, so that no other job can have it.
    pub has_generated_id: bool,
}

impl Effects for JobEffects {
    fn merge(&mut self, later: Self) {
        self.changes.merge(later.changes);
        self.has_generated_id |= later.has_generated_id;
    }
}

impl Aggregate for Job {
    type Key = JobKey;
    type Effects = JobEffects;

    // What ready stages wait for.
    const HAS_UNVERSIONED_ROWS: bool = true;

    fn namespace(key: &JobKey) -> Option<NamespaceId> {
        Some(key.namespace)
    }

    fn version(&self) -> i64 {
        self.revision
    }

    fn create_time(&self) -> Timestamp {
        self.meta.create_time
    }

    fn weight_bytes(&self) -> usize {
        Job::weight_bytes(self)
    }
}
