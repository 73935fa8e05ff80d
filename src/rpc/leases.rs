//! The rpcs that grant leases.
//!
//! **Invariant.** A lease whose response does not reach its caller is released: if its documents cannot be read, if it does
//! not fit into the response, and if the caller disconnects.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::caller::Caller;
use super::convert::digest::identity;
use super::convert::{lease as convert, stage as convert_stage, worker};
use super::lease_repeats;
use super::limits::REPLY_BYTES;
use super::page::Budget;
use super::stage_writes::{load_stage, recorded};
use crate::domain::id::{JobKey, Name, StageNo};
use crate::domain::job::{Job, LeaseRequest, StageCredential};
use crate::domain::request::RequestRecord;
use crate::engine::dispatcher::{Leased, Leases, Poll, PollEnd};
use crate::error::{Error, Result, after_commit};
use crate::operation::return_current::Shown;
use crate::operation::start_stage::StartStage;
use crate::proto;

/// Answers LeaseStages, with the leases to hand over once the response is sent.
pub async fn lease_stages(
    caller: Caller,
    request: proto::LeaseStagesRequest,
) -> Result<(proto::LeaseStagesResponse, Leases)> {
    let wanted = worker::lease_request(&request)?;
    let nothing = Leases::on_the_way(&caller.services.engine, Vec::new());
    // Leases that come too late are released with the future that has them.
    let leased = Caller::soon_after(wanted.wait, lease_until(caller, request, wanted)).await;
    leased.unwrap_or_else(|| Ok((proto::LeaseStagesResponse::default(), nothing)))
}

async fn lease_until(
    caller: Caller,
    mut request: proto::LeaseStagesRequest,
    wanted: worker::LeaseParameters,
) -> Result<(proto::LeaseStagesResponse, Leases)> {
    let (_runs, worker_id_shared) = caller.instance_call(&wanted.worker_id, wanted.instance_id);
    // A repeat may have another wait: a caller that only wants to know its leases need not wait.
    request.wait = None;
    request.instance_id = None;
    let identity = identity(caller.namespace, &mut request)?;
    let poll = Poll {
        namespace: caller.namespace,
        worker_id: wanted.worker_id,
        queues: wanted.queues,
        max_stages: wanted.max_stages as usize,
        // A worker that shares its id is notified at once.
        wait: if worker_id_shared { Duration::ZERO } else { wanted.wait },
        lease_duration: wanted.duration,
        same_group: wanted.same_group,
        deadline: caller.deadline,
        request: None,
    };
    // Dropped before they are handed over, they are released.
    let (leased, replayed) = match identity {
        Some(identity) => lease_repeats::lease(&caller, poll, identity).await?,
        None => match caller.services.dispatcher.lease(poll).await? {
            PollEnd::Leased(leases) => (leases, false),
            PollEnd::GrantedBefore(_) | PollEnd::Superseded => return Err(Error::bug("a repeat without a request_id")),
        },
    };
    let leases = load_leases(&caller, leased.items()).await?;
    Ok((proto::LeaseStagesResponse { leases, replayed, worker_id_shared }, leased))
}

/// Loads the documents of leases. Returns as many leases as fit into a response.
pub(super) async fn load_leases(caller: &Caller, leased: &[Leased]) -> Result<Vec<proto::Lease>> {
    if leased.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<(JobKey, StageNo)> = leased.iter().map(|leased| (leased.job.key, leased.stage_no)).collect();
    let mut documents = caller.services.store.lease_documents(keys.clone()).await.map_err(after_commit)?;
    let now = caller.services.engine.now();
    let mut budget = Budget::new(REPLY_BYTES);
    let mut leases = Vec::with_capacity(keys.len());
    for (leased, key) in leased.iter().zip(&keys) {
        let stage = &leased.job.stages[leased.stage_no];
        let lease = convert::lease(&leased.job, stage, &documents.remove(key).unwrap_or_default(), now)?;
        if !budget.takes(&lease) {
            break;
        }
        leases.push(lease);
    }
    Ok(leases)
}

pub async fn start_stage(caller: Caller, mut request: proto::StartStageRequest) -> Result<proto::StartStageResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let worker::Start { stage, worker_id, lease_duration } = worker::start(caller.namespace, &request)?;
    let grant = lease_duration.map(|duration| LeaseRequest {
        worker_id: worker_id.clone(),
        secret: Uuid::new_v4(),
        duration: Some(duration),
        queue: None,
    });
    let wants_lease = grant.is_some();
    let shown =
        request.return_current.then(|| Shown::Stage(stage.key, StageCredential::Name(stage.stage_name.clone())));
    let operation = StartStage {
        key: stage.key,
        job_id: stage.job_id,
        stage_name: stage.stage_name,
        grant,
        permit_id: Uuid::new_v4(),
        expected_version: request.expected_version,
        request: identity,
    };
    let reply = caller.execute_showing(operation, shown).await?;
    if let Some(record) = &reply.replayed {
        let worker_id = wants_lease.then_some(worker_id);
        return restarted(&caller, record, worker_id.as_ref()).await.map_err(after_commit);
    }
    let (Some(job), Some(&no)) = (reply.jobs.first(), reply.stages.first()) else {
        return Err(Error::bug("a stage was started without a job"));
    };
    let mut lease = None;
    if wants_lease {
        // With a request_id the caller can ask for its lease again, so it is kept even if this answer fails.
        let items = if identity.is_none() { vec![Leased { job: job.clone(), stage_no: no }] } else { Vec::new() };
        let undelivered = Leases::on_the_way(&caller.services.engine, items);
        lease = Some(leased(&caller, job, no).await?);
        undelivered.hand_over(1);
    }
    Ok(proto::StartStageResponse {
        stage: Some(convert_stage::stage(job, &job.stages[no], None, None)?),
        lease,
        job_version: job.revision,
        replayed: false,
        applied_job_version: job.revision,
    })
}

async fn leased(caller: &Caller, job: &Arc<Job>, no: StageNo) -> Result<proto::Lease> {
    let leased = Leased { job: job.clone(), stage_no: no };
    let leases = load_leases(caller, std::slice::from_ref(&leased)).await?;
    leases.into_iter().next().ok_or_else(|| Error::bug("a reply does not hold one lease"))
}

/// The answer to a repeated StartStage; with the lease if `worker_id` asked for one and still has it.
async fn restarted(
    caller: &Caller,
    record: &RequestRecord,
    worker_id: Option<&Name>,
) -> Result<proto::StartStageResponse> {
    let gone = proto::StartStageResponse { replayed: true, applied_job_version: record.revision, ..Default::default() };
    let Some((job, no)) = recorded(caller, record).await? else { return Ok(gone) };
    let mut lease = None;
    if worker_id.is_some() && is_same_attempt(caller, &job, no, record, worker_id).await? {
        lease = Some(leased(caller, &job, no).await?);
    }
    Ok(proto::StartStageResponse {
        stage: Some(load_stage(caller, &job, no).await?),
        lease,
        job_version: job.revision,
        ..gone
    })
}

/// Whether the stage's lease is the one that the recorded start has given: it is held by the same worker, and its attempt
/// began at the moment that history notes for that start.
async fn is_same_attempt(
    caller: &Caller,
    job: &Job,
    no: StageNo,
    record: &RequestRecord,
    worker_id: Option<&Name>,
) -> Result<bool> {
    let stage = &job.stages[no];
    if stage.lease().map(|lease| &lease.worker_id) != worker_id {
        return Ok(false);
    }
    let events = caller.services.store.list_events(job, record.revision - 1, 1).await?;
    Ok(events
        .first()
        .is_some_and(|event| event.revision == record.revision && stage.start_time == Some(event.event_time)))
}
