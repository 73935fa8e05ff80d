//! Jobs of at most four stages are stored in one row: their stages and specs are columns of `jobs`. Larger jobs have a row for each stage (`stages`,
//! `stage_specs`), so that a change writes only the stages that changed.
//!
//! The number of stages decides, and never decreases. Jobs that are older than the columns (V14) have rows for fewer stages, and keep them. No
//! other module knows the difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::domain::documents::LeaseDocuments;
use crate::domain::failure::Failure;
use crate::domain::id::StageNo;
use crate::domain::job::Job;
use crate::domain::json::Document;
use crate::domain::permit::HeldPermit;
use crate::domain::retry::FailureCounts;
use crate::domain::stage::{Attempt, Lease, Parent, Stage, StagePhase, StageSpec, StageState};
use crate::domain::time::Timestamp;
use crate::store::pg::types::JsonText;

/// The largest number of stages of a job that is stored in one row.
pub const MAX_STAGES: usize = 4;

/// Whether the job is stored in one row.
pub fn is_in_row(job: &Job) -> bool {
    !job.has_stage_rows && job.stages.len() <= MAX_STAGES
}

/// When the next timer of the job's row is due: of the job, or of a stage in the row. None: it has no timer.
pub fn wakes_at(job: &Job) -> Option<Timestamp> {
    let stages = is_in_row(job).then(|| job.stages.iter().filter_map(|stage| stage.wakes_at()).min()).flatten();
    [job.wakes_at(), stages].into_iter().flatten().min()
}

/// The specs of the job's stages for `jobs.specs`: a JSON array of [`StoredSpec`].
pub fn specs(job: &Job) -> JsonText {
    JsonText::of(&job.stages.iter().map(|stage| StoredSpec::of(stage)).collect::<Vec<_>>())
}

/// The states of the job's stages for `jobs.stages`: a JSON array of [`StoredStage`].
pub fn stages(job: &Job) -> JsonText {
    JsonText::of(&job.stages.iter().map(|stage| StoredStage::of(stage)).collect::<Vec<_>>())
}

/// The stages of `jobs.specs` and `jobs.stages`, without leases.
pub fn parsed(specs: &str, stages: &str) -> Vec<Stage> {
    let specs: Vec<StoredSpec> = serde_json::from_str(specs).expect("we read back what we wrote");
    let stages: Vec<StoredStage> = serde_json::from_str(stages).expect("we read back what we wrote");
    let both = (0..).zip(specs.into_iter().zip(stages));
    both.map(|(no, (spec, stage))| stage.with(no, spec, None)).collect()
}

/// Counts the stages in each state, at the place of the state's number less one.
pub fn count_states(stages: &str, counts: &mut [u32; 8]) {
    #[derive(Deserialize)]
    struct StateOnly {
        state: u8,
    }
    let stages: Vec<StateOnly> = serde_json::from_str(stages).expect("we read back what we wrote");
    stages.iter().for_each(|stage| counts[usize::from(stage.state) - 1] += 1);
}

/// Documents of a job that is stored in one row, as JSON.
pub struct Texts<'a> {
    /// An object of stage number → input.
    pub inputs: Option<&'a str>,
    /// An object of stage number → artifacts.
    pub artifacts: Option<&'a str>,
    /// `jobs.specs`; needed only where there are artifacts.
    pub specs: Option<&'a str>,
}

impl Texts<'_> {
    /// The documents that the worker of a stage gets with its lease.
    pub fn of_lease(&self, no: StageNo, payload: Option<Document>) -> LeaseDocuments {
        #[derive(Deserialize)]
        struct DependenciesOnly {
            #[serde(default)]
            depends_on: Vec<StageNo>,
        }
        let input = self.inputs.and_then(|inputs| by_stage(inputs).remove(&no).flatten());
        let mut artifacts = self.artifacts.map(by_stage).unwrap_or_default();
        let specs: Vec<DependenciesOnly> =
            self.specs.map(|specs| serde_json::from_str(specs).expect("ours")).unwrap_or_default();
        let needed = specs.get(no as usize).map_or(&[][..], |spec| &spec.depends_on);
        let found = needed.iter().filter_map(|no| Some((*no, document(artifacts.remove(no)??))));
        LeaseDocuments { payload, input: input.map(document), artifacts: found.collect() }
    }
}

/// The values of a JSON object of stage number → document. None: the document was removed.
fn by_stage(text: &str) -> BTreeMap<StageNo, Option<&RawValue>> {
    serde_json::from_str(text).expect("we read back what we wrote")
}

fn document(text: &RawValue) -> Document {
    Document::from_checked(text.get())
}

/// The spec of a stage as it is stored, with what depends on its place in the job.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredSpec {
    /// The spec as it was submitted.
    pub spec: Arc<StageSpec>,
    /// The stages that it waits for.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub depends_on: Arc<[StageNo]>,
    /// The stage that added it. None: it was submitted with the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_no: Option<StageNo>,
    /// The stages that it requires, see [`Stage::required_by`].
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub required_by: Arc<[StageNo]>,
    /// The digest of the plan that it was added with, see [`Stage::plan_digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<Uuid>,
}

/// The state of a stage as it is stored: the columns of `stages`. Zeros and nulls are left out.
#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of Stage")]
pub struct StoredStage {
    pub state: i16,
    pub version: i64,
    pub changed_revision: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fencing_token: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome_digest: Option<Uuid>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub progress: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Arc<Failure>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wakes_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub permits: Arc<[HeldPermit]>,
    #[serde(default, skip_serializing_if = "FailureCounts::is_empty")]
    pub failures: FailureCounts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_token: Option<i64>,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl StoredSpec {
    fn of(stage: &Stage) -> Self {
        Self {
            spec: stage.spec.clone(),
            depends_on: stage.depends_on.clone(),
            parent_no: stage.parent.map(|parent| parent.no),
            required_by: stage.required_by.clone(),
            plan_digest: stage.plan_digest,
        }
    }
}

impl StoredStage {
    fn of(stage: &Stage) -> Self {
        Self {
            state: stage.phase() as i16,
            version: stage.version,
            changed_revision: stage.changed_revision,
            attempt: stage.attempt,
            fencing_token: stage.fencing_token,
            token_secret: stage.token_secret,
            outcome_digest: stage.outcome_digest,
            progress: stage.progress,
            message: stage.message.as_ref().map(|message| Arc::from(&**message)),
            failure: stage.failure.clone(),
            wakes_at: stage.wakes_at(),
            start_time: stage.start_time,
            end_time: stage.end_time,
            permits: stage.permits().into(),
            failures: stage.failures.clone(),
            parent_token: stage.parent.map(|parent| parent.fencing_token),
        }
    }

    /// The stage with its number, spec and lease.
    pub fn with(self, no: StageNo, spec: StoredSpec, lease: Option<Lease>) -> Stage {
        let phase = StagePhase::from_number(self.state.into()).expect("only states of ours are stored");
        Stage {
            no,
            spec: spec.spec,
            parent: spec.parent_no.map(|no| Parent { no, fencing_token: self.parent_token.unwrap_or(0) }),
            required_by: spec.required_by,
            plan_digest: spec.plan_digest,
            depends_on: spec.depends_on,
            pending: 0,
            state: match phase {
                StagePhase::Blocked => StageState::Blocked,
                StagePhase::Ready => StageState::Ready,
                StagePhase::Running => {
                    StageState::Running(Attempt { lease, deadline: self.wakes_at, permits: self.permits })
                }
                StagePhase::Backoff => StageState::Backoff { until: self.wakes_at.unwrap_or(Timestamp(0)) },
                StagePhase::Succeeded => StageState::Succeeded,
                StagePhase::Failed => StageState::Failed,
                StagePhase::Cancelled => StageState::Cancelled,
                StagePhase::Skipped => StageState::Skipped,
            },
            version: self.version,
            changed_revision: self.changed_revision,
            attempt: self.attempt,
            failures: self.failures,
            fencing_token: self.fencing_token,
            token_secret: self.token_secret,
            outcome_digest: self.outcome_digest,
            progress: self.progress,
            message: self.message.as_deref().map(Into::into),
            failure: self.failure,
            start_time: self.start_time,
            end_time: self.end_time,
        }
    }
}
