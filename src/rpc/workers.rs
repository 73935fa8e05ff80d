//! The rpc that lists workers.

use super::caller::Caller;
use super::convert::time;
use super::list;
use crate::error::Result;
use crate::proto;
use crate::store::job::workers::{LeasedStage, WorkerState};

pub async fn list_workers(caller: Caller, request: proto::ListWorkersRequest) -> Result<proto::ListWorkersResponse> {
    let (query, binding) = list::workers(caller.namespace, &request)?;
    let page = caller.services.store.list_workers(caller.namespace, &query.after, query.limit).await?;
    let next_page_token = page.next.map(|next| binding.token(&next)).transpose()?.unwrap_or_default();
    Ok(proto::ListWorkersResponse { workers: page.workers.into_iter().map(worker).collect(), next_page_token })
}

fn worker(worker: WorkerState) -> proto::WorkerLeases {
    proto::WorkerLeases {
        worker_id: worker.worker_id.to_string(),
        lease_count: worker.leases.count,
        lease_count_capped: worker.leases.is_capped,
        queues: worker.queues,
        queues_capped: worker.has_more_queues,
        stages: worker.stages.into_iter().map(stage).collect(),
        oldest_lease_time: worker.oldest_start.map(time::timestamp),
        last_renew_time: Some(time::timestamp(worker.last_renewal)),
        next_expire_time: Some(time::timestamp(worker.next_end)),
    }
}

fn stage(stage: LeasedStage) -> proto::HeldStage {
    proto::HeldStage {
        job_id: stage.job_id,
        stage_name: stage.name,
        queue: stage.queue.unwrap_or_default(),
        start_time: stage.start.map(time::timestamp),
        expire_time: Some(time::timestamp(stage.end)),
        progress: stage.progress,
    }
}
