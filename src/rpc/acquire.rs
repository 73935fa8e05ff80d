//! AcquirePermit: a wish, and the wait for it.
//!
//! **Invariant.** A permit that does not reach its caller's reply is given back, unless the call carried a `request_id`, with which its
//! caller can ask for it again; and nobody who has gone stays in a line.

use tokio::time::Instant;
use uuid::Uuid;

use super::caller::{Caller, after_commit};
use super::convert::digest::identity;
use super::convert::permit::{self as convert, BuildStage};
use crate::domain::permit::{Blocker, Granted, ResourceKey};
use crate::domain::request::RequestIdentity;
use crate::engine::Engine;
use crate::engine::permits::Signal;
use crate::error::{Error, Result, WriteOutcome};
use crate::operation::permits::PermitReply;
use crate::operation::permits::acquire::AcquirePermit;
use crate::operation::permits::end_wait::{EndWait, WhenGranted};
use crate::proto;
use crate::proto::acquire_permit_response::Result as Outcome;

/// A wish that is under way. Dropped, it is given up, with what it was granted.
pub struct Undelivered {
    engine: Engine,
    wish: Option<EndWait>,
}

impl Undelivered {
    /// The caller has what it was granted.
    pub fn hand_over(mut self) {
        self.wish = None;
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        let Some(wish) = self.wish.take() else { return };
        let engine = self.engine.clone();
        tokio::spawn(async move {
            if let Err(error) = engine.execute(wish, None).await {
                // It expires by itself.
                tracing::debug!(%error, "a permit whose caller had gone was not released");
            }
        });
    }
}

/// AcquirePermit, with what has to be undone unless the answer is sent.
pub async fn acquire_permit(
    caller: Caller,
    mut request: proto::AcquirePermitRequest,
) -> Result<(proto::AcquirePermitResponse, Undelivered)> {
    let identity = identity(caller.namespace, &mut request)?;
    let wish = convert::wish(&request)?;
    let (wait, end) = (wish.wait, caller.end_of(wish.wait));
    let mut acquired = Box::pin(acquire_until(caller, wish, identity, end));
    match Caller::soon_after(wait, &mut acquired).await {
        Some(acquired) => acquired,
        None => {
            // What it still comes to is given back, unless it can be asked for again: nobody hears of it.
            tokio::spawn(acquired);
            Err(Error::OutcomeUnknown)
        }
    }
}

async fn acquire_until(
    caller: Caller,
    wish: BuildStage,
    identity: Option<RequestIdentity>,
    end: Instant,
) -> Result<(proto::AcquirePermitResponse, Undelivered)> {
    let mut id = Uuid::new_v4();
    let mut replayed = false;
    loop {
        // With a request_id its caller can ask for it again, so what was granted stays.
        let is_findable = identity.is_some() && !replayed;
        let when_gone = if is_findable { WhenGranted::Leave } else { WhenGranted::Release };
        let end_of = |id| {
            let (namespace, claims) = (caller.namespace, wish.claims.clone());
            move |granted| EndWait { namespace, id, claims: claims.clone(), granted }
        };
        let wish_of = end_of(id);
        let mut undelivered = Undelivered { engine: caller.services.engine.clone(), wish: Some(wish_of(when_gone)) };
        let operation = AcquirePermit {
            namespace: caller.namespace,
            id,
            claims: wish.claims.clone(),
            ttl: wish.ttl,
            wait: end.saturating_duration_since(Instant::now()).min(wish.wait),
            holder: wish.holder.clone(),
            priority: wish.priority,
            lease: wish.lease,
            // A repeat that found nothing left of the first call is a new wish.
            request: identity.filter(|_| !replayed),
        };
        let mut wait = (!wish.wait.is_zero()).then(|| {
            let keys = wish.claims.iter().map(|claim| ResourceKey::of(caller.namespace, &claim.resource)).collect();
            caller.services.engine.shared().permits.waits.begin(id, keys)
        });
        let reply = caller.execute(operation).await.inspect_err(|error| {
            if is_surely_unapplied(error) {
                undelivered.wish = None;
            }
        })?;
        if let Some(record) = &reply.replayed {
            undelivered.wish = None;
            replayed = true;
            id = record.jobs.first().copied().unwrap_or(id);
            let again = caller.execute(end_of(id)(WhenGranted::Take)).await.map_err(after_commit)?;
            if let Some(PermitReply::Granted(granted)) = again.permit {
                return Ok((answer(&caller, &wish, id, Ok(granted), true), undelivered));
            }
            // Its permit has ended, or it had not come to one: the wish is made anew, under an id that nobody knows yet.
            id = Uuid::new_v4();
            continue;
        }
        let outcome = match (reply.permit, wait.as_mut()) {
            (Some(PermitReply::Granted(granted)), _) => Ok(granted),
            (Some(PermitReply::Denied(blockers)), _) => Err(blockers),
            (Some(PermitReply::Waiting), Some(wait)) => {
                let signal = tokio::time::timeout_at(end, wait.signal()).await;
                match signal {
                    Ok(Signal::Granted(granted)) => Ok(granted),
                    // Granted through another server, dropped, or out of time: what became of it is seen in a decision.
                    Ok(Signal::Look) | Err(_) => {
                        match caller.execute(wish_of(WhenGranted::Take)).await?.permit {
                            Some(PermitReply::Granted(granted)) => Ok(granted),
                            Some(PermitReply::Denied(_)) if signal.is_ok() && Instant::now() < end => {
                                undelivered.wish = None;
                                // Under an id of its own: that of a permit that was lost is remembered for a while.
                                id = Uuid::new_v4();
                                continue;
                            }
                            Some(PermitReply::Denied(blockers)) => Err(blockers),
                            Some(PermitReply::Waiting) | None => return Err(Error::bug("a wait without an end")),
                        }
                    }
                }
            }
            (Some(PermitReply::Waiting) | None, _) => return Err(Error::bug("a wish without an answer")),
        };
        if outcome.is_err() {
            undelivered.wish = None;
        }
        return Ok((answer(&caller, &wish, id, outcome, replayed), undelivered));
    }
}

/// Whether there is nothing that would have to be undone.
fn is_surely_unapplied(error: &Error) -> bool {
    match error {
        Error::Refused(_)
        | Error::Overloaded { .. }
        | Error::Draining
        | Error::Conflict
        | Error::StoreUnavailable
        | Error::StoreReadOnly
        | Error::InvalidCursor { .. }
        | Error::DeadlineExceeded(WriteOutcome::NotApplied) => true,
        Error::DeadlineExceeded(WriteOutcome::Unknown) | Error::OutcomeUnknown | Error::Bug { .. } => false,
    }
}

fn answer(
    caller: &Caller,
    wish: &BuildStage,
    id: Uuid,
    outcome: std::result::Result<Vec<Granted>, Vec<Blocker>>,
    replayed: bool,
) -> proto::AcquirePermitResponse {
    let now = caller.services.engine.now();
    let result = match outcome {
        Ok(granted) => Outcome::Permit(convert::permit(caller.namespace, id, &wish.claims, &granted, now)),
        Err(blockers) => {
            let permits = &caller.services.engine.shared().permits;
            for blocker in &blockers {
                permits.denied(ResourceKey::of(caller.namespace, &blocker.resource), blocker.block.reason);
            }
            Outcome::Denial(convert::denial(&blockers, now))
        }
    };
    proto::AcquirePermitResponse { replayed, result: Some(result) }
}
