//! Begins an attempt of a stage by name.

use uuid::Uuid;

use super::permits::stages::acquire;
use super::{Operation, Reply, commit_job, existing};
use crate::domain::id::{JobKey, Name};
use crate::domain::job::{LeaseRequest, StageCredential};
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::domain::stage::StagePhase;
use crate::operation::overlay::{Key, Overlay};

#[derive(Debug)]
pub struct StartStage {
    pub key: JobKey,
    /// The id as the caller gave it, for errors.
    pub job_id: Name,
    pub stage_name: Name,
    /// The lease that is requested. None: the attempt has no lease.
    pub grant: Option<LeaseRequest>,
    /// The id of the permits that the attempt gets.
    pub permit_id: Uuid,
    /// The version the stage must have. None: any.
    pub expected_version: Option<i64>,
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
        // Work that is accepted is done before new work is accepted.
        true
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let job = existing(overlay, self.key, &self.job_id)?;
        let stage = job.verified_stage(&StageCredential::Name(self.stage_name.clone()))?;
        expect_version(stage.version, self.expected_version)?;
        let mut permits = Vec::new();
        if stage.phase() == StagePhase::Ready && job.state.allows_leases() {
            let worker = self.grant.as_ref().map_or_else(|| "".into(), |grant| grant.worker_id.clone());
            let now = overlay.now();
            permits =
                acquire(overlay, &job, stage, &worker, (self.permit_id, self.permit_id)).map_err(|(_, blocker)| {
                    Refusal::PermitDenied {
                        stage_name: self.stage_name.to_string(),
                        resource: blocker.resource.to_string(),
                        reason: blocker.block.reason.name(),
                        retry_after: blocker.block.until.map(|until| now.until(until)),
                    }
                })?;
        }
        // A waiter that was served with it may be an attempt of this job, which has then changed.
        let job = existing(overlay, self.key, &self.job_id)?;
        let mut edit = overlay.begin_job(&job);
        let no = edit.start_by_name(&self.stage_name, self.grant.as_ref(), permits)?;
        Ok(Reply::about_stage(no, commit_job(overlay, &job, edit)))
    }
}
