//! The place that ready stages share in the line of a resource: when it is taken, and when stages are woken.
//!
//! A stage that waits costs nothing until the resource changes. When the stages are the next in line and there is room, the commit notes that
//! some are woken ([`Wake::Woken`]), and the server that committed it lets that many be picked again. Workers take them, or nobody does: then
//! they stay where they can be picked ([`Wake::Idle`]), and those behind them are served.

use std::time::Duration;

use super::desk::Desk;
use crate::domain::job::Job;
use crate::domain::permit::line::{StagePlace, Wake};
use crate::domain::permit::{Claim, ResourceKey};
use crate::domain::time::Timestamp;

/// How long room is left for stages that were woken.
const WOKEN_FOR: Duration = Duration::from_secs(2);
/// How often it is noted that stages still wait.
const SEEN_EVERY: Duration = Duration::from_secs(5);
/// For how long stages of every queue are woken after those at the head of the line had no workers.
const EVERY_QUEUE_FOR: Duration = Duration::from_secs(30);

impl Desk<'_> {
    /// Wakes the stages that are the next in line, if there is room for one. True if those behind them may be served.
    pub(super) fn serve_stages(&mut self, key: ResourceKey, stages: StagePlace) -> bool {
        let now = self.now;
        let Some(open) = self.open.get_mut(&key) else { return false };
        let resource = &mut open.resource;
        let fits = resource.fits(&resource.claim_of_stages(&stages), now).is_ok();
        let (next, passes) = match stages.wake {
            Wake::Woken { until } if until > now => (stages, false),
            // None came, so the others are first; the stages can be picked, those at the head of other queues too.
            Wake::Woken { .. } if fits => {
                let arrival = resource.take_arrival(now);
                let every_queue_until = Some(now.after(EVERY_QUEUE_FOR));
                (StagePlace { arrival, wake: Wake::Idle, every_queue_until, ..stages }, true)
            }
            // What they were woken for is gone.
            Wake::Woken { .. } => (StagePlace { wake: Wake::None, ..stages }, false),
            Wake::Idle => (stages, true),
            Wake::None if fits => (StagePlace { wake: Wake::Woken { until: now.after(WOKEN_FOR) }, ..stages }, false),
            // Others wait behind it: whoever commits this looks whether any stage is left.
            Wake::None if stages.check_at() <= now && !resource.line.is_empty() => {
                (StagePlace { seen: now, ..stages }, false)
            }
            Wake::None => (stages, false),
        };
        if next != stages {
            resource.state.stages = Some(next);
            open.is_changed = true;
        }
        passes
    }

    /// A stage that waited has got its permit, or waits for another resource: the next are woken when it is their time again.
    pub(super) fn stage_came(&mut self, key: ResourceKey) {
        let now = self.now;
        let Some(open) = self.open.get_mut(&key) else { return };
        if let Some(stages) = open.resource.state.stages.filter(|stages| stages.wake != Wake::None) {
            let arrival = open.resource.take_arrival(now);
            open.resource.state.stages = Some(StagePlace { arrival, wake: Wake::None, ..stages });
            self.changed(key);
        }
    }

    /// Gives a stage that this resource holds up its part of the place that stages share.
    pub(super) fn stage_waits(&mut self, job: &Job, claim: &Claim) {
        let now = self.now;
        let resource = self.get_or_new(&claim.resource);
        let (key, mode) = (resource.key, resource.mode_of(claim));
        if resource.never(claim).is_some() {
            // Only another policy helps, and that is noticed by itself.
            return;
        }
        let Some(stages) = resource.state.stages else {
            let arrival = resource.take_arrival(now);
            resource.state.stages = Some(StagePlace::new(job.priority, arrival, claim.amount, mode, now));
            return self.changed(key);
        };
        let priority = stages.priority.max(job.priority);
        match stages.wake {
            // It was woken, and what it was woken for is gone. Whoever finds none to wake shall not take the place away, and the next
            // wake-up need not wait until this one is over.
            Wake::Woken { .. } | Wake::Idle => {
                resource.state.stages = Some(StagePlace { priority, ..stages });
                self.stage_came(key);
            }
            Wake::None if priority > stages.priority || stages.seen.after(SEEN_EVERY) <= now => {
                resource.state.stages = Some(StagePlace { priority, seen: now, ..stages });
                self.changed(key);
            }
            Wake::None => {}
        }
    }

    /// Makes the shared place that of the stage at the head of the line. What can never be had is the least there is.
    pub(super) fn stage_leads(&mut self, job: &Job, claim: &Claim) {
        let now = self.now;
        let resource = self.get_or_new(&claim.resource);
        let (key, mode) = (resource.key, resource.mode_of(claim));
        let Some(stages) = resource.state.stages.filter(|stages| stages.wake == Wake::None) else { return };
        let next = StagePlace { priority: job.priority, amount: claim.amount, mode, ..stages };
        if next != stages {
            resource.state.stages = Some(StagePlace { seen: now, ..next });
            self.changed(key);
        }
    }

    /// No stage is left that waits since a moment.
    pub(super) fn no_stage_waits(&mut self, key: ResourceKey, arrival: Timestamp) {
        let Some(resource) = self.get(key) else { return };
        if resource.state.stages.take_if(|stages| stages.arrival == arrival).is_some() {
            self.changed(key);
        }
    }
}
