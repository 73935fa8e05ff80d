//! The rpc that lists queues.

use super::caller::Caller;
use super::convert::time;
use super::list;
use crate::error::Result;
use crate::proto;
use crate::store::job::queues::QueueState;

pub async fn list_queues(caller: Caller, request: proto::ListQueuesRequest) -> Result<proto::ListQueuesResponse> {
    let (query, binding) = list::by_name("ListQueues", caller.namespace, &request.page_token, request.page_size)?;
    let page = caller.services.store.list_queues(caller.namespace, &query.after, query.limit).await?;
    let next_page_token = page.next.map(|next| binding.token(&next)).transpose()?.unwrap_or_default();
    Ok(proto::ListQueuesResponse { queues: page.queues.iter().map(queue).collect(), next_page_token })
}

fn queue(queue: &QueueState) -> proto::Queue {
    proto::Queue {
        name: queue.name.to_string(),
        ready_count: queue.ready.count,
        ready_count_capped: queue.ready.is_capped,
        oldest_ready_time: queue.oldest_ready.map(time::timestamp),
        waiting_count: queue.waiting.count,
        waiting_count_capped: queue.waiting.is_capped,
        leased_count: queue.leased.count,
        leased_count_capped: queue.leased.is_capped,
        delayed_count: queue.delayed.count,
        delayed_count_capped: queue.delayed.is_capped,
    }
}
