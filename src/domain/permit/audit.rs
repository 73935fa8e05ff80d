//! Actions of operators on a resource: breaker resets and revocations.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::PermitOutcome;
use super::resource::Resource;
use crate::domain::id::Name;
use crate::domain::time::Timestamp;

/// Maximum number of stored resets, and of stored revocations.
const MAX_AUDITED: usize = 10;

/// A reset of the circuit breaker by an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reset {
    /// Time of the reset.
    pub at: Timestamp,
    /// Operator, as named in the request.
    pub requester: Name,
    /// Reason, as given in the request.
    pub reason: String,
    /// State of the breaker before the reset, by its number on the wire.
    pub from: i32,
}

/// A revocation of a permit by an operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revocation {
    /// Time of the revocation.
    pub at: Timestamp,
    /// Operator, as named in the request.
    pub requester: Name,
    /// Reason, as given in the request.
    pub reason: String,
    /// Fencing token of the permit.
    pub fencing_token: i64,
    /// Holder of the permit, as it named itself.
    pub holder: Name,
}

impl Resource {
    /// Closes the circuit breaker and records the reset. False: the resource has no breaker.
    pub fn reset_breaker(&mut self, reset: Reset) -> bool {
        let has_breaker = self.policy.as_ref().is_some_and(|policy| policy.breaker.is_some());
        let Some(breaker) = self.state.breaker.as_mut().filter(|_| has_breaker) else { return false };
        breaker.reset();
        self.state.resets.push(reset);
        let beyond = self.state.resets.len().saturating_sub(MAX_AUDITED);
        self.state.resets.drain(..beyond);
        true
    }

    /// Revokes a permit and records it; the outcome is neutral for limits and breaker. Fencing token and holder are filled into
    /// `revocation`. False: the permit is not held.
    pub fn revoke(&mut self, id: &Uuid, revocation: &Revocation) -> bool {
        let Some(permit) = self.held_permit(id).cloned() else { return false };
        self.mark_lost(id, PermitOutcome::NEUTRAL, revocation.at);
        let (fencing_token, holder) = (permit.fencing_token, permit.holder.clone());
        self.state.revocations.push(Revocation { fencing_token, holder, ..revocation.clone() });
        let beyond = self.state.revocations.len().saturating_sub(MAX_AUDITED);
        self.state.revocations.drain(..beyond);
        true
    }
}
