//! Deletes an ended job and all below it; its history stays.

use std::sync::Arc;

use super::{Operation, Reply, existing};
use crate::domain::audit::AuditEntry;
use crate::domain::id::{JobKey, Name};
use crate::domain::job::Job;
use crate::domain::record::RecordKey;
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::engine::world::{Key, NamespaceEffect, World};

/// Deletes one job.
#[derive(Debug)]
pub struct DeleteJob {
    /// Which job.
    pub key: JobKey,
    /// As the caller named it.
    pub job_id: Name,
    /// The job's revision that the caller knows.
    pub expected_revision: Option<i64>,
    /// The caller's `request_id`.
    pub request: Option<RequestIdentity>,
}

impl Operation for DeleteJob {
    fn name(&self) -> &'static str {
        "delete_job"
    }

    fn audit(&self) -> Option<AuditEntry> {
        // Whoever submits jobs deletes them in the course of work, by the thousand.
        let entry = AuditEntry::new("JobService/DeleteJob", &self.job_id).within(self.key.namespace);
        Some(entry.of_operators_alone())
    }

    fn keys(&self) -> Vec<Key> {
        keys(self.key)
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let job = existing(world, self.key, &self.job_id)?;
        expect_version(job.revision, self.expected_revision)?;
        if !job.state.is_terminal() {
            return Err(job.refusal("can only be deleted after it ended"));
        }
        delete(world, &job);
        Ok(Reply::about((job, true)))
    }
}

/// What a deletion looks at.
pub(super) fn keys(key: JobKey) -> Vec<Key> {
    vec![Key::Job(key), Key::Namespace(key.namespace), Key::Record(RecordKey::context(key))]
}

/// Removes a job with its context. Its id can be used again, so no token below those it granted is ever granted in its namespace. The floor
/// soon stands at the usual number of attempts and rises no more.
pub(super) fn delete(world: &mut World, job: &Arc<Job>) {
    world.delete(job.key);
    let context = RecordKey::context(job.key);
    if world.record(&context).is_some() {
        world.delete_record(&context);
    }
    let highest = job.stages.iter().map(|stage| stage.fencing_token).max().unwrap_or(0);
    let namespace = job.key.namespace;
    if world.namespace(namespace).is_some_and(|namespace| namespace.fencing_floor < highest) {
        world.change_namespace(namespace, NamespaceEffect::Raise(highest));
    }
}
