//! Gives ready stages of one job to a worker.

use std::sync::Arc;

use uuid::Uuid;

use super::permits::stages::acquire;
use super::{Operation, Reply, keep};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::LeaseRequest;
use crate::domain::refusal::Refusal;
use crate::domain::request::{RequestIdentity, RequestRecord};
use crate::engine::world::{Key, World};

/// Leases stages that the dispatcher has picked, each together with the permits it needs. Those that can no longer be leased are
/// left out; those that have to wait for a permit are noted as such. If a call of the same `request_id` was granted a lease for one of
/// its slots, nothing is leased and the reply is `replayed`.
#[derive(Debug)]
pub struct LeaseStages {
    /// Which job.
    pub key: JobKey,
    /// Which stages, each with its own secret.
    pub stages: Vec<(StageNo, LeaseRequest)>,
    /// Of stages that are leased as a group, the id of the permits that they share.
    pub group: Option<Uuid>,
    /// Where each stage's lease is remembered, see `RequestKey::slot`. Empty: the call has no `request_id`.
    pub slots: Vec<RequestIdentity>,
}

impl LeaseStages {
    /// The lease of another call of the same `request_id`, if one has a slot of this one.
    fn granted_before(&self, world: &mut World) -> Result<Option<Arc<RequestRecord>>, Refusal> {
        let mut found = None;
        for slot in &self.slots {
            let Some(record) = world.request(slot.key) else { continue };
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
        // Accepted work goes on before new work is accepted; workers bound it by their polls.
        true
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        if let Some(record) = self.granted_before(world)? {
            return Ok(Reply { replayed: Some(record), ..Reply::default() });
        }
        let Some(job) = world.job(self.key) else {
            return Ok(Reply::default());
        };
        // First all permits: whoever is served beside may be an attempt of this very job.
        let mut had = Vec::with_capacity(self.stages.len());
        for (i, (no, grant)) in self.stages.iter().enumerate() {
            let Some(stage) = job.stages.get(*no).filter(|stage| job.is_leasable(stage)) else { continue };
            // It may have been added again for another queue since it was picked.
            if grant.queue.as_ref().is_some_and(|queue| *queue != stage.spec.queue) {
                continue;
            }
            let id = self.group.unwrap_or(grant.secret);
            let permits = acquire(world, &job, stage, &grant.worker_id, (id, grant.secret));
            had.push((*no, grant, self.slots.get(i), permits));
        }
        let Some(job) = world.job(self.key) else { return Ok(Reply::default()) };
        let mut edit = world.edit(&job);
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
        let (job, applied) = keep(world, &job, edit);
        for (no, slot) in remembered {
            let record = RequestRecord {
                digest: slot.digest,
                jobs: vec![job.key.uid],
                stage_no: Some(no),
                revision: job.revision,
                versions: vec![job.stages[no].fencing_token],
                applied: true,
            };
            world.remember(slot.key, record);
        }
        Ok(Reply { jobs: vec![job], stages: leased, blocked, applied, ..Reply::default() })
    }
}
