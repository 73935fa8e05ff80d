//! One step of a job: its change between two revisions.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;

use crate::domain::event::JobEvent;
use crate::domain::id::StageNo;
use crate::domain::job::{Job, JobPhase};
use crate::domain::time::Timestamp;

/// The change of a job between two revisions, as it was committed or read from history. At most one change of a state.
#[derive(Debug)]
pub struct JobStep {
    /// The revision before. In between there was only progress.
    pub previous: i64,
    /// The revision it leads to.
    pub revision: i64,
    /// The job at `revision`; at a later revision if the step is described by history alone.
    pub job: Arc<Job>,
    /// The change of a state. None: only progress.
    pub event: Option<Arc<JobEvent>>,
    /// Stages of `job` that changed. None: the step is described by history alone, and they are in `event`.
    pub stages: Option<Vec<StageNo>>,
    /// Time of the change, or the time at which this server learned of it.
    pub time: Timestamp,
    /// When this server committed it or learned of it; of merged steps, the first of them.
    pub known_since: Instant,
    /// Approximate size of what this step alone holds of `job`: a job that was read is a copy, one that was committed shares its stages.
    own_bytes: usize,
    /// The encoding for WatchJob and WatchJobs.
    pub encoded: SharedEncoding,
}

/// An encoding that is made once, by the first stream that needs it, for all streams.
#[derive(Debug, Default)]
pub struct SharedEncoding(OnceLock<Bytes>);

impl SharedEncoding {
    /// The encoding. It is made by `encode` if it was not made before.
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn get<E>(&self, encode: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        if let Some(encoded) = self.0.get() {
            return Ok(encoded.clone());
        }
        let encoded = encode()?;
        Ok(self.0.get_or_init(|| encoded).clone())
    }
}

/// The changes of a job between two revisions.
#[derive(Clone, Debug)]
pub struct RevisionRange {
    /// The revision before. The same as that of `job`: it is not known what led to it.
    pub from: i64,
    /// The job after the changes.
    pub job: Arc<Job>,
    /// The changes of states in between, in order.
    pub events: Vec<Arc<JobEvent>>,
    /// The stages that changed in between.
    pub stages: Vec<StageNo>,
    /// Whether `job` was read, and shares no memory with earlier states.
    pub is_copy: bool,
}

impl RevisionRange {
    /// Changes that were read. Which stages changed is seen from the stages themselves.
    pub fn read(from: i64, job: Arc<Job>, events: Vec<Arc<JobEvent>>) -> Self {
        let changed = job.stages.iter().filter(|stage| stage.changed_revision > from);
        let stages = changed.map(|stage| stage.no).collect();
        Self { from, job, events, stages, is_copy: true }
    }

    /// A job of which it is not known what led to its revision.
    pub fn unknown(job: Arc<Job>) -> Self {
        Self { from: job.revision, job, events: Vec::new(), stages: Vec::new(), is_copy: true }
    }

    /// The steps of the changes. The last one is described by `job`, those before it by history.
    pub fn steps(self, now: Timestamp) -> Vec<Arc<JobStep>> {
        let last = self.job.revision;
        let mut steps = Vec::with_capacity(self.events.len() + 1);
        let (mut previous, mut final_event) = (self.from, None);
        for event in self.events {
            if event.revision >= last {
                final_event = Some(event);
                break;
            }
            let (revision, time) = (event.revision, event.event_time);
            steps.push(JobStep::new(previous, revision, self.job.clone(), Some(event), None, time));
            previous = revision;
        }
        let time = final_event.as_ref().map_or(now, |event| event.event_time);
        let own_bytes = if self.is_copy { self.job.weight_bytes() } else { 0 };
        steps.push(JobStep {
            own_bytes,
            ..JobStep::new(previous, last, self.job, final_event, Some(self.stages), time)
        });
        steps.into_iter().map(Arc::new).collect()
    }
}

impl JobStep {
    fn new(
        previous: i64,
        revision: i64,
        job: Arc<Job>,
        event: Option<Arc<JobEvent>>,
        stages: Option<Vec<StageNo>>,
        time: Timestamp,
    ) -> Self {
        let (known_since, encoded) = (Instant::now(), SharedEncoding::default());
        Self { previous, revision, job, event, stages, time, known_since, own_bytes: 0, encoded }
    }

    /// A step that is described by history alone, with the job at a later revision.
    pub fn of_history(previous: i64, job: Arc<Job>, event: Arc<JobEvent>) -> Self {
        let (revision, time) = (event.revision, event.event_time);
        Self::new(previous, revision, job, Some(event), None, time)
    }

    /// The same step for a watch that was last sent another revision.
    pub fn after(self: &Arc<Self>, previous: i64) -> Arc<Self> {
        if previous == self.previous {
            return self.clone();
        }
        let (job, event, stages) = (self.job.clone(), self.event.clone(), self.stages.clone());
        Arc::new(Self::new(previous, self.revision, job, event, stages, self.time))
    }

    /// Consecutive steps of progress as one. None: there are none.
    pub fn merged(steps: &[Arc<Self>]) -> Option<Arc<Self>> {
        let (first, last) = (steps.first()?, steps.last()?);
        if steps.len() == 1 {
            return Some(last.clone());
        }
        let mut stages: Vec<StageNo> = steps.iter().flat_map(|step| step.stages.iter().flatten().copied()).collect();
        stages.sort_unstable();
        stages.dedup();
        let (previous, revision, job) = (first.previous, last.revision, last.job.clone());
        let merged = Self::new(previous, revision, job, None, Some(stages), last.time);
        Some(Arc::new(Self { known_since: first.known_since, ..merged }))
    }

    /// Whether it is progress alone, so that it may be merged with others.
    pub fn is_progress(&self) -> bool {
        self.event.is_none()
    }

    /// The state of the job at `revision`.
    pub fn phase(&self) -> JobPhase {
        match (&self.event, &self.stages) {
            (Some(event), None) => event.job_phase,
            (_, _) => self.job.state.phase(),
        }
    }

    /// Approximate size in memory.
    pub fn weight_bytes(&self) -> usize {
        let listed =
            self.stages.as_ref().map_or(0, Vec::len).max(self.event.as_ref().map_or(0, |event| event.stages.len()));
        512 + 512 * listed + self.own_bytes
    }
}
