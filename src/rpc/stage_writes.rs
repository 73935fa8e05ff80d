//! The rpcs that report the progress and the end of an attempt, and that add stages to its job.

use std::sync::Arc;

use uuid::Uuid;

use super::caller::Caller;
use super::convert::digest::{self, identity};
use super::convert::path::Path;
use super::convert::{document, failure, stage as convert, submit, worker};
use super::limits::{ARTIFACTS_BYTES, REPLY_BYTES, RESULT_BYTES};
use super::page::Budget;
use crate::domain::id::{Name, NamespaceId, StageNo};
use crate::domain::job::{Job, StageCredential};
use crate::domain::refusal::Refusal;
use crate::domain::request::{RequestIdentity, RequestRecord};
use crate::domain::retry::RetryPolicy;
use crate::domain::stage::{NewStage, StagePhase};
use crate::error::{Error, Result, after_commit};
use crate::operation::Reply;
use crate::operation::end_stage::{End, EndStage};
use crate::operation::grow_job::AddStages;
use crate::operation::return_current::Shown;
use crate::operation::target::StageTarget;
use crate::operation::update_progress::UpdateProgress;
use crate::proto;

/// The result of a write of one stage.
pub(super) struct StageWrite {
    /// The job as it is now, and the stage. None: the job has been deleted since.
    at: Option<(Arc<Job>, StageNo)>,
    /// Whether anything changed; of a replay, whether the first call changed anything.
    pub(super) applied: bool,
    /// Whether it had been applied before.
    pub(super) replayed: bool,
    /// The job's version after the write. 0: nothing changed.
    pub(super) applied_job_version: i64,
}

impl StageWrite {
    /// The result that a decision about a stage has.
    pub(super) fn decided(reply: &Reply) -> Result<Self> {
        let (Some(job), Some(&no)) = (reply.jobs.first(), reply.stages.first()) else {
            return Err(Error::bug("a stage was written without a job"));
        };
        let applied_job_version = if reply.applied { job.revision } else { 0 };
        Ok(Self { at: Some((job.clone(), no)), applied: reply.applied, replayed: false, applied_job_version })
    }

    /// The result of a repeat, by the job as it is now.
    pub(super) fn applied_before(job: Option<&Arc<Job>>, hold: &StageCredential, applied_job_version: i64) -> Self {
        let at = job.and_then(|job| Some((job.clone(), job.stage_of(hold)?.no)));
        Self { at, applied: applied_job_version > 0, replayed: true, applied_job_version }
    }

    /// The version of the job now. 0: the job has been deleted since.
    pub(super) fn job_version(&self) -> i64 {
        self.at.as_ref().map_or(0, |(job, _)| job.revision)
    }

    /// The stage now, with the artifacts that it had before this write. None: the job has been deleted since.
    async fn stage(&self, caller: &Caller) -> Result<Option<proto::Stage>> {
        let Some((job, no)) = &self.at else { return Ok(None) };
        if self.applied && !self.replayed {
            return self.bare_stage();
        }
        load_stage(caller, job, *no).await.map(Some)
    }

    /// The stage now, without artifacts. None: the job has been deleted since.
    pub(super) fn bare_stage(&self) -> Result<Option<proto::Stage>> {
        let stage = |(job, no): &(Arc<Job>, StageNo)| convert::stage(job, &job.stages[*no], None, None);
        self.at.as_ref().map(stage).transpose()
    }
}

/// The result of a write of one stage, by its reply.
async fn written(caller: &Caller, reply: &Reply) -> Result<StageWrite> {
    if let Some(record) = &reply.replayed {
        let at = recorded(caller, record).await?;
        let applied_job_version = if record.applied { record.revision } else { 0 };
        return Ok(StageWrite { at, applied: record.applied, replayed: true, applied_job_version });
    }
    StageWrite::decided(reply)
}

/// Ends an attempt. An end that changes nothing was sent before with the same token and content: a replay too, even without a
/// `request_id`.
pub(super) async fn end(caller: &Caller, end: EndStage, shown: Option<Shown>) -> Result<StageWrite> {
    let reply = caller.execute_showing(end, shown).await?;
    let mut written = written(caller, &reply).await?;
    if !reply.applied && reply.replayed.is_none() {
        // Nothing changes a stage after its end.
        let changed = written.at.as_ref().map_or(0, |(job, no)| job.stages[*no].changed_revision);
        (written.applied, written.replayed, written.applied_job_version) = (true, true, changed);
    }
    Ok(written)
}

/// The stage that a remembered request was about, in its job as it is now; `None` if the job was deleted since.
pub(super) async fn recorded(caller: &Caller, record: &RequestRecord) -> Result<Option<(Arc<Job>, StageNo)>> {
    let (Some(uid), Some(no)) = (record.jobs.first(), record.stage_no) else { return Ok(None) };
    let job = caller.find(caller.key(*uid)).await.map_err(after_commit)?;
    Ok(job.filter(|job| job.stages.get(no).is_some()).map(|job| (job, no)))
}

/// Loads a stage with its artifacts.
pub(super) async fn load_stage(caller: &Caller, job: &Job, no: StageNo) -> Result<proto::Stage> {
    let stage = &job.stages[no];
    let mut artifacts = None;
    if stage.phase() == StagePhase::Succeeded {
        let mut documents = caller.services.store.stage_documents(job.key, &[no]).await.map_err(after_commit)?;
        artifacts = documents.remove(&no).and_then(|(_, artifacts)| artifacts);
    }
    convert::stage(job, stage, artifacts.as_ref(), None)
}

/// The operation of an UpdateStageProgress.
pub(super) fn progress(
    namespace: NamespaceId,
    request: &proto::UpdateStageProgressRequest,
) -> std::result::Result<UpdateProgress, Refusal> {
    Ok(UpdateProgress {
        target: worker::target(namespace, request.target.as_ref())?,
        progress: worker::progress(request.progress, &Path::Root)?,
        message: worker::message(request.message.as_deref(), &Path::Root)?,
        expected_version: request.expected_version,
        request: None,
    })
}

/// The operation of a CompleteStage.
pub(super) fn completion(
    namespace: NamespaceId,
    request: &proto::CompleteStageRequest,
    digest: Uuid,
) -> std::result::Result<EndStage, Refusal> {
    let root = Path::Root;
    let end = End::Complete {
        artifacts: document::optional(request.artifacts.as_ref(), ARTIFACTS_BYTES, &root.field("artifacts"))?,
        job_result: document::optional(request.job_result.as_ref(), RESULT_BYTES, &root.field("job_result"))?,
        message: worker::message(request.message.as_deref(), &root)?,
        add_stages: new_stages(&request.add_stages, "add_stages")?,
    };
    let target = worker::target(namespace, request.target.as_ref())?;
    Ok(EndStage { target, end, digest, expected_version: request.expected_version, request: None })
}

/// The operation of a FailStage.
pub(super) fn failure(
    namespace: NamespaceId,
    request: &proto::FailStageRequest,
    digest: Uuid,
) -> std::result::Result<EndStage, Refusal> {
    let reported = request.failure.clone().unwrap_or_default();
    let report = failure::report(&reported, &Path::Root.field("failure"))?;
    let end = End::Fail { report, jitter: rand::random() };
    let target = worker::target(namespace, request.target.as_ref())?;
    Ok(EndStage { target, end, digest, expected_version: request.expected_version, request: None })
}

/// The operation of a ReleaseStage.
pub(super) fn release(
    namespace: NamespaceId,
    request: &proto::ReleaseStageRequest,
    digest: Uuid,
) -> std::result::Result<EndStage, Refusal> {
    let target = worker::target(namespace, request.target.as_ref())?;
    Ok(EndStage { target, end: End::Release, digest, expected_version: request.expected_version, request: None })
}

/// The operation of one of many outcomes.
pub(super) fn outcome(
    namespace: NamespaceId,
    asked: proto::stage_outcome::Outcome,
) -> std::result::Result<EndStage, Refusal> {
    use proto::stage_outcome::Outcome;
    let (request, end) = match asked {
        Outcome::CompleteStage(mut request) => {
            let (identity, digest) = identity_and_digest(namespace, &mut request)?;
            (identity, completion(namespace, &request, digest)?)
        }
        Outcome::FailStage(mut request) => {
            let (identity, digest) = identity_and_digest(namespace, &mut request)?;
            (identity, failure(namespace, &request, digest)?)
        }
        Outcome::ReleaseStage(mut request) => {
            let (identity, digest) = identity_and_digest(namespace, &mut request)?;
            (identity, release(namespace, &request, digest)?)
        }
    };
    Ok(EndStage { request, ..end })
}

/// The operation of an AddStages.
pub(super) fn addition(
    namespace: NamespaceId,
    request: &proto::AddStagesRequest,
) -> std::result::Result<AddStages, Refusal> {
    let target = worker::target(namespace, request.target.as_ref())?;
    if request.stages.is_empty() {
        return Err(Path::Root.field("stages").missing());
    }
    Ok(AddStages { target, stages: new_stages(&request.stages, "stages")?, request: None })
}

/// The stage to return if its version is refused.
fn shown(target: &StageTarget) -> Shown {
    Shown::Stage(target.key, target.credential.clone())
}

pub async fn update_stage_progress(
    caller: Caller,
    mut request: proto::UpdateStageProgressRequest,
) -> Result<proto::UpdateStageProgressResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let operation = UpdateProgress { request: identity, ..progress(caller.namespace, &request)? };
    let shown = request.return_current.then(|| shown(&operation.target));
    let reply = caller.execute_showing(operation, shown).await?;
    let written = written(&caller, &reply).await?;
    Ok(proto::UpdateStageProgressResponse {
        stage: written.stage(&caller).await?,
        job_version: written.job_version(),
        applied: written.applied,
        replayed: written.replayed,
        applied_job_version: written.applied_job_version,
    })
}

pub async fn complete_stage(
    caller: Caller,
    mut request: proto::CompleteStageRequest,
) -> Result<proto::CompleteStageResponse> {
    let (identity, digest) = identity_and_digest(caller.namespace, &mut request)?;
    let operation = completion(caller.namespace, &request, digest)?;
    let shown = request.return_current.then(|| shown(&operation.target));
    let written = end(&caller, EndStage { request: identity, ..operation }, shown).await?;
    let mut stage = written.stage(&caller).await?;
    if let Some(stage) = stage.as_mut().filter(|_| !written.replayed) {
        stage.artifacts = request.artifacts;
    }
    Ok(proto::CompleteStageResponse {
        stage,
        job_version: written.job_version(),
        applied: written.applied,
        replayed: written.replayed,
        applied_job_version: written.applied_job_version,
    })
}

pub async fn fail_stage(caller: Caller, mut request: proto::FailStageRequest) -> Result<proto::FailStageResponse> {
    let (identity, digest) = identity_and_digest(caller.namespace, &mut request)?;
    let operation = failure(caller.namespace, &request, digest)?;
    let shown = request.return_current.then(|| shown(&operation.target));
    let written = end(&caller, EndStage { request: identity, ..operation }, shown).await?;
    Ok(proto::FailStageResponse {
        stage: written.stage(&caller).await?,
        job_version: written.job_version(),
        applied: written.applied,
        replayed: written.replayed,
        applied_job_version: written.applied_job_version,
    })
}

pub async fn release_stage(
    caller: Caller,
    mut request: proto::ReleaseStageRequest,
) -> Result<proto::ReleaseStageResponse> {
    let (identity, digest) = identity_and_digest(caller.namespace, &mut request)?;
    let operation = release(caller.namespace, &request, digest)?;
    let shown = request.return_current.then(|| shown(&operation.target));
    let written = end(&caller, EndStage { request: identity, ..operation }, shown).await?;
    Ok(proto::ReleaseStageResponse {
        stage: written.stage(&caller).await?,
        job_version: written.job_version(),
        applied: written.applied,
        replayed: written.replayed,
        applied_job_version: written.applied_job_version,
    })
}

pub async fn add_stages(caller: Caller, mut request: proto::AddStagesRequest) -> Result<proto::AddStagesResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let operation = addition(caller.namespace, &request)?;
    let names: Vec<Name> = operation.stages.iter().map(|stage| stage.spec.name.clone()).collect();
    let reply = caller.execute(AddStages { request: identity, ..operation }).await?;
    let (job, applied_job_version) = match (&reply.replayed, reply.jobs.first()) {
        (Some(record), _) => (recorded(&caller, record).await?.map(|(job, _)| job), record.revision),
        (None, job) => (job.cloned(), job.map_or(0, |job| job.revision)),
    };
    Ok(proto::AddStagesResponse {
        stages: job.as_deref().map(|job| added(job, &names)).transpose()?.unwrap_or_default(),
        job_version: job.map_or(0, |job| job.revision),
        replayed: reply.replayed.is_some(),
        applied_job_version,
    })
}

/// The stages of these names, as many as a reply holds.
fn added(job: &Job, names: &[Name]) -> Result<Vec<proto::Stage>> {
    let mut budget = Budget::new(REPLY_BYTES);
    let mut stages = Vec::with_capacity(names.len());
    for stage in names.iter().filter_map(|name| job.stage_named(name)) {
        let message = convert::stage(job, stage, None, None)?;
        if !budget.takes(&message) {
            break;
        }
        stages.push(message);
    }
    Ok(stages)
}

/// The new stages in a field of a request. Those without a retry policy take their job's, which the decision knows.
fn new_stages(specs: &[proto::StageSpec], field: &str) -> std::result::Result<Vec<NewStage>, Refusal> {
    if specs.is_empty() {
        return Ok(Vec::new());
    }
    submit::stages(specs, &Arc::new(RetryPolicy::default()), &Path::Root.field(field))
}

/// The identity of a request, and the digest by which a repeat without one is recognised.
fn identity_and_digest<R: digest::Repeatable>(
    namespace: NamespaceId,
    request: &mut R,
) -> std::result::Result<(Option<RequestIdentity>, Uuid), Refusal> {
    let identity = identity(namespace, request)?;
    let digest = identity.map_or_else(|| digest::content(request), |identity| identity.digest);
    Ok((identity, digest))
}
