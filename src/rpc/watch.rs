//! The rpcs that stream: what the feed tells, as messages.

use std::pin::Pin;

use futures::stream::{self, Stream};
use tonic::Status;

use super::caller::Caller;
use super::convert::{change, job as convert, steer};
use super::filter;
use crate::domain::documents::JobDocuments;
use crate::error::Result;
use crate::feed::board_watcher::{BoardNews, BoardWatcher};
use crate::feed::watcher::{News, Watcher};
use crate::proto::{self, watch_job_response, watch_jobs_response};

/// What a streaming rpc answers with.
pub type Messages<M> = Pin<Box<dyn Stream<Item = std::result::Result<M, Status>> + Send>>;

/// WatchJob.
pub async fn watch_job(caller: Caller, request: proto::WatchJobRequest) -> Result<Messages<proto::WatchJobResponse>> {
    let named = steer::named_job(caller.namespace, &request.job_id)?;
    let from = steer::from_version(request.from_version)?;
    let services = &caller.services;
    let watcher = Watcher::begin(&services.hub, &services.watch_store, named.key, named.job_id, from).await?;
    let messages = stream::try_unfold(watcher, |mut watcher| async move {
        let next = watcher.next().await.map_err(Status::from)?;
        Ok(next.map(news).transpose()?.map(|message| (message, watcher)))
    });
    Ok(Box::pin(messages))
}

/// WatchJobs.
pub async fn watch_jobs(
    caller: Caller,
    request: proto::WatchJobsRequest,
) -> Result<Messages<proto::WatchJobsResponse>> {
    let filter = filter::filter(&request.filter)?;
    let services = &caller.services;
    let watcher = BoardWatcher::begin(&services.hub, &services.watch_store, caller.namespace, filter).await?;
    let messages = stream::try_unfold(watcher, |mut watcher| async move {
        let next = watcher.next().await.map_err(Status::from)?;
        Ok(Some((board_news(next)?, watcher)))
    });
    Ok(Box::pin(messages))
}

fn news(news: News) -> Result<proto::WatchJobResponse> {
    use watch_job_response::Update;
    let update = match news {
        News::Snapshot(snapshot) => Update::Snapshot(change::snapshot(&snapshot)?),
        News::Step(step) => Update::Change(change::change(&step)?),
        News::Gap { oldest } => Update::Gap(proto::WatchGap { oldest_version: oldest }),
        News::Keepalive(revision) => Update::Keepalive(proto::WatchKeepalive { version: revision }),
    };
    Ok(proto::WatchJobResponse { update: Some(update) })
}

fn board_news(news: BoardNews) -> Result<proto::WatchJobsResponse> {
    use watch_jobs_response::Update;
    let update = match news {
        BoardNews::Job(job) => Update::Job(convert::summary(&job, &JobDocuments::default())?),
        BoardNews::Step(step) => Update::Change(change::change(&step)?),
        BoardNews::Removal { job, revision, deleted } => {
            Update::Removal(proto::JobRemoval { job_id: job.meta.job_id.to_string(), version: revision, deleted })
        }
        BoardNews::CaughtUp(jobs) => {
            Update::CaughtUp(proto::WatchCaughtUp { jobs: i32::try_from(jobs).unwrap_or(i32::MAX) })
        }
        BoardNews::Keepalive => Update::Keepalive(proto::WatchKeepalive { version: 0 }),
    };
    Ok(proto::WatchJobsResponse { update: Some(update) })
}
