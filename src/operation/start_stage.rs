//! Begins an attempt of a stage by name.

use uuid::Uuid;

use super::permits::stages::acquire;
use super::{Operation, Reply, existing, keep};
use crate::domain::id::{JobKey, Name};
use crate::domain::job::{LeaseRequest, StageCredential};
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::domain::stage::StagePhase;
use crate::engine::world::{Key, World};

/// An orchestrator takes a stage of its own job.
#[derive(Debug)]
pub struct StartStage {
    /// Which job.
    pub key: JobKey,
    /// As the caller named it.
    pub job_id: Name,
    /// Which stage.
    pub stage_name: Name,
    /// The lease it wants, if it wants one.
    pub grant: Option<LeaseRequest>,
    /// The id of the permits that it needs.
    pub permit_id: Uuid,
    /// The stage's version that the caller knows.
    pub expected_version: Option<i64>,
    /// The caller's `request_id`.
    pub request: Option<RequestIdentity>,
}

impl Operation for StartStage {
    fn name(&self) -> &'static str {
        "start_stage"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.key)]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn is_urgent(&self) -> bool {
        // Accepted work goes on before new work is accepted.
        true
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let job = existing(world, self.key, &self.job_id)?;
        let stage = job.verified_stage(&StageCredential::Name(self.stage_name.clone()))?;
        expect_version(stage.version, self.expected_version)?;
        let mut permits = Vec::new();
        if stage.phase() == StagePhase::Ready && job.state.allows_leases() {
            let worker = self.grant.as_ref().map_or_else(|| "".into(), |grant| grant.worker_id.clone());
            let now = world.now();
            permits =
                acquire(world, &job, stage, &worker, (self.permit_id, self.permit_id)).map_err(|(_, blocker)| {
                    Refusal::PermitDenied {
                        stage_name: self.stage_name.to_string(),
                        resource: blocker.resource.to_string(),
                        reason: blocker.block.reason.name(),
                        retry_after: blocker.block.until.map(|until| now.until(until)),
                    }
                })?;
        }
        // Whoever was served beside may be an attempt of this very job.
        let job = existing(world, self.key, &self.job_id)?;
        let mut edit = world.edit(&job);
        let no = edit.start_by_name(&self.stage_name, self.grant.as_ref(), permits)?;
        Ok(Reply::about_stage(no, keep(world, &job, edit)))
    }
}
