//! Ends a permit.

use uuid::Uuid;

use super::desk::Desk;
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::permit::{Bound, Outcome, PermitToken};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};
use crate::operation::{Operation, Reply, commit_job};

/// Gives a permit back, with what came of its use.
#[derive(Debug)]
pub struct ReleasePermit {
    /// The caller's namespace.
    pub namespace: NamespaceId,
    /// Which permit.
    pub token: PermitToken,
    /// What came of it.
    pub outcome: Outcome,
    /// The caller's `request_id`.
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
        let mut desk = Desk::new(overlay, self.namespace);
        let first = desk.get(self.token.key()).and_then(|resource| resource.permits.get(&id).cloned());
        // What is not known any more was released: one that was lost is remembered for a while.
        let Some(permit) = first else { return Ok(Reply::default()) };
        if permit.lost_at.is_some() {
            return Err(Refusal::PermitLost);
        }
        let now = desk.now;
        for key in permit.keys(self.token.key()) {
            if desk.get(key).is_some_and(|resource| resource.release(&id, self.outcome, now)) {
                desk.changed(key);
            }
        }
        desk.close();
        unbind(overlay, self.namespace, permit.lease, &id);
        Ok(Reply { resource: overlay.resource(self.token.key()), applied: true, ..Reply::default() })
    }
}

/// The attempt that a permit was bound to no longer holds it.
pub(super) fn unbind(overlay: &mut Overlay, namespace: NamespaceId, bound: Option<Bound>, id: &Uuid) {
    let Some(bound) = bound else { return };
    let Some(job) = overlay.job(JobKey { namespace, uid: bound.job_uid }) else { return };
    let holds = job.stages.get(bound.stage_no).is_some_and(|stage| stage.permits().iter().any(|held| held.id == *id));
    if holds {
        let mut edit = overlay.begin_job(&job);
        edit.unbind(bound.stage_no, id);
        commit_job(overlay, &job, edit);
    }
}
