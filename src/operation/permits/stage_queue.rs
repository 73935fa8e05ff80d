//! The entry that ready stages share in the wait queue of a resource: when it is made, and when stages are woken.
//!
//! A waiting stage costs nothing until the resource changes. When the entry is at the head and there is headroom, the commit records that
//! stages are woken ([`StageWakeUp::Woken`]), and the server that committed it makes that many available to workers again. If no worker
//! leases them, they stay available ([`StageWakeUp::Idle`]), and waiters behind the entry are served.

use std::time::Duration;

use super::resource_tx::ResourceTx;
use crate::domain::job::Job;
use crate::domain::permit::wait_queue::{StageWaiters, StageWakeUp};
use crate::domain::permit::{PermitClaim, ResourceKey};
use crate::domain::time::Timestamp;

/// Time for which headroom is reserved for woken stages.
const WOKEN_FOR: Duration = Duration::from_secs(2);
/// Interval at which it is recorded that stages still wait.
const SEEN_EVERY: Duration = Duration::from_secs(5);
/// Time for which stages of every work queue are woken after those at the head had no workers.
const EVERY_QUEUE_FOR: Duration = Duration::from_secs(30);

impl ResourceTx<'_> {
    /// Wakes stages, if there is headroom for one; their entry is at the head. Returns whether waiters behind the entry can be served.
    pub(super) fn serve_stages(&mut self, key: ResourceKey, stages: StageWaiters) -> bool {
        let now = self.now;
        let Some(open) = self.open.get_mut(&key) else { return false };
        let resource = &mut open.resource;
        let fits = resource.fits(&resource.claim_of_stages(&stages), now).is_ok();
        let (next, passes) = match stages.wake {
            StageWakeUp::Woken { until } if until > now => (stages, false),
            // No worker took them, so waiters behind them are first. The stages stay available, those at the head of other work queues too.
            StageWakeUp::Woken { .. } if fits => {
                let arrival = resource.take_arrival(now);
                let every_queue_until = Some(now.after(EVERY_QUEUE_FOR));
                (StageWaiters { arrival, wake: StageWakeUp::Idle, every_queue_until, ..stages }, true)
            }
            // The headroom that they were woken for is gone.
            StageWakeUp::Woken { .. } => (StageWaiters { wake: StageWakeUp::None, ..stages }, false),
            StageWakeUp::Idle => (stages, true),
            StageWakeUp::None if fits => {
                (StageWaiters { wake: StageWakeUp::Woken { until: now.after(WOKEN_FOR) }, ..stages }, false)
            }
            // Callers wait behind the entry: the server that commits this checks whether a stage still waits.
            StageWakeUp::None if stages.recheck_at() <= now && !resource.wait_queue.is_empty() => {
                (StageWaiters { seen: now, ..stages }, false)
            }
            StageWakeUp::None => (stages, false),
        };
        if next != stages {
            resource.state.stages = Some(next);
            open.is_changed = true;
        }
        passes
    }

    /// A stage that waited got its permit, or waits for another resource now. The next stages are woken when their entry is
    /// at the head again.
    pub(super) fn stage_arrived(&mut self, key: ResourceKey) {
        let now = self.now;
        let Some(open) = self.open.get_mut(&key) else { return };
        if let Some(stages) = open.resource.state.stages.filter(|stages| stages.wake != StageWakeUp::None) {
            let arrival = open.resource.take_arrival(now);
            open.resource.state.stages = Some(StageWaiters { arrival, wake: StageWakeUp::None, ..stages });
            self.mark_changed(key);
        }
    }

    /// Adds a stage that this resource blocks to the shared entry.
    pub(super) fn enqueue_stage(&mut self, job: &Job, claim: &PermitClaim) {
        let now = self.now;
        let resource = self.get_or_new(&claim.resource);
        let (key, mode) = (resource.key, resource.mode_of(claim));
        if resource.why_impossible(claim).is_some() {
            // Only another policy makes the claim possible, and a change of the policy wakes stages.
            return;
        }
        let Some(stages) = resource.state.stages else {
            let arrival = resource.take_arrival(now);
            resource.state.stages = Some(StageWaiters::new(job.priority, arrival, claim.amount, mode, now));
            return self.mark_changed(key);
        };
        let priority = stages.priority.max(job.priority);
        match stages.wake {
            // It was woken, and the headroom is gone. The new arrival prevents a server that finds no stage to wake from removing the
            // entry, and the next wake-up need not wait for the end of this one.
            StageWakeUp::Woken { .. } | StageWakeUp::Idle => {
                resource.state.stages = Some(StageWaiters { priority, ..stages });
                self.stage_arrived(key);
            }
            StageWakeUp::None if priority > stages.priority || stages.seen.after(SEEN_EVERY) <= now => {
                resource.state.stages = Some(StageWaiters { priority, seen: now, ..stages });
                self.mark_changed(key);
            }
            StageWakeUp::None => {}
        }
    }

    /// Sets priority and claim of the shared entry to those of the stage at its head.
    pub(super) fn set_head_stage(&mut self, job: &Job, claim: &PermitClaim) {
        let now = self.now;
        let resource = self.get_or_new(&claim.resource);
        let (key, mode) = (resource.key, resource.mode_of(claim));
        let Some(stages) = resource.state.stages.filter(|stages| stages.wake == StageWakeUp::None) else { return };
        let next = StageWaiters { priority: job.priority, amount: claim.amount, mode, ..stages };
        if next != stages {
            resource.state.stages = Some(StageWaiters { seen: now, ..next });
            self.mark_changed(key);
        }
    }

    /// Removes the entry with this arrival: no stage waits any more.
    pub(super) fn clear_stages(&mut self, key: ResourceKey, arrival: Timestamp) {
        let Some(resource) = self.get(key) else { return };
        if resource.state.stages.take_if(|stages| stages.arrival == arrival).is_some() {
            self.mark_changed(key);
        }
    }
}
