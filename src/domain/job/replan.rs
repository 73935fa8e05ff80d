//! Replanning: what happens to stages that an earlier attempt of their parent added when the parent runs again.
//!
//! A stage belongs to the parent that added it. If a later attempt names it again with another spec, it takes the new spec; if the spec is
//! the same, or the stage has succeeded, it is left alone. Stages that the completing attempt has not named, and that have not started, are
//! withdrawn. In a new run in which the parent runs again, a stage stays blocked until the parent has named it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::Job;
use super::tx::JobTx;
use crate::domain::graph::cycle;
use crate::domain::id::{StageNo, hashed};
use crate::domain::json::Document;
use crate::domain::refusal::Refusal;
use crate::domain::stage::{NewStage, Parent, Stage, StagePhase, StageSpec, StageState};

/// Stages of a request, resolved and checked.
#[derive(Debug, Default)]
pub(super) struct StagePlan {
    /// Number of each stage, in the order of the request.
    pub numbers: Vec<StageNo>,
    /// Digest of each stage's spec, dependencies and input. `None`: the stages have no parent.
    pub digests: Vec<Option<Uuid>>,
    /// New dependencies of every stage that gets other ones, in ascending order: of new and renewed stages, and of
    /// others that are affected.
    pub depends_on: BTreeMap<StageNo, Vec<StageNo>>,
    /// For each stage of the request, the stages that its `required_by` names.
    pub required_by: Vec<Vec<StageNo>>,
    /// Existing stages that take their new spec.
    pub renewed: BTreeSet<StageNo>,
    /// Dependents that are blocked again because a stage that had ended was renewed.
    pub reopened: BTreeSet<StageNo>,
    /// Whether any stage of the request existed before.
    pub again: bool,
    parent: Option<Parent>,
}

impl StagePlan {
    /// Plans the addition of `new` stages with these specs to a job.
    pub fn of(
        job: &Job,
        new: &[NewStage],
        specs: &[Arc<StageSpec>],
        parent: Option<Parent>,
        path: &str,
    ) -> Result<Self, Refusal> {
        let known: Vec<Option<StageNo>> = new.iter().map(|stage| job.child_of(parent?, &stage.spec.name)).collect();
        let wiring = job.graph.wire(new, &known, path)?;
        let mut plan =
            Self { numbers: wiring.numbers, again: known.iter().any(Option::is_some), parent, ..Self::default() };
        let digest = |(stage, spec): (&NewStage, &Arc<StageSpec>)| parent.map(|_| digest(stage, spec));
        plan.digests = new.iter().zip(specs).map(digest).collect();
        let is_renewed = |i: usize| known[i].is_some_and(|no| !is_kept(&job.stages[no], plan.digests[i]));
        plan.renewed = (0..new.len()).filter(|i| is_renewed(*i)).map(|i| plan.numbers[i]).collect();
        plan.draw(job, wiring.depends_on, &wiring.required_by, &known);
        plan.reopen(job)?;
        for (waiting, i) in wiring.required_by {
            if let Some(stage) = job.stages.get(waiting)
                && !stage.depends_on.contains(&plan.numbers[i])
                && !(stage.phase() == StagePhase::Blocked
                    || plan.renewed.contains(&waiting)
                    || plan.reopened.contains(&waiting))
            {
                return Err(stage.refusal("cannot wait for a new stage"));
            }
        }
        plan.refuse_cycles(job, path)?;
        Ok(plan)
    }

    /// Computes the dependencies that change: of new and renewed stages, of stages that renewed ones no longer name in `required_by`, and
    /// of stages that are named now.
    fn draw(&mut self, job: &Job, own: Vec<Vec<StageNo>>, required_by: &[(StageNo, usize)], known: &[Option<StageNo>]) {
        self.required_by = vec![Vec::new(); own.len()];
        for (i, mut own) in own.into_iter().enumerate() {
            let no = self.numbers[i];
            if known[i].is_some() && !self.renewed.contains(&no) {
                continue;
            }
            // Other stages may have named it in their `required_by`.
            let asked = job.stages.get(no).into_iter().flat_map(|stage| stage.depends_on.iter().copied());
            own.extend(asked.filter(|by| !self.renewed.contains(by) && job.stages[*by].required_by.contains(&no)));
            self.depends_on.insert(no, own);
        }
        for no in self.renewed.clone() {
            for &waiting in job.stages[no].required_by.iter() {
                if !self.renewed.contains(&waiting) {
                    self.dependencies(job, waiting).retain(|dependency| *dependency != no);
                }
            }
        }
        for &(waiting, i) in required_by {
            let no = self.numbers[i];
            let asked_before = job.stages.get(no).is_some_and(|stage| stage.required_by.contains(&waiting));
            let dependencies = self.dependencies(job, waiting);
            if !dependencies.contains(&no) {
                dependencies.push(no);
                self.required_by[i].push(waiting);
            } else if asked_before {
                self.required_by[i].push(waiting);
            }
        }
        self.depends_on.retain(|no, dependencies| {
            dependencies.sort_unstable();
            dependencies.dedup();
            let before = job.stages.get(*no).filter(|_| !self.renewed.contains(no));
            before.is_none_or(|stage| {
                let mut before = stage.depends_on.to_vec();
                before.sort_unstable();
                before != *dependencies
            })
        });
    }

    fn dependencies(&mut self, job: &Job, no: StageNo) -> &mut Vec<StageNo> {
        self.depends_on
            .entry(no)
            .or_insert_with(|| job.stages.get(no).map_or_else(Vec::new, |stage| stage.depends_on.to_vec()))
    }

    /// Refuses dependency cycles: no stage may wait for itself, nor for a stage that one of its dependents adds.
    fn refuse_cycles(&self, job: &Job, path: &str) -> Result<(), Refusal> {
        let first = job.stages.len();
        let total = first + self.numbers.iter().filter(|no| **no as usize >= first).count();
        let mut arrows: Vec<(StageNo, StageNo)> = Vec::new();
        for (no, stage) in (0..).zip(job.stages.iter()) {
            arrows.extend(stage.parent.map(|parent| (parent.no, no)));
            if !self.depends_on.contains_key(&no) {
                arrows.extend(stage.depends_on.iter().map(|dependency| (*dependency, no)));
            }
        }
        for (&no, depends_on) in &self.depends_on {
            arrows.extend(depends_on.iter().map(|dependency| (*dependency, no)));
        }
        let new = self.numbers.iter().filter(|no| **no as usize >= first);
        arrows.extend(new.filter_map(|no| Some((self.parent?.no, *no))));
        let Some(no) = cycle(total, &arrows, self.numbers.iter().copied()) else { return Ok(()) };
        let place = self.numbers.iter().position(|number| *number == no);
        let field = place.map_or_else(|| path.to_owned(), |i| format!("{path}[{i}].depends_on"));
        Err(Refusal::field(field, "this stage waits for itself through its dependencies"))
    }

    /// Finds dependents that are blocked again because a stage that had ended is renewed. Refused if one of them has started since.
    fn reopen(&mut self, job: &Job) -> Result<(), Refusal> {
        let mut ended: Vec<StageNo> =
            self.renewed.iter().copied().filter(|no| job.stages[*no].phase().is_terminal()).collect();
        while let Some(no) = ended.pop() {
            for &dependent in job.graph.dependents(no) {
                let stage = &job.stages[dependent];
                if self.renewed.contains(&dependent) || self.reopened.contains(&dependent) || stage.is_withdrawn() {
                    continue;
                }
                match stage.phase() {
                    StagePhase::Blocked => {}
                    StagePhase::Skipped => {
                        self.reopened.insert(dependent);
                        ended.push(dependent);
                    }
                    StagePhase::Ready if stage.is_unstarted() => {
                        self.reopened.insert(dependent);
                    }
                    _ => {
                        return Err(
                            job.stages[no].refusal("has a dependent that started since, so it cannot be added again")
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

impl Job {
    /// The stage with this name, if an earlier attempt of this parent added it.
    fn child_of(&self, parent: Parent, name: &str) -> Option<StageNo> {
        let stage = self.stage_named(name)?;
        let before =
            stage.parent.filter(|before| before.no == parent.no && before.fencing_token != parent.fencing_token);
        before.map(|_| stage.no)
    }
}

impl JobTx {
    /// Records that the parent names a stage again, and resets the stage with its new spec if that differs.
    pub(super) fn add_again(
        &mut self,
        no: StageNo,
        plan: &StagePlan,
        i: usize,
        spec: Arc<StageSpec>,
        input: Option<&Document>,
    ) {
        if !plan.renewed.contains(&no) {
            self.update_stage(no, |stage| stage.parent = plan.parent);
            return;
        }
        self.changes().renewed_specs.insert(no);
        self.changes().inputs.insert(no, input.cloned());
        self.update_stage(no, |stage| {
            stage.start_over();
            stage.spec = spec;
            stage.parent = plan.parent;
            stage.required_by = plan.required_by[i].as_slice().into();
            stage.plan_digest = plan.digests[i];
            stage.depends_on = plan.depends_on[&no].as_slice().into();
        });
    }

    /// Withdraws unstarted children of an ended stage. If the stage succeeded: those that this attempt did not name. If it was withdrawn
    /// itself: all. Otherwise: those that no attempt of this run named.
    pub(super) fn withdraw_children(&mut self, no: StageNo, ended: &mut Vec<StageNo>) {
        let parent = &self.job.stages[no];
        let (is_withdrawn, has_succeeded) = (parent.is_withdrawn(), parent.phase() == StagePhase::Succeeded);
        let newest = parent.fencing_token;
        let stands = |stage: &Stage| match stage.parent.map(|parent| parent.fencing_token) {
            _ if is_withdrawn => false,
            Some(named) if has_succeeded => named == newest,
            named => named != Some(0),
        };
        for child in self.job.graph.children(no).to_vec() {
            let stage = &self.job.stages[child];
            if !stage.is_unstarted() || stands(stage) {
                continue;
            }
            self.update_stage(child, |stage| {
                stage.pending += u32::from(!stage.is_unplanned());
                stage.parent = stage.parent.map(|parent| Parent { fencing_token: 0, ..parent });
            });
            self.set_stage_state(child, StageState::Skipped);
            ended.push(child);
        }
    }
}

/// Whether a stage that is named again is left as it is: it has succeeded, or has not ended and has the same spec.
fn is_kept(stage: &Stage, digest: Option<Uuid>) -> bool {
    match stage.phase() {
        StagePhase::Succeeded => true,
        StagePhase::Failed | StagePhase::Cancelled | StagePhase::Skipped => false,
        StagePhase::Blocked | StagePhase::Ready | StagePhase::Running | StagePhase::Backoff => {
            stage.plan_digest == digest
        }
    }
}

/// Digest of a stage's spec, dependencies and input.
fn digest(stage: &NewStage, spec: &StageSpec) -> Uuid {
    let said = (spec, &stage.depends_on, &stage.required_by, stage.input.as_ref().map(Document::as_str));
    hashed(&serde_json::to_vec(&said).expect("our own types have string keys and serialize without errors"))
}
