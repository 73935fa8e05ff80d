//! Changes of a resource by time: permits expire, tokens arrive, breakers admit probes; and changes of the stages in its wait queue.

use super::resource_tx::ResourceTx;
use super::stages::claim_of;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::operation::overlay::{Key, Overlay};
use crate::operation::{Operation, Reply};

/// Applies due timers of a resource and serves its wait queue.
#[derive(Debug)]
pub struct WakeResource {
    /// Key of the resource.
    pub key: ResourceKey,
    /// Whether its stored timer has passed. If nothing is due, because permits were renewed, the resource is written with its next timer;
    /// otherwise the old one would be found again and again.
    pub is_overdue: bool,
}

impl Operation for WakeResource {
    fn name(&self) -> &'static str {
        "wake_resource"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Resource(self.key)]
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let mut tx = ResourceTx::new(overlay, self.key.namespace);
        tx.dequeue_departed(self.key);
        tx.mark_due(self.key);
        tx.grant_waiters();
        let now = tx.now;
        let is_later = |resource: &mut Resource| resource.wakes_at(now).is_none_or(|at| at > now);
        if self.is_overdue && tx.get(self.key).is_some_and(is_later) {
            tx.mark_changed(self.key);
        }
        let applied = tx.finish();
        Ok(Reply { applied, ..Reply::default() })
    }
}

/// Removes the entry of stages from a wait queue, after a server found no stage to wake.
#[derive(Debug)]
pub struct ClearStages {
    /// Key of the resource.
    pub key: ResourceKey,
    /// Arrival of the entry that was checked. An entry with another arrival stays.
    pub arrival: Timestamp,
}

impl Operation for ClearStages {
    fn name(&self) -> &'static str {
        "clear_stages"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Resource(self.key)]
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let mut tx = ResourceTx::new(overlay, self.key.namespace);
        tx.clear_stages(self.key, self.arrival);
        let applied = tx.finish();
        Ok(Reply { applied, ..Reply::default() })
    }
}

/// Sets the entry of stages to the stage that is at the head now. The stage that it was made for may be gone, or its job
/// may have another priority.
#[derive(Debug)]
pub struct SyncStageHead {
    /// Key of the resource.
    pub key: ResourceKey,
    /// Key of the stage's job.
    pub job: JobKey,
    /// Number of the stage in the job.
    pub stage_no: StageNo,
}

impl Operation for SyncStageHead {
    fn name(&self) -> &'static str {
        "sync_stage_head"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Resource(self.key), Key::Job(self.job)]
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let Some(job) = overlay.job(self.job) else { return Ok(Reply::default()) };
        let stage = job.stages.get(self.stage_no).filter(|stage| job.is_leasable(stage));
        let Some(claim) = stage.and_then(|stage| claim_of(&job, &stage.spec.permits, self.key)) else {
            return Ok(Reply::default());
        };
        let mut tx = ResourceTx::new(overlay, self.key.namespace);
        tx.set_head_stage(&job, claim);
        tx.mark_due(self.key);
        let applied = tx.finish();
        Ok(Reply { applied, ..Reply::default() })
    }
}
