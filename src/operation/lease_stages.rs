//! Leases ready stages of one job to a worker.

use std::sync::Arc;

use uuid::Uuid;

use super::permits::stages::acquire;
use super::{Operation, Reply, commit_job};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::LeaseRequest;
use crate::domain::refusal::Refusal;
use crate::domain::request::{RequestIdentity, RequestRecord};
use crate::operation::overlay::{Key, Overlay};

/// Leases stages that the dispatcher has picked, each together with the permits it needs. Stages that can no longer be leased are left out;
/// stages that have to wait for a permit are marked as blocked. If a call with the same `request_id` was granted a lease for one of its slots,
/// nothing is leased and the reply is `replayed`.
#[derive(Debug)]
pub struct LeaseStages {
    pub key: JobKey,
    /// Stages, each with a lease that has a secret of its own.
    pub stages: Vec<(StageNo, LeaseRequest)>,
    /// The id of the permits that the stages share if they are leased as a group. None: each has its own.
    pub group: Option<Uuid>,
    /// Request keys under which the leases are remembered, one for each stage; see `RequestKey::slot`. Empty: the call has no `request_id`.
    pub slots: Vec<RequestIdentity>,
}

impl LeaseStages {
    /// The lease that an earlier call with the same `request_id` was granted for one of the slots. None: there is none.
    fn granted_before(&self, overlay: &mut Overlay) -> Result<Option<Arc<RequestRecord>>, Refusal> {
        let mut found = None;
        for slot in &self.slots {
            let Some(record) = overlay.request(slot.key) else { continue };
            if record.digest != slot.digest {
                return Err(Refusal::RequestIdReused);
            }
            found = Some(record);
        }
        Ok(found)
    }
}

impl Operation for LeaseStages {
    fn name(&self) -> &'static str {
        "lease_stages"
    }

    fn keys(&self) -> Vec<Key> {
        let slots = self.slots.iter().map(|slot| Key::Request(slot.key));
        std::iter::once(Key::Job(self.key)).chain(slots).collect()
    }

    fn is_urgent(&self) -> bool {
        // Work that is accepted is done before new work is accepted; the polls of workers bound it.
        true
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        if let Some(record) = self.granted_before(overlay)? {
            return Ok(Reply { replayed: Some(record), ..Reply::default() });
        }
        let Some(job) = overlay.job(self.key) else {
            return Ok(Reply::default());
        };
        // First all permits: a waiter that is served with them may be an attempt of this job, which changes the job.
        let mut had = Vec::with_capacity(self.stages.len());
        for (i, (no, grant)) in self.stages.iter().enumerate() {
            let Some(stage) = job.stages.get(*no).filter(|stage| job.is_leasable(stage)) else { continue };
            // Since it was picked it may have been added again, to another queue.
            if grant.queue.as_ref().is_some_and(|queue| *queue != stage.spec.queue) {
                continue;
            }
            let id = self.group.unwrap_or(grant.secret);
            let permits = acquire(overlay, &job, stage, &grant.worker_id, (id, grant.secret));
            had.push((*no, grant, self.slots.get(i), permits));
        }
        let Some(job) = overlay.job(self.key) else { return Ok(Reply::default()) };
        let mut edit = overlay.begin_job(&job);
        let (mut leased, mut blocked, mut remembered) = (Vec::with_capacity(had.len()), Vec::new(), Vec::new());
        for (no, grant, slot, permits) in had {
            match permits {
                Ok(permits) => {
                    edit.lease(no, grant, permits)?;
                    leased.push(no);
                    remembered.extend(slot.map(|slot| (no, *slot)));
                }
                Err((resource, blocker)) => {
                    edit.block(no, resource);
                    blocked.push((resource, blocker.block.reason));
                }
            }
        }
        let (job, applied) = commit_job(overlay, &job, edit);
        for (no, slot) in remembered {
            let record = RequestRecord {
                digest: slot.digest,
                jobs: vec![job.key.uid],
                stage_no: Some(no),
                revision: job.revision,
                versions: vec![job.stages[no].fencing_token],
                applied: true,
            };
            overlay.remember(slot.key, record);
        }
        Ok(Reply { jobs: vec![job], stages: leased, blocked, applied, ..Reply::default() })
    }
}
