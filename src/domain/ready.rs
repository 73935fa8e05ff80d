//! Stages that can be leased: their order in a queue, and how a change of their job affects them.

use super::id::{JobKey, Name, NamespaceId, StageNo};
use super::job::{Job, JobChanges};
use super::permit::ResourceKey;
use super::stage::Stage;
use super::time::Timestamp;
use uuid::Uuid;

/// A queue of a namespace.
pub type QueueKey = (NamespaceId, Name);

/// A stage that can be leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyStage {
    /// Key of the job.
    pub key: JobKey,
    /// Number of the stage in the job.
    pub stage_no: StageNo,
    /// Queue that the stage waits in.
    pub queue: Name,
    /// Priority of the job; higher is leased first.
    pub priority: i32,
    /// When the stage became ready.
    pub ready_at: Timestamp,
    /// Group key of the stage. `None`: it is leased by itself.
    pub group_key: Option<Name>,
    /// Whether it is leased without other stages of its group, because its last attempt lost its lease.
    pub alone: bool,
}

/// Position of a ready stage in its queue: highest priority first, then earliest ready time. Job uid and stage number make it unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReadyPosition {
    /// Negated priority, so that positions sort in ascending order.
    pub rank: i32,
    /// When the stage became ready.
    pub ready_at: Timestamp,
    /// Uid of the job.
    pub uid: Uuid,
    /// Number of the stage in the job.
    pub stage_no: StageNo,
}

impl ReadyPosition {
    /// Position before every stage of every queue.
    pub const FRONT: Self = Self { rank: -i32::MAX, ready_at: Timestamp(0), uid: Uuid::nil(), stage_no: 0 };
}

impl ReadyStage {
    /// Position of the stage in its queue.
    pub fn place(&self) -> ReadyPosition {
        ReadyPosition { rank: -self.priority, ready_at: self.ready_at, uid: self.key.uid, stage_no: self.stage_no }
    }

    /// Job and stage number.
    pub fn id(&self) -> (JobKey, StageNo) {
        (self.key, self.stage_no)
    }
}

/// How a committed change of a job affects whether one of its stages can be leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyChange {
    /// Readiness did not change.
    None,
    /// A new stage is ready from now on. It has no row in `ready_stages` yet.
    Created,
    /// An existing stage is ready from now on.
    Became,
    /// A ready stage was added again with another spec; it is ready from now on.
    Replaced,
    /// It stays ready since the same time; its priority changed, or whether it is leased alone.
    Moved,
    /// The stage can no longer be leased.
    Ended,
}

impl ReadyStage {
    /// Queue of the stage with its namespace.
    pub fn queue_key(&self) -> QueueKey {
        (self.key.namespace, self.queue.clone())
    }
}

impl Job {
    /// Queue of a stage of this job with its namespace.
    pub fn queue_key(&self, stage: &Stage) -> QueueKey {
        (self.key.namespace, stage.spec.queue.clone())
    }

    /// Makes the queue entry of a stage that became ready at `ready_at`.
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

    /// Resource that a stage waits for before it was tried: that of its first claim. `None`: the stage needs no permit.
    pub fn first_resource(&self, stage: &Stage) -> Option<ResourceKey> {
        let first = stage.spec.permits.first()?;
        Some(ResourceKey::of(self.key.namespace, &first.resource))
    }

    /// Compares a stage in `base` and in this job.
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

    /// Stages that can have become ready, or stopped being ready, with the change from `base` to this job.
    pub fn stages_to_look_at<'a>(
        &'a self,
        base: Option<&Job>,
        changes: &'a JobChanges,
    ) -> impl Iterator<Item = &'a Stage> + use<'a> {
        // A pause, a resume or a new priority affects all stages, not only those that changed.
        let all = base.is_some_and(|base| {
            base.state.allows_leases() != self.state.allows_leases() || base.priority != self.priority
        });
        let every = all.then(|| self.stages.iter().map(|stage| &**stage)).into_iter().flatten();
        let touched = (!all).then(|| changes.stages.iter().map(|no| &self.stages[*no])).into_iter().flatten();
        every.chain(touched)
    }
}
