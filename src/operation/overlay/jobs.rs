//! Jobs in an overlay.

use std::sync::Arc;

use super::Overlay;
use crate::domain::id::JobKey;
use crate::domain::job::{Job, JobChanges, JobEffects, JobTx};

impl Overlay {
    /// A job. None: there is none, or it was not loaded.
    pub fn job(&mut self, key: JobKey) -> Option<Arc<Job>> {
        self.read(&key)
    }

    /// Begins to change a job.
    pub fn begin_job(&self, job: &Arc<Job>) -> JobTx {
        JobTx::begin(job.clone(), self.now())
    }

    /// Writes a changed job. Returns it, and whether it has a new revision.
    pub fn write_job(&mut self, before: &Arc<Job>, edit: JobTx) -> (Arc<Job>, bool) {
        match edit.finish() {
            None => (before.clone(), false),
            Some((job, changes)) => {
                let applied = job.revision != before.revision;
                self.write(job.key, Some(job.clone()), JobEffects { changes, ..JobEffects::default() });
                (job, applied)
            }
        }
    }

    /// Writes a new job; `has_generated_id` if the server generated its id, so that no other job can have it.
    pub fn insert_job(&mut self, mut job: Arc<Job>, changes: JobChanges, has_generated_id: bool) {
        if self.cluster().has_older_servers {
            Arc::make_mut(&mut job).has_stage_rows = true;
        }
        // One statement cannot delete a row and insert it again, so the new job comes in the next group. That goes for a job which this
        // group itself has created, too: what was noted of its changes is not true of the new one.
        let jobs = &self.tables.jobs;
        self.savepoint.access.needs_next_group |= jobs.base(&job.key).is_some() || jobs.is_changed_by_earlier(&job.key);
        self.write(job.key, Some(job), JobEffects { changes, has_generated_id });
    }

    pub fn delete_job(&mut self, key: JobKey) {
        self.write::<Job>(key, None, JobEffects::default());
    }
}
