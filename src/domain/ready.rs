//! Stages that can be leased: their order in a queue, and what a change of a job does to them.

use super::id::{JobKey, Name, NamespaceId, StageNo};
use super::job::{Changes, Job};
use super::permit::ResourceKey;
use super::stage::Stage;
use super::time::Timestamp;
use uuid::Uuid;

/// A stage that can be leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyStage {
    /// The job.
    pub key: JobKey,
    /// The stage.
    pub stage_no: StageNo,
    /// The queue of the stage.
    pub queue: Name,
    /// The priority of the job.
    pub priority: i32,
    /// When the stage became ready.
    pub ready_at: Timestamp,
    /// The group of the stage. None: it has none.
    pub group_key: Option<Name>,
    /// Whether it is leased alone, because its last attempt ended with the lease.
    pub alone: bool,
}

/// The position of a ready stage in its queue: the highest priority first, then the earliest ready time. The job's uid and the stage number
/// make it unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The negated priority.
    pub rank: i32,
    /// When the stage became ready.
    pub ready_at: Timestamp,
    /// The job's uid.
    pub uid: Uuid,
    /// The stage.
    pub stage_no: StageNo,
}

impl Place {
    /// The front of every queue.
    pub const FRONT: Self = Self { rank: -i32::MAX, ready_at: Timestamp(0), uid: Uuid::nil(), stage_no: 0 };
}

impl ReadyStage {
    /// The position in its queue.
    pub fn place(&self) -> Place {
        Place { rank: -self.priority, ready_at: self.ready_at, uid: self.key.uid, stage_no: self.stage_no }
    }

    /// The job and the stage.
    pub fn id(&self) -> (JobKey, StageNo) {
        (self.key, self.stage_no)
    }
}

/// What a committed change of a job means for the readiness of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyChange {
    /// Nothing.
    None,
    /// A new stage, which no row can be of, becomes ready now.
    Created,
    /// It becomes ready now.
    Became,
    /// It was ready and is another stage now (added again); it is ready from now on.
    Replaced,
    /// It stays ready since when it was, and its priority, or whether it is leased alone, changed.
    Moved,
    /// It can no longer be leased.
    Ended,
}

impl ReadyStage {
    /// Its queue, with the namespace.
    pub fn queue_key(&self) -> (NamespaceId, Name) {
        (self.key.namespace, self.queue.clone())
    }
}

impl Job {
    /// The queue of one of its stages, with the namespace.
    pub fn queue_key(&self, stage: &Stage) -> (NamespaceId, Name) {
        (self.key.namespace, stage.spec.queue.clone())
    }

    /// A stage of it that became ready at a moment.
    pub fn ready_stage(&self, stage: &Stage, ready_at: Timestamp) -> ReadyStage {
        ReadyStage {
            key: self.key,
            stage_no: stage.no,
            queue: stage.spec.queue.clone(),
            priority: self.priority,
            ready_at,
            group_key: stage.spec.group_key.clone(),
            alone: stage.is_suspect(),
        }
    }

    /// The resource in whose line a stage may wait from the beginning. None: it needs no permit.
    pub fn first_resource(&self, stage: &Stage) -> Option<ResourceKey> {
        let first = stage.spec.permits.first()?;
        Some(ResourceKey::of(self.key.namespace, &first.resource))
    }

    /// What the change from `base` to this job means for one of its stages.
    pub fn ready_change(&self, base: Option<&Job>, stage: &Stage) -> ReadyChange {
        let was = base.and_then(|base| Some((base, base.stages.get(stage.no)?)));
        let was_ready = was.is_some_and(|(base, was)| base.is_leasable(was));
        match (was, self.is_leasable(stage)) {
            (None, true) => ReadyChange::Created,
            (Some(_), true) if !was_ready => ReadyChange::Became,
            (Some((_, was)), true) if was.plan_digest != stage.plan_digest => ReadyChange::Replaced,
            (Some((base, was)), true) if base.priority != self.priority || was.is_suspect() != stage.is_suspect() => {
                ReadyChange::Moved
            }
            (_, false) if was_ready => ReadyChange::Ended,
            (_, _) => ReadyChange::None,
        }
    }

    /// The stages whose readiness the change from `base` to this job can have changed.
    pub fn stages_to_look_at<'a>(
        &'a self,
        base: Option<&Job>,
        changes: &'a Changes,
    ) -> impl Iterator<Item = &'a Stage> + use<'a> {
        // A pause, a resumption or a new priority concerns all stages, not only those that changed.
        let all =
            base.is_some_and(|base| base.state.hands_out() != self.state.hands_out() || base.priority != self.priority);
        let every = all.then(|| self.stages.iter().map(|stage| &**stage)).into_iter().flatten();
        let touched = (!all).then(|| changes.stages.iter().map(|no| &self.stages[*no])).into_iter().flatten();
        every.chain(touched)
    }
}
