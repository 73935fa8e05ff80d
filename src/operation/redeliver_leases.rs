//! Delivers leases of one job again to the worker that was granted them and may not have received the response.

use super::{Operation, Reply, commit_job};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::refusal::Refusal;
use crate::domain::stage::Stage;
use crate::operation::overlay::{Key, Overlay};

/// Renews leases that are still held, and gives their stages a new version. A release that the server sends because the first response did not
/// reach the worker expects the version of that response, so it is refused. Leases that have ended are left out.
#[derive(Debug)]
pub struct RedeliverLeases {
    pub key: JobKey,
    /// Stages, each with the fencing token of its lease.
    pub leases: Vec<(StageNo, i64)>,
}

impl Operation for RedeliverLeases {
    fn name(&self) -> &'static str {
        "redeliver_leases"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.key)]
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let Some(job) = overlay.job(self.key) else { return Ok(Reply::default()) };
        let mut edit = overlay.begin_job(&job);
        let mut held = Vec::with_capacity(self.leases.len());
        for &(no, fencing_token) in &self.leases {
            let is_held = |stage: &Stage| stage.fencing_token == fencing_token && stage.lease().is_some();
            if job.stages.get(no).is_some_and(|stage| is_held(stage)) {
                edit.redeliver(no);
                held.push(no);
            }
        }
        let (job, applied) = commit_job(overlay, &job, edit);
        Ok(Reply { jobs: vec![job], stages: held, applied, ..Reply::default() })
    }
}
