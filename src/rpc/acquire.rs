//! AcquirePermit: reads the request and writes the response. The engine acquires and waits.

use super::caller::Caller;
use super::convert::digest::identity;
use super::convert::permit as convert;
use crate::engine::permits::acquire::{AcquireRequest, Acquired, Undelivered};
use crate::error::{Error, Result};
use crate::proto;
use crate::proto::acquire_permit_response::Result as Outcome;

/// AcquirePermit. The permit is released unless [`Undelivered::hand_over`] says that the response was sent.
pub async fn acquire_permit(
    caller: Caller,
    mut request: proto::AcquirePermitRequest,
) -> Result<(proto::AcquirePermitResponse, Undelivered)> {
    let identity = identity(caller.namespace, &mut request)?;
    let parameters = convert::acquire_parameters(&request)?;
    let (wait, claims, engine) = (parameters.wait, parameters.claims.clone(), caller.services.engine.clone());
    let request = AcquireRequest {
        namespace: caller.namespace,
        actor: caller.actor.clone(),
        claims: parameters.claims,
        ttl: parameters.ttl,
        wait,
        holder: parameters.holder,
        priority: parameters.priority,
        lease: parameters.lease,
        request: identity,
        wait_until: caller.end_of(wait),
        deadline: caller.deadline,
    };
    let mut acquiring = Box::pin(async move { engine.acquire_permit(request).await });
    let Some(acquired) = Caller::soon_after(wait, &mut acquiring).await else {
        // It goes on without its caller, so that what it is still granted is released, or can be asked for again.
        tokio::spawn(acquiring);
        return Err(Error::OutcomeUnknown);
    };
    let (Acquired { id, outcome, is_replayed }, undelivered) = acquired?;
    let now = caller.services.engine.now();
    let result = match outcome {
        Ok(granted) => Outcome::Permit(convert::permit(caller.namespace, id, &claims, &granted, now)),
        Err(blockers) => Outcome::Denial(convert::denial(&blockers, now)),
    };
    Ok((proto::AcquirePermitResponse { replayed: is_replayed, result: Some(result) }, undelivered))
}
