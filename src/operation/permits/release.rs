//! ReleasePermit: ends a permit.

use uuid::Uuid;

use super::resource_tx::ResourceTx;
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::permit::{LeaseBinding, PermitOutcome, PermitToken};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};
use crate::operation::{Operation, Reply, commit_job};

/// Releases a permit with the outcome of its use.
#[derive(Debug)]
pub struct ReleasePermit {
    /// Namespace of the call.
    pub namespace: NamespaceId,
    /// Token of the permit.
    pub token: PermitToken,
    /// Outcome of its use.
    pub outcome: PermitOutcome,
    /// Identity of the request. `None`: the caller gave no `request_id`.
    pub request: Option<RequestIdentity>,
}

impl Operation for ReleasePermit {
    fn name(&self) -> &'static str {
        "release_permit"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Resource(self.token.key())]
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn ends_attempt(&self) -> bool {
        true
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        if self.token.namespace != self.namespace {
            return Err(Refusal::PermitLost);
        }
        let id = self.token.id;
        let mut tx = ResourceTx::new(overlay, self.namespace);
        let first = tx.get(self.token.key()).and_then(|resource| resource.permits.get(&id).cloned());
        // An unknown permit was released before: lost ones are remembered for a while.
        let Some(permit) = first else { return Ok(Reply::default()) };
        if permit.lost_at.is_some() {
            return Err(Refusal::PermitLost);
        }
        let now = tx.now;
        for key in permit.keys(self.token.key()) {
            if tx.get(key).is_some_and(|resource| resource.release(&id, self.outcome, now)) {
                tx.mark_changed(key);
            }
        }
        tx.finish();
        unbind(overlay, self.namespace, permit.lease, &id);
        Ok(Reply { resource: overlay.resource(self.token.key()), applied: true, ..Reply::default() })
    }
}

/// Removes a permit from the attempt that it was bound to.
pub(super) fn unbind(overlay: &mut Overlay, namespace: NamespaceId, bound: Option<LeaseBinding>, id: &Uuid) {
    let Some(bound) = bound else { return };
    let Some(job) = overlay.job(JobKey { namespace, uid: bound.job_uid }) else { return };
    let holds = job.stages.get(bound.stage_no).is_some_and(|stage| stage.permits().iter().any(|held| held.id == *id));
    if holds {
        let mut tx = overlay.begin_job(&job);
        tx.unbind(bound.stage_no, id);
        commit_job(overlay, &job, tx);
    }
}
