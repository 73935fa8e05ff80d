//! One piece of news of a job: what became of it between two revisions.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;

use crate::domain::event::JobEvent;
use crate::domain::id::StageNo;
use crate::domain::job::{Job, JobPhase};
use crate::domain::time::Timestamp;

/// What became of a job between two revisions, told by who committed it or read from history. At most one change of a state.
#[derive(Debug)]
pub struct Step {
    /// The revision before it; in between there were only steps of progress.
    pub previous: i64,
    /// The revision it leads to.
    pub revision: i64,
    /// The job at `revision`; where the step is told from history alone, the job as it was later.
    pub job: Arc<Job>,
    /// The change of a state. `None`: only progress.
    pub event: Option<Arc<JobEvent>>,
    /// Stages of `job` that changed. `None` where the step is told from history alone: then `event` knows.
    pub stages: Option<Vec<StageNo>>,
    /// When it happened, or when this server heard of it.
    pub time: Timestamp,
    /// When this server committed it, or heard of it; of merged steps the first.
    pub known_since: Instant,
    /// Bytes of `job` that no other step shares, roughly: what is read is a copy, what is committed shares its stages.
    own_bytes: usize,
    /// Its encoding.
    pub encoded: Encoded,
}

/// What is encoded once, by the first who needs it, for all who get it.
#[derive(Debug, Default)]
pub struct Encoded(OnceLock<Bytes>);

impl Encoded {
    /// The encoding, made now if it was not before.
    pub fn get<E>(&self, encode: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        if let Some(encoded) = self.0.get() {
            return Ok(encoded.clone());
        }
        let encoded = encode()?;
        Ok(self.0.get_or_init(|| encoded).clone())
    }
}

/// What is known of a job between two revisions.
#[derive(Clone, Debug)]
pub struct Span {
    /// The revision before.
    pub from: i64,
    /// The job after.
    pub job: Arc<Job>,
    /// The changes of states in between, in order.
    pub events: Vec<Arc<JobEvent>>,
    /// The stages that changed in between.
    pub stages: Vec<StageNo>,
    /// Whether `job` was read, and shares nothing with what was told before.
    pub is_copy: bool,
}

impl Span {
    /// What is read of a job: which stages changed can be seen from the stages themselves.
    pub fn read(from: i64, job: Arc<Job>, events: Vec<Arc<JobEvent>>) -> Self {
        let changed = job.stages.iter().filter(|stage| stage.changed_revision > from);
        let stages = changed.map(|stage| stage.no).collect();
        Self { from, job, events, stages, is_copy: true }
    }

    /// A job of which it is not known what led to it.
    pub fn unknown(job: Arc<Job>) -> Self {
        Self { from: job.revision, job, events: Vec::new(), stages: Vec::new(), is_copy: true }
    }

    /// The steps that lead through it. What is in between is told from history; the last step is told whole.
    pub fn steps(self, now: Timestamp) -> Vec<Arc<Step>> {
        let last = self.job.revision;
        let mut steps = Vec::with_capacity(self.events.len() + 1);
        let (mut previous, mut final_event) = (self.from, None);
        for event in self.events {
            if event.revision >= last {
                final_event = Some(event);
                break;
            }
            let (revision, time) = (event.revision, event.event_time);
            steps.push(Step::new(previous, revision, self.job.clone(), Some(event), None, time));
            previous = revision;
        }
        let time = final_event.as_ref().map_or(now, |event| event.event_time);
        let own_bytes = if self.is_copy { self.job.weight_bytes() } else { 0 };
        steps.push(Step { own_bytes, ..Step::new(previous, last, self.job, final_event, Some(self.stages), time) });
        steps.into_iter().map(Arc::new).collect()
    }
}

impl Step {
    fn new(
        previous: i64,
        revision: i64,
        job: Arc<Job>,
        event: Option<Arc<JobEvent>>,
        stages: Option<Vec<StageNo>>,
        time: Timestamp,
    ) -> Self {
        let (known_since, encoded) = (Instant::now(), Encoded::default());
        Self { previous, revision, job, event, stages, time, known_since, own_bytes: 0, encoded }
    }

    /// A step told from history alone, of a job as it was later.
    pub fn of_history(previous: i64, job: Arc<Job>, event: Arc<JobEvent>) -> Self {
        let (revision, time) = (event.revision, event.event_time);
        Self::new(previous, revision, job, Some(event), None, time)
    }

    /// The same for a reader who was told another revision before.
    pub fn after(self: &Arc<Self>, previous: i64) -> Arc<Self> {
        if previous == self.previous {
            return self.clone();
        }
        let (job, event, stages) = (self.job.clone(), self.event.clone(), self.stages.clone());
        Arc::new(Self::new(previous, self.revision, job, event, stages, self.time))
    }

    /// Steps of progress that follow each other, as one.
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

    /// Whether it tells of progress alone, so that it may be merged with others.
    pub fn is_progress(&self) -> bool {
        self.event.is_none()
    }

    /// The job's state at its revision.
    pub fn phase(&self) -> JobPhase {
        match (&self.event, &self.stages) {
            (Some(event), None) => event.job_phase,
            (_, _) => self.job.state.phase(),
        }
    }

    /// Roughly the bytes it holds, for bounds.
    pub fn weight_bytes(&self) -> usize {
        let listed =
            self.stages.as_ref().map_or(0, Vec::len).max(self.event.as_ref().map_or(0, |event| event.stages.len()));
        512 + 512 * listed + self.own_bytes
    }
}
