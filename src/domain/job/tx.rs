//! The changes of one operation to one job: a private copy, the changed rows, and the event for history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Job, JobState};
use crate::domain::event::{EventKind, JobEvent, StageChange};
use crate::domain::id::{Name, StageNo};
use crate::domain::json::Document;
use crate::domain::permit::ResourceKey;
use crate::domain::stage::{Stage, StagePhase, StageState};
use crate::domain::time::Timestamp;

/// Changes of one job, beside the job itself, for the database; of one or several transactions.
#[derive(Clone, Debug, Default)]
pub struct JobChanges {
    /// Stages with a changed row.
    pub stages: BTreeSet<StageNo>,
    /// Stages with dependencies that changed after their creation.
    pub rewired: BTreeSet<StageNo>,
    /// Stages with a lease that a repeated delivery extended.
    pub renewed: BTreeSet<StageNo>,
    /// Ready stages that wait for a resource until they are woken. This alone makes no new revision.
    pub blocked: BTreeMap<StageNo, ResourceKey>,
    /// Artifacts that were set. `None`: removed by a new run.
    pub artifacts: BTreeMap<StageNo, Option<Document>>,
    /// Stages that were added again with another spec.
    pub renewed_specs: BTreeSet<StageNo>,
    /// Inputs of new stages, and of stages that were added again. `None`: removed.
    pub inputs: BTreeMap<StageNo, Option<Document>>,
    /// Payload of a new job.
    pub payload: Option<Document>,
    /// Result that was set. `Some(None)`: removed by a new run. `None`: unchanged.
    pub result: Option<Option<Document>>,
    /// Events, one per revision in which a state changed.
    pub events: Vec<JobEvent>,
}

impl JobChanges {
    /// Adds the changes of a later transaction on the same job.
    pub fn merge(&mut self, later: JobChanges) {
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

/// Transaction of one operation on one job. Dropping it discards the changes.
#[derive(Debug)]
pub struct JobTx {
    /// Job with the changes so far. Its revision is already the new one.
    pub job: Job,
    /// Time of the change, for stored times and history: never before the job's create time.
    pub now: Timestamp,
    /// Database clock, from which timers are set. It may have stepped back since the job's creation.
    pub clock: Timestamp,
    base: Arc<Job>,
    changes: JobChanges,
    touched: bool,
    kind: Option<EventKind>,
    worker_id: Option<Name>,
}

impl JobTx {
    /// Starts a transaction at `now`, or at the job's create time if that is later. Servers know lower bounds of the database clock, so
    /// this server may be behind the one that created the job; but history before the create time would count as that of an earlier job
    /// with the same id.
    pub fn begin(base: Arc<Job>, now: Timestamp) -> Self {
        let mut job = Job::clone(&base);
        let (now, clock) = (now.max(job.meta.create_time), now);
        job.revision += 1;
        Self { job, now, clock, base, changes: JobChanges::default(), touched: false, kind: None, worker_id: None }
    }

    /// Sets the kind of the event for history. The first call counts.
    pub(super) fn record_event(&mut self, kind: EventKind) {
        self.touched = true;
        self.kind.get_or_insert(kind);
    }

    /// Sets the worker of the event to the one that holds the stage.
    pub(super) fn record_worker(&mut self, no: StageNo) {
        self.worker_id = self.job.stages[no].lease().map(|lease| lease.worker_id.clone());
    }

    /// Marks the job's own row as changed.
    pub(super) fn mark_changed(&mut self) {
        self.touched = true;
    }

    /// Changes a stage. The first change in this transaction increments its version.
    pub(super) fn update_stage(&mut self, no: StageNo, change: impl FnOnce(&mut Stage)) {
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

    /// Sets the state of a stage.
    pub(super) fn set_stage_state(&mut self, no: StageNo, state: StageState) {
        debug_assert!(!self.job.stages[no].phase().is_terminal(), "a stage that ended changes only by starting over");
        let now = self.now;
        self.update_stage(no, |stage| {
            stage.end_time = state.phase().is_terminal().then_some(now);
            stage.state = state;
        });
    }

    pub(super) fn changes(&mut self) -> &mut JobChanges {
        &mut self.changes
    }

    /// Changed stages with an attempt that held permits: before and after this transaction.
    pub fn stages_with_permits(&self) -> impl Iterator<Item = (&Stage, &Stage)> {
        let both = |no: &StageNo| Some((&**self.base.stages.get(*no)?, &self.job.stages[*no]));
        self.changes.stages.iter().filter_map(both).filter(|(was, _)| !was.permits().is_empty())
    }

    /// Ends the transaction. Returns the job and the changes to store. `None`: nothing changed.
    pub fn finish(mut self) -> Option<(Arc<Job>, JobChanges)> {
        if !self.touched {
            self.job.revision = self.base.revision;
            let is_blocked = !self.changes.blocked.is_empty();
            return is_blocked.then(|| (Arc::new(self.job), self.changes));
        }
        if self.job.state.is_active() {
            // Progress of a job does not decrease: neither a retried stage nor a new one lowers it.
            self.job.progress = self.job.progress.max(self.job.tally.progress());
        } else if self.job.state == JobState::Succeeded {
            self.job.progress = 1.0;
        }
        if let Some(kind) = self.kind {
            let event = self.event(kind);
            self.changes.events.push(event);
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
        Some((Arc::new(self.job), self.changes))
    }

    /// Panics if a decision broke an invariant of the job or of a changed stage. Only for debug builds. Its cost depends on the changed stages,
    /// not on all of them.
    fn check_invariants(&self) {
        let (job, base) = (&self.job, &self.base);
        assert_eq!(job.revision, base.revision + 1, "a transaction makes one revision");
        assert_eq!(job.tally.total() as usize, job.stages.len(), "the tally counts every stage once");
        assert!(!job.state.is_terminal() || job.tally.open() == 0, "an ended job has no open stage");
        if job.run == base.run {
            assert!(job.progress >= base.progress, "progress does not decrease within a run");
            assert!(!base.state.is_terminal() || job.state == base.state, "an ended run keeps its state");
        }
        for &no in &self.changes.stages {
            let (stage, before) = (&job.stages[no], base.stages.get(no));
            assert_eq!(stage.version, before.map_or(0, |before| before.version) + 1, "a change makes one version");
            assert!(
                before.is_none_or(|before| before.fencing_token <= stage.fencing_token),
                "fencing tokens only grow"
            );
            assert_eq!(stage.pending, job.pending_of(stage), "pending counts the open dependencies");
            assert!(stage.phase() != StagePhase::Ready || stage.pending == 0, "a ready stage has no open dependency");
        }
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
