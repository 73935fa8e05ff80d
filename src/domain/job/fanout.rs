//! How stages come into a job: with its submission, and from a running stage that fans out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::replan::Plan;
use super::{Changes, Edit, Job, JobMeta, JobState, Tally};
use crate::domain::event::EventKind;
use crate::domain::graph::Graph;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::json::Document;
use crate::domain::refusal::Refusal;
use crate::domain::stage::{DependsWhen, NewStage, Parent, Stage, StagePhase, StageSpec, StageState};
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
            has_stage_rows: false,
            stages: StageTable::default(),
            graph: Arc::default(),
            tally: Tally::default(),
            meta: Arc::new(meta),
        };
        let mut edit = Edit::begin(Arc::new(job), now);
        edit.record(EventKind::JobSubmitted);
        edit.changes().payload = self.payload.clone();
        edit.place(&self.stages, path, fencing_floor, None)?;
        Ok(edit.finish().expect("a submission changes the job"))
    }
}

impl Edit {
    /// Adds stages on behalf of a running stage, which may add those again that an earlier attempt of it has added.
    pub fn add_stages(&mut self, by: StageNo, new: &[NewStage], path: &str) -> Result<Vec<StageNo>, Refusal> {
        if !self.job.state.is_active() {
            return Err(self.job.refuses("takes no new stages"));
        }
        self.record(EventKind::StagesAdded);
        // An earlier job of this id may have had stages of these names. Its floor is not kept, but every stage that is here began
        // at it, so the lowest token is as good.
        let floor = self.job.stages.iter().map(|stage| stage.fencing_token).min().unwrap_or(0);
        let parent = Parent { no: by, fencing_token: self.job.stages[by].fencing_token };
        self.place(new, path, floor, Some(parent))
    }

    fn place(
        &mut self,
        new: &[NewStage],
        path: &str,
        fencing_floor: i64,
        parent: Option<Parent>,
    ) -> Result<Vec<StageNo>, Refusal> {
        let specs: Vec<Arc<StageSpec>> = new.iter().map(|stage| self.spec_of(stage)).collect();
        let plan = Plan::of(&self.job, new, &specs, parent, path)?;
        let first = self.job.stages.len();
        let mut graph = Graph::clone(&self.job.graph);
        for (i, (stage, spec)) in new.iter().zip(specs).enumerate() {
            let no = plan.numbers[i];
            if (no as usize) < first {
                self.add_again(no, &plan, i, spec, stage.input.as_ref());
                continue;
            }
            graph.add(spec.name.clone(), no);
            let mut placed = Stage::new(no, spec, plan.depends_on[&no].as_slice().into(), fencing_floor);
            if let Some(parent) = parent {
                graph.adopt(parent.no, no);
                placed.parent = Some(parent);
                placed.required_by = plan.required_by[i].as_slice().into();
                placed.plan_digest = plan.digests[i];
            }
            self.job.tally.add(&placed);
            self.job.stages.put(Arc::new(placed));
            if let Some(input) = &stage.input {
                self.changes().inputs.insert(no, Some(input.clone()));
            }
        }
        let touched = self.connect(graph, &plan, first);
        self.open(&touched);
        Ok(plan.numbers)
    }

    /// Draws the arrows of a plan. Returns the stages whose dependencies are other ones now.
    fn connect(&mut self, mut graph: Graph, plan: &Plan, first: usize) -> Vec<StageNo> {
        for (&no, depends_on) in plan.depends_on.iter().filter(|(no, _)| (**no as usize) < first) {
            if !plan.renewed.contains(&no) {
                self.changes().rewired.insert(no);
                self.alter(no, |stage| stage.depends_on = depends_on.as_slice().into());
            }
        }
        for &no in &plan.reopened {
            self.alter(no, Stage::start_over);
        }
        let mut touched: BTreeSet<StageNo> = plan.numbers.iter().copied().collect();
        touched.extend(plan.depends_on.keys().chain(&plan.reopened));
        if plan.again {
            self.job.graph = Arc::new(Graph::of(&self.job.stages));
            self.job.recount_pending();
        } else {
            for (&no, depends_on) in &plan.depends_on {
                let known = if (no as usize) < first { first } else { 0 };
                for &dependency in depends_on.iter().filter(|dependency| (**dependency as usize) >= known) {
                    graph.connect(dependency, no);
                }
            }
            self.job.graph = Arc::new(graph);
        }
        for &no in &touched {
            let pending = self.job.pending_of(&self.job.stages[no]);
            if (no as usize) >= first {
                // The first change of a new stage makes its version.
                self.alter(no, |stage| stage.pending = pending);
            } else if self.job.stages[no].pending != pending {
                self.job.stages.get_mut(no).expect("the number comes from this job").pending = pending;
            }
        }
        touched.into_iter().collect()
    }

    fn spec_of(&self, stage: &NewStage) -> Arc<StageSpec> {
        let retry = &self.job.meta.retry;
        if stage.inherits_retry && !Arc::ptr_eq(&stage.spec.retry, retry) {
            return Arc::new(StageSpec { retry: retry.clone(), ..StageSpec::clone(&stage.spec) });
        }
        stage.spec.clone()
    }

    /// Finds those of blocked stages that need not wait or never can run.
    fn open(&mut self, numbers: &[StageNo]) {
        let mut skipped = Vec::new();
        for &no in numbers.iter() {
            if self.job.stages[no].phase() != StagePhase::Blocked {
                continue;
            }
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
        let ended_badly = |no: &StageNo| self.job.stages[*no].ended_badly();
        stage.spec.depends_when == DependsWhen::AllSucceeded && stage.depends_on.iter().any(ended_badly)
    }
}
