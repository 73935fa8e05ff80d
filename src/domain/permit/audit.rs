//! What operators did to a resource by hand: who, and why.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Outcome;
use super::resource::Resource;
use crate::domain::id::Name;
use crate::domain::time::Timestamp;

/// Resets of the breaker, and revocations, that are kept.
const MAX_AUDITED: usize = 10;

/// That somebody closed the breaker by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reset {
    /// When.
    pub at: Timestamp,
    /// Who, by its own word.
    pub requester: Name,
    /// Why, by its own word.
    pub reason: String,
    /// Where the breaker stood: the number of its state on the wire.
    pub from: i32,
}

/// That an operator revoked a permit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// Who, by its own word.
    pub requester: Name,
    /// Why, by its own word.
    pub reason: String,
    /// The permit's fencing token.
    pub fencing_token: i64,
    /// The permit's holder, by its own word.
    pub holder: Name,
}

impl Resource {
    /// Notes that the breaker was closed by hand, and closes it. False if there is none.
    pub fn reset_breaker(&mut self, reset: Reset) -> bool {
        let has_breaker = self.policy.as_ref().is_some_and(|policy| policy.breaker.is_some());
        let Some(breaker) = self.state.breaker.as_mut().filter(|_| has_breaker) else { return false };
        breaker.reset();
        self.state.resets.push(reset);
        let beyond = self.state.resets.len().saturating_sub(MAX_AUDITED);
        self.state.resets.drain(..beyond);
        true
    }

    /// Takes a permit from its holder for an operator; it says nothing of what the resource stands for. Its fencing token and holder are
    /// noted in `revocation`. True if it was held.
    pub fn revoke(&mut self, id: &Uuid, revocation: &Revocation) -> bool {
        let Some(permit) = self.held_permit(id).cloned() else { return false };
        self.take_away(id, Outcome::NEUTRAL, revocation.at);
        let (fencing_token, holder) = (permit.fencing_token, permit.holder.clone());
        self.state.revocations.push(Revocation { fencing_token, holder, ..revocation.clone() });
        let beyond = self.state.revocations.len().saturating_sub(MAX_AUDITED);
        self.state.revocations.drain(..beyond);
        true
    }
}
