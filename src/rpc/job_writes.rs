//! The rpcs that change a job. Responses have the job as it is after the commit, read again with its documents.

use std::sync::Arc;
use std::time::Duration;

use super::caller::Caller;
use super::convert::digest::identity;
use super::convert::{job as convert, steer};
use crate::domain::documents::JobDocuments;
use crate::domain::id::JobKey;
use crate::domain::job::Job;
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::error::{Error, Result, after_commit};
use crate::operation::control_job::{Control, ControlJob};
use crate::operation::delete_job::DeleteJob;
use crate::operation::return_current::Shown;
use crate::proto;

/// What every answer here says.
struct Steered {
    job: Option<proto::Job>,
    applied: bool,
    replayed: bool,
    applied_version: i64,
}

/// How often the job is read for the answer; a connection that broke is replaced by then.
const READS: u32 = 6;
/// Between two such reads, growing by as much each time.
const PAUSE: Duration = Duration::from_millis(20);

/// Loads the job after its commit. An error of this read does not make the outcome of the commit unknown.
async fn read_back(caller: &Caller, key: JobKey) -> Result<Option<(Arc<Job>, JobDocuments)>> {
    for read in 1..READS {
        match caller.services.store.job(key).await {
            Err(Error::StoreUnavailable | Error::StoreReadOnly) => tokio::time::sleep(PAUSE * read).await,
            answer => return answer,
        }
    }
    caller.services.store.job(key).await
}

/// The operation that steers a job.
pub(super) fn steering(
    job: steer::NamedJob,
    control: Control,
    expected_revision: Option<i64>,
    request: Option<RequestIdentity>,
) -> ControlJob {
    ControlJob { key: job.key, job_id: job.job_id, control, expected_revision, request }
}

/// What an UpdateJob asks for.
pub(super) fn update(request: proto::UpdateJobRequest) -> std::result::Result<Control, Refusal> {
    let steer::JobPatch { labels, priority, context } = steer::patch(request)?;
    Ok(Control::Update { labels, priority, context })
}

/// What a CancelJob asks for.
pub(super) fn cancellation(request: &proto::CancelJobRequest) -> std::result::Result<Control, Refusal> {
    let steer::Cancel { grace, reason } = steer::cancel(request)?;
    Ok(Control::Cancel { grace, reason })
}

/// What a RetryJob asks for.
pub(super) fn another_run(request: &proto::RetryJobRequest) -> std::result::Result<Control, Refusal> {
    Ok(Control::Retry { from_stage: steer::from_stage(&request.from_stage)? })
}

/// The revision that the caller knows, and whether it wants the current job if that differs.
struct Expected {
    revision: Option<i64>,
    return_current: bool,
}

macro_rules! expected {
    ($request:expr) => {
        Expected { revision: $request.expected_version, return_current: $request.return_current }
    };
}

async fn steered(
    caller: &Caller,
    job_id: &str,
    control: Control,
    expected: Expected,
    request: Option<RequestIdentity>,
) -> Result<Steered> {
    let job = steer::named_job(caller.namespace, job_id)?;
    let key = job.key;
    let shown = expected.return_current.then_some(Shown::Job(key));
    let reply = caller.execute_showing(steering(job, control, expected.revision, request), shown).await?;
    let now = read_back(caller, key).await.map_err(after_commit)?;
    let (replayed, revision) = match (&reply.replayed, reply.jobs.first()) {
        (Some(record), _) => (true, record.revision),
        (None, job) => (false, job.map_or(0, |job| job.revision)),
    };
    let job = match (now, reply.jobs.first()) {
        (Some((job, documents)), _) => Some(convert::job(&job, &documents)?),
        // Deleted in the moment between: it was like this.
        (None, Some(job)) => Some(convert::job(job, &JobDocuments::default())?),
        (None, None) => None,
    };
    let applied_version = if reply.applied { revision } else { 0 };
    Ok(Steered { job, applied: reply.applied, replayed, applied_version })
}

pub async fn update_job(caller: Caller, mut request: proto::UpdateJobRequest) -> Result<proto::UpdateJobResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let (job_id, expected) = (std::mem::take(&mut request.job_id), expected!(request));
    let control = update(request)?;
    let Steered { job, applied, replayed, applied_version } =
        steered(&caller, &job_id, control, expected, identity).await?;
    Ok(proto::UpdateJobResponse { job, applied, replayed, applied_version })
}

pub async fn cancel_job(caller: Caller, mut request: proto::CancelJobRequest) -> Result<proto::CancelJobResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let (control, expected) = (cancellation(&request)?, expected!(request));
    let Steered { job, applied, replayed, applied_version } =
        steered(&caller, &request.job_id, control, expected, identity).await?;
    Ok(proto::CancelJobResponse { job, applied, replayed, applied_version })
}

pub async fn pause_job(caller: Caller, mut request: proto::PauseJobRequest) -> Result<proto::PauseJobResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let Steered { job, applied, replayed, applied_version } =
        steered(&caller, &request.job_id, Control::Pause, expected!(request), identity).await?;
    Ok(proto::PauseJobResponse { job, applied, replayed, applied_version })
}

pub async fn resume_job(caller: Caller, mut request: proto::ResumeJobRequest) -> Result<proto::ResumeJobResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let Steered { job, applied, replayed, applied_version } =
        steered(&caller, &request.job_id, Control::Resume, expected!(request), identity).await?;
    Ok(proto::ResumeJobResponse { job, applied, replayed, applied_version })
}

pub async fn retry_job(caller: Caller, mut request: proto::RetryJobRequest) -> Result<proto::RetryJobResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let control = another_run(&request)?;
    let Steered { job, replayed, applied_version, .. } =
        steered(&caller, &request.job_id, control, expected!(request), identity).await?;
    Ok(proto::RetryJobResponse { job, replayed, applied_version })
}

pub async fn delete_job(caller: Caller, mut request: proto::DeleteJobRequest) -> Result<proto::DeleteJobResponse> {
    let request_identity = identity(caller.namespace, &mut request)?;
    let steer::NamedJob { key, job_id } = steer::named_job(caller.namespace, &request.job_id)?;
    let expected_revision = request.expected_version;
    let shown = request.return_current.then_some(Shown::Job(key));
    let operation = DeleteJob { key, job_id, expected_revision, request: request_identity };
    let reply = caller.execute_showing(operation, shown).await?;
    let (replayed, applied_version) = match &reply.replayed {
        Some(record) => (true, record.revision),
        None => (false, reply.jobs.first().map_or(0, |job| job.revision)),
    };
    Ok(proto::DeleteJobResponse { replayed, applied_version })
}
