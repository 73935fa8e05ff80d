//! The workbench of one operation on one job: a private copy, what was touched, and what history shall say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Job, JobState};
use crate::domain::event::{EventKind, JobEvent, StageChange};
use crate::domain::id::{Name, StageNo};
use crate::domain::json::Document;
use crate::domain::permit::ResourceKey;
use crate::domain::stage::{Stage, StageState};
use crate::domain::time::Timestamp;

/// What an edit, or several on one job, left for the database beside the job itself.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Stages whose row changed.
    pub stages: BTreeSet<StageNo>,
    /// Stages whose dependencies changed after their creation.
    pub rewired: BTreeSet<StageNo>,
    /// Stages whose lease was extended by a repeated delivery.
    pub renewed: BTreeSet<StageNo>,
    /// Ready stages that wait for a resource until they are woken; that alone is no new revision.
    pub blocked: BTreeMap<StageNo, ResourceKey>,
    /// Artifacts that were set, or removed by a new run.
    pub artifacts: BTreeMap<StageNo, Option<Document>>,
    /// Stages that were added again as something else.
    pub renewed_specs: BTreeSet<StageNo>,
    /// Inputs of new stages, and of those that were added again.
    pub inputs: BTreeMap<StageNo, Option<Document>>,
    /// The payload of a new job.
    pub payload: Option<Document>,
    /// A result that was set, or removed by a new run.
    pub result: Option<Option<Document>>,
    /// History, one per revision in which a state changed.
    pub events: Vec<JobEvent>,
}

impl Changes {
    /// Adds those of a later edit of the same job.
    pub fn absorb(&mut self, later: Changes) {
        self.stages.extend(later.stages);
        self.rewired.extend(later.rewired);
        self.renewed.extend(later.renewed);
        self.renewed_specs.extend(later.renewed_specs);
        self.blocked.extend(later.blocked);
        self.artifacts.extend(later.artifacts);
        self.inputs.extend(later.inputs);
        self.payload = later.payload.or(self.payload.take());
        self.result = later.result.or(self.result.take());
        self.events.extend(later.events);
    }
}

/// One operation's changes to one job. Dropped, it leaves no trace.
#[derive(Debug)]
pub struct Edit {
    /// The job as changed so far; its revision is already the one it will have.
    pub job: Job,
    /// When, for what is kept: never before the job's creation.
    pub now: Timestamp,
    /// The database's clock, from which what is to come is counted. It may have stepped back since the job's creation.
    pub clock: Timestamp,
    base: Arc<Job>,
    changes: Changes,
    touched: bool,
    kind: Option<EventKind>,
    worker_id: Option<Name>,
}

impl Edit {
    /// Begins to change a job at a moment; that of its creation, where that is later. Servers know the database's clock by lower bounds,
    /// so one may be behind that which created the job; but history that is older than the job counts as an earlier job's.
    pub fn begin(base: Arc<Job>, now: Timestamp) -> Self {
        let mut job = Job::clone(&base);
        let (now, clock) = (now.max(job.meta.create_time), now);
        job.revision += 1;
        Self { job, now, clock, base, changes: Changes::default(), touched: false, kind: None, worker_id: None }
    }

    /// Says what history shall call this; the first word stands.
    pub(super) fn record(&mut self, kind: EventKind) {
        self.touched = true;
        self.kind.get_or_insert(kind);
    }

    /// Says that the worker who holds a stage did it.
    pub(super) fn by_holder(&mut self, no: StageNo) {
        self.worker_id = self.job.stages[no].lease().map(|lease| lease.worker_id.clone());
    }

    /// Marks the job's own row as changed.
    pub(super) fn touch(&mut self) {
        self.touched = true;
    }

    /// Changes a stage; its version grows with the first change of this edit.
    pub(super) fn alter(&mut self, no: StageNo, change: impl FnOnce(&mut Stage)) {
        self.touched = true;
        let revision = self.job.revision;
        let first = self.changes.stages.insert(no);
        let stage = self.job.stages.get_mut(no).expect("the number comes from this job");
        self.job.tally.remove(stage);
        change(stage);
        if first {
            stage.version += 1;
            stage.changed_revision = revision;
        }
        self.job.tally.add(stage);
    }

    /// Puts a stage into a state.
    pub(super) fn enter(&mut self, no: StageNo, state: StageState) {
        let now = self.now;
        self.alter(no, |stage| {
            stage.end_time = state.phase().is_terminal().then_some(now);
            stage.state = state;
        });
    }

    pub(super) fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    /// Stages of attempts that held permits and have changed: as they were, and as they are now.
    pub fn with_permits(&self) -> impl Iterator<Item = (&Stage, &Stage)> {
        let both = |no: &StageNo| Some((&**self.base.stages.get(*no)?, &self.job.stages[*no]));
        self.changes.stages.iter().filter_map(both).filter(|(was, _)| !was.permits().is_empty())
    }

    /// Ends the edit: the job, and what else is to be stored; `None` if nothing changed.
    pub fn finish(mut self) -> Option<(Arc<Job>, Changes)> {
        if !self.touched {
            self.job.revision = self.base.revision;
            let is_blocked = !self.changes.blocked.is_empty();
            return is_blocked.then(|| (Arc::new(self.job), self.changes));
        }
        if self.job.state.is_active() {
            // A high-water mark: a stage that is tried again, or a new one, does not set the job back.
            self.job.progress = self.job.progress.max(self.job.tally.progress());
        } else if self.job.state == JobState::Succeeded {
            self.job.progress = 1.0;
        }
        if let Some(kind) = self.kind {
            let event = self.event(kind);
            self.changes.events.push(event);
        }
        Some((Arc::new(self.job), self.changes))
    }

    fn event(&self, kind: EventKind) -> JobEvent {
        let changed = |no: &StageNo| {
            let stage = &self.job.stages[*no];
            let base = self.base.stages.get(*no);
            let before = base.map(|before| (before.phase(), before.attempt));
            let lease = stage.lease().or_else(|| base.and_then(|before| before.lease()));
            (before != Some((stage.phase(), stage.attempt))).then(|| StageChange {
                stage_no: *no,
                stage_name: stage.spec.name.clone(),
                phase: stage.phase(),
                attempt: stage.attempt,
                version: stage.version,
                progress: stage.progress,
                message: stage.message.clone(),
                until: match stage.state {
                    StageState::Backoff { until } => Some(until),
                    _ => None,
                },
                fencing_token: stage.lease().map(|_| stage.fencing_token),
                worker_id: lease.map(|lease| lease.worker_id.clone()),
                failure: stage.failure.clone().filter(|failure| failure.failure_time == self.now),
            })
        };
        let listed = kind != EventKind::JobSubmitted;
        JobEvent {
            revision: self.job.revision,
            run: self.job.run,
            event_time: self.now,
            kind,
            job_phase: self.job.state.phase(),
            progress: Some(self.job.progress),
            worker_id: self.worker_id.clone(),
            stages: if listed { self.changes.stages.iter().filter_map(changed).collect() } else { Vec::new() },
        }
    }
}
