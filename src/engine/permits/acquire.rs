//! Acquires a permit for a caller that may wait for it.
//!
//! The twin of [`crate::engine::dispatcher`], which does the same for leases. An attempt is one [`AcquirePermit`] operation under an id of its own, which
//! is the permit's secret. If it has to wait, lanes signal its [`Wait`] when a commit here grants the permit; what other servers do with it is
//! seen by an [`EndWait`] operation.
//!
//! **Invariant.** A permit that does not reach its caller is released, unless the call had a `request_id`, with which the caller can ask for it
//! again. No waiter stays in a queue after its call.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::waits::{Signal, Wait};
use crate::domain::audit::Actor;
use crate::domain::id::{LeaseToken, Name, NamespaceId};
use crate::domain::permit::{Blocker, Granted, PermitClaim, ResourceKey};
use crate::domain::request::RequestIdentity;
use crate::engine::Engine;
use crate::error::{Error, Result, WriteOutcome, after_commit};
use crate::operation::permits::PermitReply;
use crate::operation::permits::acquire::AcquirePermit;
use crate::operation::permits::end_wait::{EndWait, WhenGranted};
use crate::operation::{Operation, Reply};

/// A permit that a caller asks for.
#[derive(Clone, Debug)]
pub struct AcquireRequest {
    pub namespace: NamespaceId,
    /// The requester, for the audit log.
    pub actor: Actor,
    /// The amount of each resource; each resource once.
    pub claims: Vec<PermitClaim>,
    /// Time from the grant to the expiry.
    pub ttl: Duration,
    /// Time that the caller waits for the grant. Zero: it does not wait.
    pub wait: Duration,
    /// The holder's name for itself. Empty: that of the worker that holds `lease`.
    pub holder: Name,
    /// Higher is granted first.
    pub priority: i32,
    /// The lease with which the permit ends. None: it is bound to none.
    pub lease: Option<LeaseToken>,
    /// The identity of a request with a `request_id`.
    pub request: Option<RequestIdentity>,
    /// The end of the wait: `wait` from now, or earlier if the response would miss the call's deadline.
    pub wait_until: Instant,
    pub deadline: Option<Instant>,
}

/// The end of an [`AcquireRequest`].
#[derive(Debug)]
pub struct Acquired {
    /// The id of the permit.
    pub id: Uuid,
    /// The grant of each resource; or what is in the way at the end of the wait.
    pub outcome: std::result::Result<Vec<Granted>, Vec<Blocker>>,
    /// Whether an earlier call with the same `request_id` did it.
    pub is_replayed: bool,
}

/// A permit on its way to its caller. Dropped before [`Undelivered::hand_over`], it is released.
pub struct Undelivered {
    engine: Engine,
    /// Undoes the attempt. None: nothing has to be undone.
    undo: Option<EndWait>,
}

impl Undelivered {
    /// The caller has the permit, as far as the server can know.
    pub fn hand_over(mut self) {
        self.undo = None;
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        let engine = self.engine.clone();
        tokio::spawn(async move {
            if let Err(error) = engine.execute(undo, None).await {
                // It expires by itself.
                tracing::debug!(%error, "a permit that did not reach its caller was not released");
            }
        });
    }
}

/// How an attempt ended.
enum AttemptEnding {
    Ended(std::result::Result<Vec<Granted>, Vec<Blocker>>),
    /// An earlier call with the same `request_id` asked for the permit of this id. None: it is not known which.
    Replayed(Option<Uuid>),
    /// The wait ended before its time without a grant, for instance because the waiter was dropped by another server.
    Dropped,
}

impl Engine {
    /// Acquires a permit, or waits for it until `wait_until`.
    ///
    /// # Errors
    /// As [`Engine::execute_for`]. [`Error::OutcomeUnknown`] also if an earlier call with the same `request_id` was found and then nothing could be read.
    pub async fn acquire_permit(&self, request: AcquireRequest) -> Result<(Acquired, Undelivered)> {
        let mut id = Uuid::new_v4();
        let mut is_replayed = false;
        loop {
            // A replay that finds no permit is an attempt of its own, whose result is not remembered.
            let identity = request.request.filter(|_| !is_replayed);
            // The caller can ask again for what is remembered, so it stays.
            let when_gone = if identity.is_some() { WhenGranted::Leave } else { WhenGranted::Release };
            let mut undelivered = Undelivered { engine: self.clone(), undo: Some(request.end_wait(id, when_gone)) };
            let outcome = match self.attempt(&request, id, identity, &mut undelivered).await? {
                AttemptEnding::Ended(outcome) => outcome,
                AttemptEnding::Replayed(first) => {
                    undelivered.undo = None;
                    is_replayed = true;
                    id = first.unwrap_or(id);
                    let end_wait = request.end_wait(id, WhenGranted::Take);
                    let reply = self.execute_asked(&request, end_wait).await.map_err(after_commit)?;
                    if let Some(PermitReply::Granted(granted)) = reply.permit {
                        return Ok((Acquired { id, outcome: Ok(granted), is_replayed }, undelivered));
                    }
                    // Its permit has ended, or was never granted.
                    id = Uuid::new_v4();
                    continue;
                }
                AttemptEnding::Dropped => {
                    undelivered.undo = None;
                    // Ids of permits that were lost are remembered for a while.
                    id = Uuid::new_v4();
                    continue;
                }
            };
            if let Err(blockers) = &outcome {
                undelivered.undo = None;
                for blocker in blockers {
                    let key = ResourceKey::of(request.namespace, &blocker.resource);
                    self.shared().permits.denied(key, blocker.block.reason);
                }
            }
            return Ok((Acquired { id, outcome, is_replayed }, undelivered));
        }
    }

    /// Asks for a permit once, and waits for its grant.
    async fn attempt(
        &self,
        request: &AcquireRequest,
        id: Uuid,
        identity: Option<RequestIdentity>,
        undelivered: &mut Undelivered,
    ) -> Result<AttemptEnding> {
        // Signals that come before the reply are not missed.
        let wait = (!request.wait.is_zero()).then(|| self.shared().permits.waits.begin(id, request.resources()));
        let reply = self.execute_asked(request, request.operation(id, identity)).await.inspect_err(|error| {
            if !may_be_applied(error) {
                undelivered.undo = None;
            }
        })?;
        if let Some(record) = &reply.replayed {
            return Ok(AttemptEnding::Replayed(record.jobs.first().copied()));
        }
        match (reply.permit, wait) {
            (Some(PermitReply::Granted(granted)), _) => Ok(AttemptEnding::Ended(Ok(granted))),
            (Some(PermitReply::Denied(blockers)), _) => Ok(AttemptEnding::Ended(Err(blockers))),
            (Some(PermitReply::Waiting), Some(wait)) => self.await_grant(request, id, wait).await,
            (Some(PermitReply::Waiting) | None, _) => Err(Error::bug("AcquirePermit without a permit or a reason")),
        }
    }

    async fn await_grant(&self, request: &AcquireRequest, id: Uuid, mut wait: Wait) -> Result<AttemptEnding> {
        let signal = tokio::time::timeout_at(request.wait_until, wait.signal()).await;
        if let Ok(Signal::Granted(granted)) = signal {
            return Ok(AttemptEnding::Ended(Ok(granted)));
        }
        // Granted through another server, dropped, or out of time: only a decision knows.
        let reply = self.execute_asked(request, request.end_wait(id, WhenGranted::Take)).await?;
        match reply.permit {
            Some(PermitReply::Granted(granted)) => Ok(AttemptEnding::Ended(Ok(granted))),
            Some(PermitReply::Denied(_)) if signal.is_ok() && Instant::now() < request.wait_until => {
                Ok(AttemptEnding::Dropped)
            }
            Some(PermitReply::Denied(blockers)) => Ok(AttemptEnding::Ended(Err(blockers))),
            Some(PermitReply::Waiting) | None => Err(Error::bug("EndWait without a permit or a reason")),
        }
    }

    async fn execute_asked(&self, request: &AcquireRequest, operation: impl Operation) -> Result<Reply> {
        self.execute_for(request.actor.clone(), operation, request.deadline).await
    }
}

impl AcquireRequest {
    /// The operation of one attempt.
    fn operation(&self, id: Uuid, identity: Option<RequestIdentity>) -> AcquirePermit {
        AcquirePermit {
            namespace: self.namespace,
            id,
            claims: self.claims.clone(),
            ttl: self.ttl,
            wait: self.wait_until.saturating_duration_since(Instant::now()).min(self.wait),
            holder: self.holder.clone(),
            priority: self.priority,
            lease: self.lease,
            request: identity,
        }
    }

    fn end_wait(&self, id: Uuid, granted: WhenGranted) -> EndWait {
        EndWait { namespace: self.namespace, id, claims: self.claims.clone(), granted }
    }

    fn resources(&self) -> Vec<ResourceKey> {
        self.claims.iter().map(|claim| ResourceKey::of(self.namespace, &claim.resource)).collect()
    }
}

/// Whether an attempt that failed can have been applied, so that it has to be undone.
fn may_be_applied(error: &Error) -> bool {
    match error {
        Error::Refused(_)
        | Error::Overloaded { .. }
        | Error::Draining
        | Error::Conflict
        | Error::StoreUnavailable
        | Error::StoreReadOnly
        | Error::InvalidCursor { .. }
        | Error::DeadlineExceeded(WriteOutcome::NotApplied) => false,
        Error::DeadlineExceeded(WriteOutcome::Unknown) | Error::OutcomeUnknown | Error::Bug { .. } => true,
    }
}
