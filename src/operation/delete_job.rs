//! Deletes an ended job with its stages, documents and context. Its history stays.

use std::sync::Arc;

use super::{Operation, Reply, existing};
use crate::domain::audit::AuditEntry;
use crate::domain::id::{JobKey, Name};
use crate::domain::job::Job;
use crate::domain::record::RecordKey;
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, NamespaceChange, Overlay};

#[derive(Debug)]
pub struct DeleteJob {
    pub key: JobKey,
    /// The id as the caller gave it, for errors.
    pub job_id: Name,
    /// The revision the job must have. None: any.
    pub expected_revision: Option<i64>,
    pub request: Option<RequestIdentity>,
}

impl Operation for DeleteJob {
    fn name(&self) -> &'static str {
        "delete_job"
    }

    fn audit(&self) -> Option<AuditEntry> {
        // Submitters delete jobs by the thousand; the audit log notes what operators delete.
        let entry = AuditEntry::new("JobService/DeleteJob", &self.job_id).within(self.key.namespace);
        Some(entry.of_operators_alone())
    }

    fn keys(&self) -> Vec<Key> {
        keys(self.key)
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let job = existing(overlay, self.key, &self.job_id)?;
        expect_version(job.revision, self.expected_revision)?;
        if !job.state.is_terminal() {
            return Err(job.refusal("can only be deleted after it ended"));
        }
        delete(overlay, &job);
        Ok(Reply::about((job, true)))
    }
}

/// Keys that a deletion reads.
pub(super) fn keys(key: JobKey) -> Vec<Key> {
    vec![Key::Job(key), Key::Namespace(key.namespace), Key::Record(RecordKey::context(key))]
}

/// Deletes a job with its context. Its id can be used again, so the namespace's fencing floor rises to the highest token it granted: tokens of a
/// new job are higher. The floor soon reaches the usual number of attempts and stays there.
pub(super) fn delete(overlay: &mut Overlay, job: &Arc<Job>) {
    overlay.delete_job(job.key);
    let context = RecordKey::context(job.key);
    if overlay.record(&context).is_some() {
        overlay.delete_record(&context);
    }
    let highest = job.stages.iter().map(|stage| stage.fencing_token).max().unwrap_or(0);
    let namespace = job.key.namespace;
    if overlay.namespace(namespace).is_some_and(|namespace| namespace.fencing_floor < highest) {
        overlay.change_namespace(namespace, NamespaceChange::RaiseFloor(highest));
    }
}
