//! The rpcs that read jobs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::caller::Caller;
use super::convert::{event, job as convert, stage as convert_stage, steer};
use super::limits::REPLY_BYTES;
use super::list;
use super::page::Budget;
use crate::domain::documents::JobDocuments;
use crate::domain::id::JobKey;
use crate::domain::job::Job;
use crate::domain::refusal::Refusal;
use crate::domain::stage::{Stage, StagePhase};
use crate::error::{Error, Result};
use crate::feed::job::follower::TopicFollower;
use crate::proto;

/// How many jobs' payloads are read at once for a list: a page ends at a size that is not known before they are read.
const PAYLOADS_AT_ONCE: usize = 64;

pub async fn get_job(caller: Caller, request: proto::GetJobRequest) -> Result<proto::GetJobResponse> {
    let named = steer::named_job(caller.namespace, &request.job_id)?;
    let found = caller.services.store.job(named.key).await?;
    let (job, documents) = found.ok_or_else(|| missing(&request.job_id))?;
    Ok(proto::GetJobResponse { job: Some(convert::job(&job, &documents)?) })
}

pub async fn get_stage(caller: Caller, request: proto::GetStageRequest) -> Result<proto::GetStageResponse> {
    let named = steer::named_job(caller.namespace, &request.job_id)?;
    let stage_name = steer::stage_name(&request.stage_name)?;
    let job = existing(&caller, &named).await?;
    let stage = job.stage_named(&stage_name).ok_or_else(|| Refusal::StageNotFound {
        job_id: named.job_id.to_string(),
        stage_name: stage_name.to_string(),
    })?;
    let mut documents = caller.services.store.stage_documents(named.key, &[stage.no]).await?;
    let (input, artifacts) = documents.remove(&stage.no).unwrap_or_default();
    let stage = convert_stage::stage(&job, stage, artifacts.as_ref(), input.as_ref())?;
    Ok(proto::GetStageResponse { stage: Some(stage), job_version: job.revision })
}

pub async fn list_stages(caller: Caller, request: proto::ListStagesRequest) -> Result<proto::ListStagesResponse> {
    let named = steer::named_job(caller.namespace, &request.job_id)?;
    let (query, binding) = list::stages(caller.namespace, &request)?;
    let job = existing(&caller, &named).await?;
    let wanted = |stage: &&Arc<Stage>| query.states.is_empty() || query.states.contains(&stage.phase());
    let behind = |stage: &&Arc<Stage>| query.after.is_none_or(|after| stage.no > after);
    let mut found = job.stages.iter().filter(behind).filter(wanted);
    let page: Vec<&Arc<Stage>> = found.by_ref().take(query.limit as usize).collect();
    let mut is_last = found.next().is_none();
    // Only what succeeded has artifacts, and most pages are asked for while much is still to be done.
    let done: Vec<_> = page.iter().filter(|stage| stage.phase() == StagePhase::Succeeded).map(|s| s.no).collect();
    let documents = match &*done {
        [] => Default::default(),
        done => caller.services.store.stage_documents(named.key, done).await?,
    };
    let mut budget = Budget::new(REPLY_BYTES);
    let mut response = proto::ListStagesResponse { job_version: job.revision, ..Default::default() };
    let mut last = None;
    for stage in page {
        let artifacts = documents.get(&stage.no).and_then(|(_, artifacts)| artifacts.as_ref());
        let message = convert_stage::stage(&job, stage, artifacts, None)?;
        if !budget.takes(&message) {
            is_last = false;
            break;
        }
        response.stages.push(message);
        last = Some(stage.no);
    }
    if let (false, Some(last)) = (is_last, last) {
        response.next_page_token = binding.token(&last)?;
    }
    Ok(response)
}

pub async fn list_jobs(caller: Caller, request: proto::ListJobsRequest) -> Result<proto::ListJobsResponse> {
    let (query, binding) = list::jobs(caller.namespace, &request)?;
    let page = caller.services.store.list_jobs(caller.namespace, &query).await?;
    let jobs = converted_up_to_a_response(&caller, &page.jobs).await?;
    let next = match jobs.len().checked_sub(1) {
        Some(last) if jobs.len() < page.jobs.len() => Some(query.order.cursor(&page.jobs[last])),
        Some(_) | None => page.next,
    };
    let next_page_token = next.map(|next| binding.token(&next)).transpose()?.unwrap_or_default();
    Ok(proto::ListJobsResponse { jobs, next_page_token })
}

/// As many of the jobs as a reply holds, with their payloads and results, which are read bit by bit: a thousand large
/// payloads shall not be in memory for a page that holds ten.
async fn converted_up_to_a_response(caller: &Caller, jobs: &[Arc<Job>]) -> Result<Vec<proto::Job>> {
    let mut budget = Budget::new(REPLY_BYTES);
    let mut summaries = Vec::with_capacity(jobs.len());
    for some in jobs.chunks(PAYLOADS_AT_ONCE) {
        let keys: Vec<JobKey> = some.iter().map(|job| job.key).collect();
        let documents = caller.services.store.list_job_payloads(&keys).await?;
        let none = JobDocuments::default();
        for job in some {
            let summary = convert::summary(job, documents.get(&job.key).unwrap_or(&none))?;
            if !budget.takes(&summary) {
                return Ok(summaries);
            }
            summaries.push(summary);
        }
    }
    Ok(summaries)
}

pub async fn list_job_events(
    caller: Caller,
    request: proto::ListJobEventsRequest,
) -> Result<proto::ListJobEventsResponse> {
    let named = steer::named_job(caller.namespace, &request.job_id)?;
    let (query, binding) = list::events(caller.namespace, &request)?;
    let job = existing(&caller, &named).await?;
    let found = caller.services.store.list_events(&job, query.after, query.limit + 1).await?;
    let mut budget = Budget::new(REPLY_BYTES);
    let mut events = Vec::with_capacity(found.len());
    for one in found.iter().take(query.limit as usize) {
        let message = event::event(one)?;
        if !budget.takes(&message) {
            break;
        }
        events.push(message);
    }
    let next_page_token = match events.last() {
        Some(last) if events.len() < found.len() => binding.token(&last.version)?,
        Some(_) | None => String::new(),
    };
    Ok(proto::ListJobEventsResponse { events, next_page_token })
}

/// WaitJob. A wait costs one read: the job is followed from before that read, so no commit after it is missed.
pub async fn wait_job(caller: Caller, request: proto::WaitJobRequest) -> Result<proto::WaitJobResponse> {
    let named = steer::named_job(caller.namespace, &request.job_id)?;
    let wait = steer::wait(request.wait.as_ref())?;
    // If the job was not read in time, there is nothing to answer.
    Caller::soon_after(wait, wait_for_end(&caller, &named, wait)).await.unwrap_or(Err(Error::StoreUnavailable))
}

async fn wait_for_end(caller: &Caller, named: &steer::NamedJob, wait: Duration) -> Result<proto::WaitJobResponse> {
    let end = caller.end_of(wait);
    loop {
        let mut follower = TopicFollower::begin(&caller.services.hub, named.key);
        let found = caller.services.store.job(named.key).await?;
        let (job, documents) = found.ok_or_else(|| missing(&named.job_id))?;
        let terminal = job.state.is_terminal();
        if terminal || end <= Instant::now() || caller.services.shutdown.is_cancelled() {
            return Ok(proto::WaitJobResponse { job: Some(convert::job(&job, &documents)?), terminal });
        }
        // So that steps from before this read do not wake the wait.
        caller.services.hub.publish_found(&job, caller.services.engine.now());
        drop((job, documents));
        let ended = async {
            while !follower.has_ended() {
                follower.changed().await;
            }
        };
        tokio::select! {
            () = ended => {}
            () = tokio::time::sleep_until(end) => {}
            () = caller.services.shutdown.cancelled() => {}
        }
    }
}

/// A job that has to exist, without documents.
pub(super) async fn existing(caller: &Caller, named: &steer::NamedJob) -> Result<Arc<Job>> {
    caller.find(named.key).await?.ok_or_else(|| missing(&named.job_id))
}

pub(super) fn missing(job_id: &str) -> Error {
    Refusal::JobNotFound { job_id: job_id.to_owned() }.into()
}
