//! Ends an attempt whose lease has expired.

use uuid::Uuid;

use super::{Operation, Reply, commit_job};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::lease::LeaseKey;
use crate::domain::refusal::Refusal;
use crate::domain::stage::StagePhase;
use crate::operation::overlay::{Key, Overlay};

/// Ends one attempt. The commit checks that its lease has expired and was not renewed.
#[derive(Debug)]
pub struct Reap {
    pub key: JobKey,
    pub stage_no: StageNo,
    /// Secret of the lease.
    pub token_secret: Uuid,
    /// Uniform random number in [0, 1) for the backoff, drawn by the caller so that `decide` is deterministic.
    pub jitter: f64,
}

impl Reap {
    fn lease(&self) -> LeaseKey {
        LeaseKey { job: self.key, stage_no: self.stage_no }
    }
}

impl Operation for Reap {
    fn name(&self) -> &'static str {
        "reap"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.key), Key::Lease(self.lease())]
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let job = overlay.job(self.key).ok_or(Refusal::LeaseLost)?;
        let stage = job.stages.get(self.stage_no).ok_or(Refusal::LeaseLost)?;
        if stage.phase() != StagePhase::Running || stage.token_secret != Some(self.token_secret) {
            return Err(Refusal::LeaseLost);
        }
        // The lease's row is read for this decision, since heartbeats renew that row alone. The expiry in the job is a lower bound, and exact if
        // the lease was granted or delivered again in this group. An expiry further ahead than a lease lasts is from before the clock stepped back.
        let now = overlay.now();
        let is_renewed = overlay.lease(self.lease()).is_some_and(|lease| lease.lasts(now));
        if is_renewed || stage.lease().is_some_and(|lease| lease.expires_at > now && !lease.is_ahead(now)) {
            return Ok(Reply::about_stage(self.stage_no, (job.clone(), false)));
        }
        overlay.require_lease_expired(self.key, self.stage_no, self.token_secret);
        let mut edit = overlay.begin_job(&job);
        edit.reap(self.stage_no, self.jitter);
        Ok(Reply::about_stage(self.stage_no, commit_job(overlay, &job, edit)))
    }
}
