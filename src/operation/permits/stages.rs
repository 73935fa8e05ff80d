//! The permits of stages: had together with the lease or not at all, and given back with the attempt.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::desk::{Blocked, Desk, held, worst};
use crate::domain::failure::FailureClass;
use crate::domain::id::{Name, NamespaceId};
use crate::domain::job::{Edit, Job};
use crate::domain::permit::resource::Terms;
use crate::domain::permit::{Blocker, Claim, HeldPermit, Outcome, ResourceKey};
use crate::domain::stage::{Stage, StagePhase};
use crate::domain::time::Timestamp;
use crate::operation::overlay::Overlay;

/// Gets the permits of a stage, or says what it waits for. `id` is that of the permits; stages of one group come with the same one, and
/// share what others of them hold already; `own` is the stage's alone.
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
    let mut desk = Desk::new(overlay, job.key.namespace);
    // Permits of one id are one permit at each resource, so who needs another amount there has permits of its own.
    let id = if claims.iter().any(|claim| is_other(&mut desk, claim, &id)) { own } else { id };
    let (shared, wanted): (Vec<Claim>, Vec<Claim>) =
        claims.iter().cloned().partition(|claim| is_shared(&mut desk, claim, &id));
    let place = (Reverse(job.priority), desk.now, Uuid::max());
    let blocked = desk.blocked(&wanted, place, true);
    let wanted_keys = wanted.iter().map(|claim| ResourceKey::of(job.key.namespace, &claim.resource));
    for key in wanted_keys {
        if !blocked.iter().any(|(blocked, _)| *blocked == key) {
            desk.stage_came(key);
        }
    }
    if !blocked.is_empty() {
        let block = wait(&mut desk, job, claims, blocked);
        desk.close();
        return Err(block);
    }
    let mut permits: Vec<HeldPermit> = shared.iter().filter_map(|claim| join(&mut desk, claim, &id)).collect();
    let lease = None;
    let terms =
        Terms { id, all: desk.all(claims), holder: worker.clone(), ttl: Duration::ZERO, expires_at: None, lease };
    permits.extend(held(id, &desk.grant(&wanted, &terms)));
    desk.close();
    Ok(permits)
}

/// Whether another stage of the group holds just this.
fn is_shared(desk: &mut Desk, claim: &Claim, id: &Uuid) -> bool {
    let resource = desk.get_or_new(&claim.resource);
    let mode = resource.mode_of(claim);
    resource.held_permit(id).is_some_and(|permit| permit.mode == mode && permit.amount == claim.amount)
}

/// Whether another stage of the group holds something else there.
fn is_other(desk: &mut Desk, claim: &Claim, id: &Uuid) -> bool {
    let is_held = desk.get_or_new(&claim.resource).held_permit(id).is_some();
    is_held && !is_shared(desk, claim, id)
}

fn join(desk: &mut Desk, claim: &Claim, id: &Uuid) -> Option<HeldPermit> {
    let resource = desk.get_or_new(&claim.resource);
    resource.join(id);
    let (key, permit) = (resource.key, resource.held_permit(id)?);
    let held = HeldPermit { resource: key.uid, id: *id, fencing_token: permit.fencing_token };
    desk.changed(key);
    Some(held)
}

/// Lets a stage wait in the line of what is most in the way.
fn wait(desk: &mut Desk, job: &Job, claims: &[Claim], blocked: Blocked) -> (ResourceKey, Blocker) {
    let Some((key, blocker)) = worst(blocked) else {
        unreachable!("somebody who waits was blocked");
    };
    if let Some(claim) = claim_of(job, claims, key) {
        desk.stage_waits(job, claim);
    }
    (key, blocker)
}

/// What a stage of a job asks of a resource.
pub(super) fn claim_of<'a>(job: &Job, claims: &'a [Claim], key: ResourceKey) -> Option<&'a Claim> {
    claims.iter().find(|claim| ResourceKey::of(job.key.namespace, &claim.resource) == key)
}

/// What attempts hold that an edit ends, with their outcomes.
pub fn given_up(edit: &Edit) -> Vec<(HeldPermit, Outcome)> {
    let mut given_up = Vec::new();
    for (was, is) in edit.with_permits() {
        let gone = was.permits().iter().filter(|permit| !is.permits().iter().any(|held| held.id == permit.id));
        let outcome = outcome(was, is, edit.now);
        given_up.extend(gone.map(|permit| (*permit, outcome)));
    }
    given_up
}

/// Gives them back. What is not held any more, because it was released by itself or has expired, is passed over.
pub fn give_back(overlay: &mut Overlay, namespace: NamespaceId, given_up: Vec<(HeldPermit, Outcome)>) {
    let mut desk = Desk::new(overlay, namespace);
    let now = desk.now;
    for (permit, outcome) in given_up {
        let key = ResourceKey { namespace, uid: permit.resource };
        if desk.get(key).is_some_and(|resource| resource.release(&permit.id, outcome, now)) {
            desk.changed(key);
        }
    }
    desk.close();
}

/// What came of an attempt, as its permits are told.
fn outcome(was: &Stage, is: &Stage, now: Timestamp) -> Outcome {
    let latency = was.start_time.map(|start| start.until(now));
    match is.phase() {
        StagePhase::Succeeded => Outcome { class: None, latency, retry_after: None },
        StagePhase::Ready | StagePhase::Backoff | StagePhase::Failed | StagePhase::Cancelled => {
            let failure = is
                .failure
                .as_ref()
                .filter(|failure| was.failure.as_ref().is_none_or(|before| !Arc::ptr_eq(before, failure)));
            let Some(failure) = failure else { return Outcome { latency, ..Outcome::NEUTRAL } };
            // Who was told to stop says nothing about the resource.
            let class =
                if is.phase() == StagePhase::Cancelled { FailureClass::Cancelled } else { failure.report.class };
            Outcome { class: Some(class), latency, retry_after: failure.report.retry_after }
        }
        StagePhase::Blocked | StagePhase::Running | StagePhase::Skipped => Outcome { latency, ..Outcome::NEUTRAL },
    }
}
