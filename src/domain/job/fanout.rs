//! Adding stages: with the submission of a job, and by a running stage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::replan::StagePlan;
use super::tx::{JobChanges, JobTx};
use super::{Job, JobMeta, JobState, Tally};
use crate::domain::event::EventKind;
use crate::domain::graph::Graph;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::json::Document;
use crate::domain::refusal::Refusal;
use crate::domain::stage::{DependsWhen, NewStage, Parent, Stage, StagePhase, StageSpec, StageState};
use crate::domain::stage_table::StageTable;
use crate::domain::time::Timestamp;

/// A job to submit.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Key of the new job.
    pub key: JobKey,
    /// Whether the server generated the id for this submission, so that no other job can have it.
    pub is_generated: bool,
    /// Immutable part; `create_time` is set by the submission.
    pub meta: JobMeta,
    /// Labels, chosen by the caller.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Priority; higher is leased first.
    pub priority: i32,
    /// Payload that every worker of the job receives. `None`: none.
    pub payload: Option<Document>,
    /// Stages of the job, at least one.
    pub stages: Vec<NewStage>,
}

impl NewJob {
    /// Makes the job at revision 1. `fencing_floor` is the highest fencing token that a deleted job of the same id may have used; `path` is
    /// the request field that contains the stages, for errors.
    pub fn submit(&self, now: Timestamp, fencing_floor: i64, path: &str) -> Result<(Arc<Job>, JobChanges), Refusal> {
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
        let mut tx = JobTx::begin(Arc::new(job), now);
        tx.record_event(EventKind::JobSubmitted);
        tx.changes().payload.clone_from(&self.payload);
        tx.place(&self.stages, path, fencing_floor, None)?;
        Ok(tx.finish().expect("a submission changes the job"))
    }
}

impl JobTx {
    /// Adds stages for the running stage `by`, which may add stages again that an earlier attempt of it added. Returns their numbers in the
    /// order of the request.
    pub fn add_stages(&mut self, by: StageNo, new: &[NewStage], path: &str) -> Result<Vec<StageNo>, Refusal> {
        if !self.job.state.is_active() {
            return Err(self.job.refusal("takes no new stages"));
        }
        self.record_event(EventKind::StagesAdded);
        // An earlier job of this id may have had stages of these names. Its floor is not stored, but every stage of this job started at it,
        // so the lowest token is a floor too.
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
        let specs: Vec<Arc<StageSpec>> = new.iter().map(|stage| self.effective_spec(stage)).collect();
        let plan = StagePlan::of(&self.job, new, &specs, parent, path)?;
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

    /// Sets the dependencies of a plan. Returns the stages that are new or have other dependencies now.
    fn connect(&mut self, mut graph: Graph, plan: &StagePlan, first: usize) -> Vec<StageNo> {
        for (&no, depends_on) in plan.depends_on.iter().filter(|(no, _)| (**no as usize) < first) {
            if !plan.renewed.contains(&no) {
                self.changes().rewired.insert(no);
                self.update_stage(no, |stage| stage.depends_on = depends_on.as_slice().into());
            }
        }
        for &no in &plan.reopened {
            self.update_stage(no, Stage::start_over);
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
                // The first change of a new stage sets its version to 1.
                self.update_stage(no, |stage| stage.pending = pending);
            } else if self.job.stages[no].pending != pending {
                self.job.stages.get_mut(no).expect("the number comes from this job").pending = pending;
            }
        }
        touched.into_iter().collect()
    }

    fn effective_spec(&self, stage: &NewStage) -> Arc<StageSpec> {
        let retry = &self.job.meta.retry;
        if stage.inherits_retry && !Arc::ptr_eq(&stage.spec.retry, retry) {
            return Arc::new(StageSpec { retry: retry.clone(), ..StageSpec::clone(&stage.spec) });
        }
        stage.spec.clone()
    }

    /// Makes blocked stages ready that have no open dependency, and skips those that can never run.
    fn open(&mut self, numbers: &[StageNo]) {
        let mut skipped = Vec::new();
        for &no in numbers {
            if self.job.stages[no].phase() != StagePhase::Blocked {
                continue;
            }
            if self.can_never_run(no) {
                self.set_stage_state(no, StageState::Skipped);
                skipped.push(no);
            } else {
                self.ready_if_unblocked(no);
            }
        }
        if !skipped.is_empty() {
            self.propagate_ends(skipped);
        }
    }

    fn can_never_run(&self, no: StageNo) -> bool {
        let stage = &self.job.stages[no];
        let ended_unsuccessfully = |no: &StageNo| self.job.stages[*no].ended_unsuccessfully();
        stage.spec.depends_when == DependsWhen::AllSucceeded && stage.depends_on.iter().any(ended_unsuccessfully)
    }
}
