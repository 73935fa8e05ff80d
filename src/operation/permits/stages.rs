//! Permits of stages: granted together with the lease or not at all, and released with the end of the attempt.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::resource_tx::{BlockedClaims, ResourceTx, held_permits, strictest_block};
use crate::domain::failure::FailureClass;
use crate::domain::id::{Name, NamespaceId};
use crate::domain::job::{Job, JobTx};
use crate::domain::permit::resource::PermitTerms;
use crate::domain::permit::{Blocker, HeldPermit, PermitClaim, PermitOutcome, ResourceKey};
use crate::domain::stage::{Stage, StagePhase};
use crate::domain::time::Timestamp;
use crate::operation::overlay::Overlay;

/// Acquires the permits of a stage, or returns the block that it waits for. `id` is the id of the permits; stages of a group pass the same
/// one, and share permits that others of the group hold. `own` is an id of this stage alone.
pub fn acquire(
    overlay: &mut Overlay,
    job: &Job,
    stage: &Stage,
    worker: &Name,
    (id, own): (Uuid, Uuid),
) -> Result<Vec<HeldPermit>, (ResourceKey, Blocker)> {
    let claims = &stage.spec.permits;
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = ResourceTx::new(overlay, job.key.namespace);
    // There is one permit per id and resource, so a stage that needs another amount or mode gets permits of its own.
    let id = if claims.iter().any(|claim| is_other(&mut tx, claim, &id)) { own } else { id };
    let (shared, wanted): (Vec<PermitClaim>, Vec<PermitClaim>) =
        claims.iter().cloned().partition(|claim| is_shared(&mut tx, claim, &id));
    let position = (Reverse(job.priority), tx.now, Uuid::max());
    let blocked = tx.find_blocks(&wanted, position, true);
    let wanted_keys = wanted.iter().map(|claim| ResourceKey::of(job.key.namespace, &claim.resource));
    for key in wanted_keys {
        if !blocked.iter().any(|(blocked, _)| *blocked == key) {
            tx.stage_arrived(key);
        }
    }
    if !blocked.is_empty() {
        let block = wait(&mut tx, job, claims, blocked);
        tx.finish();
        return Err(block);
    }
    let mut permits: Vec<HeldPermit> = shared.iter().filter_map(|claim| join(&mut tx, claim, &id)).collect();
    let lease = None;
    let terms = PermitTerms {
        id,
        all: tx.permit_uids(claims),
        holder: worker.clone(),
        ttl: Duration::ZERO,
        expires_at: None,
        lease,
    };
    permits.extend(held_permits(id, &tx.grant(&wanted, &terms)));
    tx.finish();
    Ok(permits)
}

/// Whether another stage of the group holds a permit with the same amount and mode.
fn is_shared(tx: &mut ResourceTx, claim: &PermitClaim, id: &Uuid) -> bool {
    let resource = tx.get_or_new(&claim.resource);
    let mode = resource.mode_of(claim);
    resource.held_permit(id).is_some_and(|permit| permit.mode == mode && permit.amount == claim.amount)
}

/// Whether another stage of the group holds a permit with another amount or mode.
fn is_other(tx: &mut ResourceTx, claim: &PermitClaim, id: &Uuid) -> bool {
    let is_held = tx.get_or_new(&claim.resource).held_permit(id).is_some();
    is_held && !is_shared(tx, claim, id)
}

fn join(tx: &mut ResourceTx, claim: &PermitClaim, id: &Uuid) -> Option<HeldPermit> {
    let resource = tx.get_or_new(&claim.resource);
    resource.share(id);
    let (key, permit) = (resource.key, resource.held_permit(id)?);
    let held = HeldPermit { resource: key.uid, id: *id, fencing_token: permit.fencing_token };
    tx.mark_changed(key);
    Some(held)
}

/// Adds a stage to the wait queue of the resource that blocks it most.
fn wait(tx: &mut ResourceTx, job: &Job, claims: &[PermitClaim], blocked: BlockedClaims) -> (ResourceKey, Blocker) {
    let Some((key, blocker)) = strictest_block(blocked) else {
        unreachable!("somebody who waits was blocked");
    };
    if let Some(claim) = claim_of(job, claims, key) {
        tx.enqueue_stage(job, claim);
    }
    (key, blocker)
}

/// Claim of a stage on a resource.
pub(super) fn claim_of<'a>(job: &Job, claims: &'a [PermitClaim], key: ResourceKey) -> Option<&'a PermitClaim> {
    claims.iter().find(|claim| ResourceKey::of(job.key.namespace, &claim.resource) == key)
}

/// Permits of the attempts that a transaction ended, with their outcomes.
pub fn released(tx: &JobTx) -> Vec<(HeldPermit, PermitOutcome)> {
    let mut released = Vec::new();
    for (was, is) in tx.stages_with_permits() {
        let gone = was.permits().iter().filter(|permit| !is.permits().iter().any(|held| held.id == permit.id));
        let outcome = outcome(was, is, tx.now);
        released.extend(gone.map(|permit| (*permit, outcome)));
    }
    released
}

/// Releases permits. Those that are not held any more, because they were released or have expired, are skipped.
pub fn release_all(overlay: &mut Overlay, namespace: NamespaceId, released: Vec<(HeldPermit, PermitOutcome)>) {
    let mut tx = ResourceTx::new(overlay, namespace);
    let now = tx.now;
    for (permit, outcome) in released {
        let key = ResourceKey { namespace, uid: permit.resource };
        if tx.get(key).is_some_and(|resource| resource.release(&permit.id, outcome, now)) {
            tx.mark_changed(key);
        }
    }
    tx.finish();
}

/// Outcome of an attempt for the permits that it held.
fn outcome(was: &Stage, is: &Stage, now: Timestamp) -> PermitOutcome {
    let latency = was.start_time.map(|start| start.until(now));
    match is.phase() {
        StagePhase::Succeeded => PermitOutcome { class: None, latency, retry_after: None },
        StagePhase::Ready | StagePhase::Backoff | StagePhase::Failed | StagePhase::Cancelled => {
            let failure = is
                .failure
                .as_ref()
                .filter(|failure| was.failure.as_ref().is_none_or(|before| !Arc::ptr_eq(before, failure)));
            let Some(failure) = failure else { return PermitOutcome { latency, ..PermitOutcome::NEUTRAL } };
            // A cancelled attempt says nothing about the resource.
            let class =
                if is.phase() == StagePhase::Cancelled { FailureClass::Cancelled } else { failure.report.class };
            PermitOutcome { class: Some(class), latency, retry_after: failure.report.retry_after }
        }
        StagePhase::Blocked | StagePhase::Running | StagePhase::Skipped => {
            PermitOutcome { latency, ..PermitOutcome::NEUTRAL }
        }
    }
}
