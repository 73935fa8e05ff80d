//! Leases for the wire: what a worker gets to do its work, and what it hears about the leases it has.

use super::failure::{self, count};
use super::{document, time};
use crate::domain::documents::LeaseDocuments;
use crate::domain::id::{LeaseToken, StageNo};
use crate::domain::job::{Job, JobState};
use crate::domain::lease::StoredLease;
use crate::domain::permit::{HeldPermit, PermitClaim, ResourceKey};
use crate::domain::stage::Stage;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::proto;
use crate::rpc::limits::DEPENDENCIES_BYTES;
use crate::rpc::page::Budget;

/// The lease of a stage that was just leased; `now` is the database's.
pub fn lease(job: &Job, stage: &Stage, documents: &LeaseDocuments, now: Timestamp) -> Result<proto::Lease> {
    let (Some(lease), Some(token)) = (stage.lease(), stage.token(job.key.uid)) else {
        return Err(Error::bug("a stage without a lease was returned as leased"));
    };
    let (dependencies, dependencies_truncated) = dependencies(job, stage, documents)?;
    Ok(proto::Lease {
        lease_token: token.to_string(),
        fencing_token: stage.fencing_token,
        job_id: job.meta.job_id.to_string(),
        stage_name: stage.spec.name.to_string(),
        kind: job.meta.kind.to_string(),
        queue: stage.spec.queue.to_string(),
        attempt: count(stage.attempt),
        max_attempts: count(stage.max_attempts()),
        payload: document::optional_object(documents.payload.as_ref())?,
        input: document::optional_object(documents.input.as_ref())?,
        dependencies,
        expire_time: Some(time::timestamp(job.lease_end(lease))),
        ttl: Some(time::duration(now.until(job.lease_end(lease)))),
        heartbeat_interval: Some(time::duration(lease.heartbeat_interval())),
        job_version: job.revision,
        labels: job.labels.as_ref().clone(),
        group_key: stage.spec.group_key.as_deref().unwrap_or_default().to_owned(),
        dependencies_truncated,
        permits: permits(stage),
        isolated: stage.is_suspect(),
    })
}

/// The permits of a running attempt, in the order of its claims. Those that it acquired by itself it knows already.
fn permits(stage: &Stage) -> Vec<proto::PermitGrant> {
    let grant = |(claim, held): (&PermitClaim, &HeldPermit)| proto::PermitGrant {
        resource: claim.resource.to_string(),
        fencing_token: held.fencing_token,
    };
    let of = |claim: &PermitClaim| {
        let uid = ResourceKey::uid_of(&claim.resource);
        stage.permits().iter().find(move |held| held.resource == uid)
    };
    stage.spec.permits.iter().filter_map(|claim| Some((claim, of(claim)?))).map(grant).collect()
}

/// The stages a stage depends on, up to what a lease may hold, and whether some are missing.
fn dependencies(job: &Job, stage: &Stage, documents: &LeaseDocuments) -> Result<(Vec<proto::Dependency>, bool)> {
    let mut budget = Budget::new(DEPENDENCIES_BYTES);
    let mut dependencies = Vec::with_capacity(stage.depends_on.len());
    for &no in stage.depends_on.iter() {
        let dependency = dependency(job, no, documents)?;
        if !budget.takes(&dependency) {
            return Ok((dependencies, true));
        }
        dependencies.push(dependency);
    }
    Ok((dependencies, false))
}

fn dependency(job: &Job, no: StageNo, documents: &LeaseDocuments) -> Result<proto::Dependency> {
    let stage = &job.stages[no];
    Ok(proto::Dependency {
        name: stage.spec.name.to_string(),
        state: stage.phase() as i32,
        artifacts: document::optional_object(documents.artifacts.get(&no))?,
        failure: failure::optional(stage.failure.as_deref())?,
    })
}

/// The status of a lease that is held.
pub fn status(lease: &StoredLease, now: Timestamp) -> proto::LeaseStatus {
    let directive = match lease.job_state {
        JobState::Failing { .. } | JobState::Cancelling { .. } => proto::LeaseDirective::Cancel,
        JobState::Paused { .. } => proto::LeaseDirective::Pause,
        JobState::Pending | JobState::Running | JobState::Succeeded | JobState::Failed | JobState::Cancelled => {
            proto::LeaseDirective::Continue
        }
    };
    proto::LeaseStatus {
        directive: directive as i32,
        expire_time: Some(time::timestamp(lease.end())),
        ttl: Some(time::duration(now.until(lease.end()))),
        job_version: lease.job_revision,
    }
}

/// The status of a lease by what its job says; of one that the job does not hold any more: lost.
pub fn status_in(job: &Job, token: &LeaseToken, now: Timestamp) -> proto::LeaseStatus {
    let Some(lease) = job.leased_stage(token).and_then(|stage| stage.lease()) else { return lost() };
    let stored = StoredLease {
        secret: token.secret,
        fencing_token: Some(token.fencing_token),
        duration: lease.duration,
        expires_at: lease.expires_at,
        job_state: job.state,
        job_revision: job.revision,
    };
    status(&stored, now)
}

/// The status of a lease that is not held.
pub fn lost() -> proto::LeaseStatus {
    proto::LeaseStatus { directive: proto::LeaseDirective::Lost as i32, expire_time: None, ttl: None, job_version: 0 }
}
