//! LeaseStages with a `request_id`: a repeat gets the leases that the first call was granted, as far as they are still held.
//!
//! **Invariant.** However many calls of one `request_id` there are, at once or one after the other and on whichever servers, they hold at
//! most `max_stages` leases together: each lease is remembered in the commit that grants it, in one of so many slots.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use tokio::time::Instant;

use super::caller::Caller;
use crate::domain::id::StageNo;
use crate::domain::refusal::Refusal;
use crate::domain::request::{RequestIdentity, RequestRecord};
use crate::engine::dispatcher::{Leased, Leases, Poll, PollEnd, PollRequest};
use crate::error::{Result, after_commit};
use crate::operation::redeliver_leases::RedeliverLeases;

/// How often calls of one `request_id` are granted leases that are remembered. What later ones are granted is not.
const MAX_ROUNDS: u32 = 16;

/// Leases as [`Poll`] says, or those that an earlier call was granted; and whether they are those.
pub async fn lease(caller: &Caller, poll: Poll, identity: RequestIdentity) -> Result<(Leases, bool)> {
    let end = Instant::now() + poll.wait;
    let slots = u32::try_from(poll.max_stages).unwrap_or(u32::MAX);
    let mut request = PollRequest { identity, round: 0 };
    // Leases that this call was granted beside those of another. Redelivered, they are not released when these are dropped.
    let mut beside = Vec::new();
    let mut is_over = false;
    loop {
        if let Some(leases) = granted_before(caller, &mut request, slots).await? {
            return Ok((leases, true));
        }
        if is_over {
            return Ok((Leases::repeatable(&caller.services.engine, Vec::new()), false));
        }
        let is_remembered = request.round < MAX_ROUNDS;
        let wait = end.saturating_duration_since(Instant::now());
        let poll = Poll { wait, request: is_remembered.then_some(request), ..poll.clone() };
        match caller.services.dispatcher.lease(poll).await? {
            PollEnd::Leased(leases) if !leases.items().is_empty() => return Ok((leases, false)),
            // Another server may have granted some meanwhile.
            PollEnd::Leased(_) => is_over = true,
            PollEnd::GrantedBefore(leases) => beside.push(leases),
            PollEnd::Superseded => return Ok((Leases::repeatable(&caller.services.engine, Vec::new()), false)),
        }
    }
}

/// The leases of the newest round that are still held, delivered once more. None: there are none, and `request` has the next round.
async fn granted_before(caller: &Caller, request: &mut PollRequest, slots: u32) -> Result<Option<Leases>> {
    while request.round < MAX_ROUNDS {
        let key = request.identity.key;
        let keys: Vec<_> = (0..slots).map(|index| key.slot(request.round, index)).collect();
        let mut found = caller.services.store.requests(&keys).await?;
        if found.is_empty() {
            break;
        }
        let records: Vec<_> = keys.iter().filter_map(|key| found.remove(key)).collect();
        if records.iter().any(|record| record.digest != request.identity.digest) {
            return Err(Refusal::RequestIdReused.into());
        }
        let leases = redelivered(caller, &records).await?;
        if !leases.items().is_empty() {
            return Ok(Some(leases));
        }
        request.round += 1;
    }
    Ok(None)
}

async fn redelivered(caller: &Caller, records: &[Arc<RequestRecord>]) -> Result<Leases> {
    let mut by_job: BTreeMap<_, Vec<(StageNo, i64)>> = BTreeMap::new();
    for record in records {
        if let (Some(&uid), Some(no), Some(&fencing_token)) =
            (record.jobs.first(), record.stage_no, record.versions.first())
        {
            by_job.entry(caller.key(uid)).or_default().push((no, fencing_token));
        }
    }
    let deliver = |(key, leases)| caller.execute(RedeliverLeases { key, leases });
    let (mut items, mut failed) = (Vec::with_capacity(records.len()), None);
    for reply in join_all(by_job.into_iter().map(deliver)).await {
        match reply {
            Ok(reply) => {
                let job = reply.jobs.first();
                items.extend(reply.stages.iter().filter_map(|&stage_no| Some(Leased { job: job?.clone(), stage_no })));
            }
            Err(error) => failed = Some(error),
        }
    }
    let leases = Leases::repeatable(&caller.services.engine, items);
    failed.map_or(Ok(leases), |error| Err(after_commit(error)))
}
