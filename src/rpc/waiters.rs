//! The rpc that lists what waits for a permit of a resource.

use super::caller::Caller;
use super::convert::path::Path;
use super::convert::{permit, time};
use super::list;
use crate::domain::permit::ResourceKey;
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::proto;
use crate::store::permit::waiters::{PermitRequester, WaiterState};

pub async fn list_waiters(caller: Caller, request: proto::ListWaitersRequest) -> Result<proto::ListWaitersResponse> {
    let name = permit::name(&request.name, &Path::Root.field("name"))?;
    let (query, binding) = list::waiters(caller.namespace, &request)?;
    let key = ResourceKey::of(caller.namespace, &name);
    let page = caller.services.store.list_waiters(key, &query.after, query.limit).await?;
    let page = page.ok_or_else(|| Refusal::ResourceNotFound { name: name.to_string() })?;
    Ok(proto::ListWaitersResponse {
        waiters: page.waiters.into_iter().map(waiter).collect(),
        next_page_token: page.next.map(|next| binding.token(&next)).transpose()?.unwrap_or_default(),
        caller_count: i32::try_from(page.callers).unwrap_or(i32::MAX),
        stage_count: page.stages.count,
        stage_count_capped: page.stages.is_capped,
    })
}

fn waiter(waiter: WaiterState) -> proto::PermitWaiter {
    let common = proto::PermitWaiter {
        mode: waiter.mode as i32,
        amount: waiter.amount,
        priority: waiter.priority,
        wait_start_time: Some(time::timestamp(waiter.since)),
        ..Default::default()
    };
    match waiter.requester {
        PermitRequester::Caller { holder, until } => {
            proto::PermitWaiter { holder: holder.to_string(), expire_time: Some(time::timestamp(until)), ..common }
        }
        PermitRequester::Stage { job_id, name, queue } => {
            proto::PermitWaiter { job_id, stage_name: name, queue, ..common }
        }
    }
}
