//! WatchJob and WatchJobs: every step of one job, or of all jobs that match a filter.

use super::caller::Caller;
use super::convert::{change, job as convert, steer};
use super::filter;
use super::streams::{MessageSource, Messages, messages};
use crate::domain::documents::JobDocuments;
use crate::error::Result;
use crate::feed::board::watcher::{BoardUpdate, BoardWatcher};
use crate::feed::job::watcher::{JobUpdate, JobWatcher};
use crate::proto::{self, watch_job_response, watch_jobs_response};

pub async fn watch_job(caller: Caller, request: proto::WatchJobRequest) -> Result<Messages<proto::WatchJobResponse>> {
    let named = steer::named_job(caller.namespace, &request.job_id)?;
    let from = steer::from_version(request.from_version)?;
    let services = &caller.services;
    Ok(messages(
        JobWatcher::begin(&services.hub, &services.watch_store, named.key, named.job_id, from, caller.memory).await?,
    ))
}

pub async fn watch_jobs(
    caller: Caller,
    request: proto::WatchJobsRequest,
) -> Result<Messages<proto::WatchJobsResponse>> {
    let filter = filter::filter(&request.filter)?;
    let services = &caller.services;
    Ok(messages(
        BoardWatcher::begin(&services.hub, &services.watch_store, caller.namespace, filter, caller.memory).await?,
    ))
}

impl MessageSource for JobWatcher {
    type Message = proto::WatchJobResponse;

    async fn next(&mut self) -> Result<Option<Self::Message>> {
        JobWatcher::next(self).await?.map(job_response).transpose()
    }
}

impl MessageSource for BoardWatcher {
    type Message = proto::WatchJobsResponse;

    async fn next(&mut self) -> Result<Option<Self::Message>> {
        BoardWatcher::next(self).await.and_then(jobs_response).map(Some)
    }
}

fn job_response(update: JobUpdate) -> Result<proto::WatchJobResponse> {
    use watch_job_response::Update;
    let update = match update {
        JobUpdate::Snapshot(snapshot) => Update::Snapshot(change::snapshot(&snapshot)?),
        JobUpdate::Step(step) => Update::Change(change::change(&step)?),
        JobUpdate::Gap { oldest } => Update::Gap(proto::WatchGap { oldest_version: oldest }),
        JobUpdate::Keepalive(revision) => Update::Keepalive(proto::WatchKeepalive { version: revision }),
    };
    Ok(proto::WatchJobResponse { update: Some(update) })
}

fn jobs_response(update: BoardUpdate) -> Result<proto::WatchJobsResponse> {
    use watch_jobs_response::Update;
    let update = match update {
        BoardUpdate::Job(job) => Update::Job(convert::summary(&job, &JobDocuments::default())?),
        BoardUpdate::Step(step) => Update::Change(change::change(&step)?),
        BoardUpdate::Removal { job, revision, deleted } => {
            Update::Removal(proto::JobRemoval { job_id: job.meta.job_id.to_string(), version: revision, deleted })
        }
        BoardUpdate::CaughtUp(jobs) => {
            Update::CaughtUp(proto::WatchCaughtUp { jobs: i32::try_from(jobs).unwrap_or(i32::MAX) })
        }
        BoardUpdate::Keepalive => Update::Keepalive(proto::WatchKeepalive { version: 0 }),
    };
    Ok(proto::WatchJobsResponse { update: Some(update) })
}
