//! What happens to a resource by itself: permits expire, tokens come, breakers let probes through; and the stages in its line have gone, or
//! others stand at its head.

use super::desk::Desk;
use super::stages::claim_of;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::operation::overlay::{Key, Overlay};
use crate::operation::{Operation, Reply};

/// Looks whether something is due at a resource, and serves its line.
#[derive(Debug)]
pub struct WakeResource {
    /// Which.
    pub key: ResourceKey,
    /// Its stored alarm has passed: where nothing is due, since permits were renewed, the alarm is stored anew. Otherwise it would be found
    /// again and again.
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
        let mut desk = Desk::new(overlay, self.key.namespace);
        desk.drop_gone(self.key);
        desk.look(self.key);
        desk.settle();
        let now = desk.now;
        let is_later = |resource: &mut Resource| resource.wakes_at(now).is_none_or(|at| at > now);
        if self.is_overdue && desk.get(self.key).is_some_and(is_later) {
            desk.changed(self.key);
        }
        let applied = desk.close();
        Ok(Reply { applied, ..Reply::default() })
    }
}

/// No more stages wait for a resource, as far as the server saw that was to wake them.
#[derive(Debug)]
pub struct ClearStages {
    /// Which resource.
    pub key: ResourceKey,
    /// The arrival of the place that was looked at; another one stays.
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
        let mut desk = Desk::new(overlay, self.key.namespace);
        desk.no_stage_waits(self.key, self.arrival);
        let applied = desk.close();
        Ok(Reply { applied, ..Reply::default() })
    }
}

/// A stage stands at the head of a line that has stood still: the place of the stages becomes that of this one, if it is not. The one for
/// which they waited may have gone, or its job may have another priority.
#[derive(Debug)]
pub struct LeadLine {
    /// Whose line.
    pub key: ResourceKey,
    /// The job of the stage.
    pub job: JobKey,
    /// The stage.
    pub stage_no: StageNo,
}

impl Operation for LeadLine {
    fn name(&self) -> &'static str {
        "lead_line"
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
        let mut desk = Desk::new(overlay, self.key.namespace);
        desk.stage_leads(&job, claim);
        desk.look(self.key);
        let applied = desk.close();
        Ok(Reply { applied, ..Reply::default() })
    }
}
