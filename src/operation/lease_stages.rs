//! Gives ready stages of one job to a worker.

use uuid::Uuid;

use super::permits::stages::{acquire, forgotten_at};
use super::{Operation, Reply, keep};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::Grant;
use crate::domain::refusal::Refusal;
use crate::engine::world::{Key, World};

/// Leases stages that the dispatcher has reserved, each together with the permits it needs. Those that can no longer be leased are
/// left out; those that have to wait for a permit are noted as such.
#[derive(Debug)]
pub struct LeaseStages {
    /// Which job.
    pub key: JobKey,
    /// Which stages, each with its own secret.
    pub stages: Vec<(StageNo, Grant)>,
    /// Of stages that are leased as a group, the id of the permits that they share.
    pub group: Option<Uuid>,
}

impl Operation for LeaseStages {
    fn name(&self) -> &'static str {
        "lease_stages"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.key)]
    }

    fn is_urgent(&self) -> bool {
        // Accepted work goes on before new work is accepted; workers bound it by their polls.
        true
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let Some(job) = world.job(self.key) else {
            return Ok(Reply::default());
        };
        // First all permits: whoever is served beside may be an attempt of this very job.
        let mut had = Vec::with_capacity(self.stages.len());
        for (no, grant) in &self.stages {
            let Some(stage) = job.stages.get(*no).filter(|stage| job.is_leasable(stage)) else { continue };
            // It may have been added again for another queue since it was picked.
            if grant.queue.as_ref().is_some_and(|queue| *queue != stage.spec.queue) {
                continue;
            }
            let id = self.group.unwrap_or(grant.secret);
            had.push((*no, grant, acquire(world, &job, stage, &grant.worker_id, (id, grant.secret))));
        }
        let Some(job) = world.job(self.key) else { return Ok(Reply::default()) };
        let mut edit = world.edit(&job);
        let (mut leased, mut blocked) = (Vec::with_capacity(had.len()), Vec::new());
        for (no, grant, permits) in had {
            match permits {
                Ok(permits) => {
                    edit.lease(no, grant, permits)?;
                    leased.push(no);
                }
                Err((resource, blocker)) => {
                    edit.block(no, resource.uid, forgotten_at(world.now(), &blocker));
                    blocked.push((resource, blocker.block.reason));
                }
            }
        }
        let (job, applied) = keep(world, &job, edit);
        Ok(Reply { jobs: vec![job], stages: leased, blocked, applied, ..Reply::default() })
    }
}
