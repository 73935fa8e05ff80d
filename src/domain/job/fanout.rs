//! How stages come into a job: with its submission, and from a running stage that fans out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Changes, Edit, Job, JobMeta, JobState, Tally};
use crate::domain::event::EventKind;
use crate::domain::graph::Graph;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::json::Document;
use crate::domain::refusal::Refusal;
use crate::domain::stage::{DependsWhen, NewStage, Stage, StagePhase, StageSpec, StageState};
use crate::domain::stage_table::StageTable;
use crate::domain::time::Timestamp;

/// A job as it is submitted.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Where it goes.
    pub key: JobKey,
    /// Whether its id was made for this very submission, so that nobody can have used it before.
    pub is_generated: bool,
    /// What does not change; its `create_time` is set by the submission.
    pub meta: JobMeta,
    /// The caller's labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Higher is leased first.
    pub priority: i32,
    /// What all its workers get.
    pub payload: Option<Document>,
    /// At least one stage.
    pub stages: Vec<NewStage>,
}

impl NewJob {
    /// Submits the job. `fencing_floor` is the highest fencing token that a deleted job of the same id may have had;
    /// `path` is the request field that holds the stages.
    pub fn submit(&self, now: Timestamp, fencing_floor: i64, path: &str) -> Result<(Arc<Job>, Changes), Refusal> {
        let meta = JobMeta { create_time: now, ..self.meta.clone() };
        let opens_at = meta.delayed_until.filter(|at| *at > now);
        let job = Job {
            key: self.key,
            labels: self.labels.clone(),
            priority: self.priority,
            revision: 0,
            run: 1,
            state: JobState::Pending,
            progress: 0.0,
            failure: None,
            cancel_reason: None,
            opens_at,
            times_out_at: meta.timeout.map(|timeout| opens_at.unwrap_or(now).after(timeout)),
            start_time: None,
            end_time: None,
            expire_time: None,
            stages: StageTable::default(),
            graph: Arc::default(),
            tally: Tally::default(),
            meta: Arc::new(meta),
        };
        let mut edit = Edit::begin(Arc::new(job), now);
        edit.record(EventKind::JobSubmitted);
        edit.changes().payload = self.payload.clone();
        edit.place(&self.stages, path, fencing_floor)?;
        Ok(edit.finish().expect("a submission changes the job"))
    }
}

impl Edit {
    /// Adds stages on behalf of a running stage.
    pub fn add_stages(&mut self, new: &[NewStage], path: &str) -> Result<Vec<StageNo>, Refusal> {
        if !self.job.state.is_active() {
            return Err(self.job.refuses("takes no new stages"));
        }
        self.record(EventKind::StagesAdded);
        // An earlier job of this id may have had stages of these names. Its floor is not kept, but every stage that is here began
        // at it, so the lowest token is as good.
        let floor = self.job.stages.iter().map(|stage| stage.fencing_token).min().unwrap_or(0);
        self.place(new, path, floor)
    }

    fn place(&mut self, new: &[NewStage], path: &str, fencing_floor: i64) -> Result<Vec<StageNo>, Refusal> {
        let wiring = self.job.graph.wire(new, path)?;
        for &(existing, _) in &wiring.required_by {
            let stage = &self.job.stages[existing];
            if stage.phase() != StagePhase::Blocked {
                return Err(stage.refuses("cannot wait for a new stage"));
            }
        }
        let mut graph = Graph::clone(&self.job.graph);
        let first = self.job.stages.len();
        let mut numbers = Vec::with_capacity(new.len());
        for (stage, depends_on) in new.iter().zip(wiring.depends_on) {
            let no = StageNo::try_from(first + numbers.len()).expect("a job has at most 10,000 stages");
            graph.add(stage.spec.name.clone(), no);
            let placed = Stage::new(no, self.spec_of(stage), depends_on.into(), fencing_floor);
            self.job.tally.add(&placed);
            self.job.stages.put(Arc::new(placed));
            if let Some(input) = &stage.input {
                self.changes().inputs.insert(no, input.clone());
            }
            numbers.push(no);
        }
        for &no in &numbers {
            for &dependency in self.job.stages[no].depends_on.iter() {
                graph.connect(dependency, no);
            }
        }
        for (existing, by) in wiring.required_by {
            graph.connect(by, existing);
            self.changes().rewired.insert(existing);
            self.alter(existing, |stage| {
                stage.depends_on = stage.depends_on.iter().copied().chain([by]).collect();
                stage.pending += 1;
            });
        }
        self.job.graph = Arc::new(graph);
        self.open(&numbers);
        Ok(numbers)
    }

    fn spec_of(&self, stage: &NewStage) -> Arc<StageSpec> {
        let retry = &self.job.meta.retry;
        if stage.inherits_retry && !Arc::ptr_eq(&stage.spec.retry, retry) {
            return Arc::new(StageSpec { retry: retry.clone(), ..StageSpec::clone(&stage.spec) });
        }
        stage.spec.clone()
    }

    /// Counts what new stages wait for, and finds those that need not wait or never can run.
    fn open(&mut self, numbers: &[StageNo]) {
        let mut skipped = Vec::new();
        for &no in numbers {
            let pending = self.job.pending_of(&self.job.stages[no]);
            self.alter(no, |stage| stage.pending = pending);
        }
        for &no in numbers {
            if self.is_hopeless(no) {
                self.enter(no, StageState::Skipped);
                skipped.push(no);
            } else {
                self.ready_if_free(no);
            }
        }
        if !skipped.is_empty() {
            self.settle(skipped);
        }
    }

    fn is_hopeless(&self, no: StageNo) -> bool {
        let stage = &self.job.stages[no];
        let ended_badly = |no: &StageNo| {
            let phase = self.job.stages[*no].phase();
            phase.is_terminal() && phase != StagePhase::Succeeded
        };
        stage.spec.depends_when == DependsWhen::AllSucceeded && stage.depends_on.iter().any(ended_badly)
    }
}
