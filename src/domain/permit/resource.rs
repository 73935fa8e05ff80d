//! A resource: its policy and the state of it, its permits, and its wait queue.
//!
//! **Invariants.** `in_use`, `held` and `is_taken` are derived from the held permits. A waiter is in the queue of every resource that
//! blocked it. Queues are ordered by priority, then by arrival; arrivals are unique, so all queues agree on the order of two waiters.
//! `version` grows by one per committed change; a renewal is not one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::adaptive_limit::AdaptiveLimit;
pub use super::audit::{Reset, Revocation};
use super::breaker::{Breaker, BreakerPhase};
use super::policy::Policy;
use super::token_bucket::TokenBucket;
use super::wait_queue::{QueuePosition, StageWaiters, StageWakeUp, Waiter};
use super::{LeaseBinding, Permit, PermitClaim, PermitMode, PermitOutcome, ResourceKey};
use crate::domain::failure::FailureClass;
use crate::domain::id::Name;
use crate::domain::time::Timestamp;

/// Time after its expiry that a permit stays valid if no waiter needs it.
pub const KEPT_FOR: Duration = Duration::from_secs(600);
/// Time for which a lost permit is remembered.
const LOST_FOR: Duration = Duration::from_secs(600);
/// Maximum number of lost permits that are remembered.
const MAX_LOST: usize = 1_000;

/// State of a resource's policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceState {
    /// Token bucket of each rate of the policy, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<TokenBucket>,
    /// Time of the last grant. `None`: the policy has no minimum interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_grant: Option<Timestamp>,
    /// Circuit breaker. Kept after the policy has none any more, so that its epochs go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Adaptive limit. `None`: the policy has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveLimit>,
    /// Number of grants since the creation.
    #[serde(default)]
    pub grants: i64,
    /// Latest arrival of a waiter, so that arrivals are unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_arrival: Option<Timestamp>,
    /// Shared queue entry of the waiting stages. `None`: no stage waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<StageWaiters>,
    /// Last resets of the breaker, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resets: Vec<Reset>,
    /// Last revocations of permits, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<Revocation>,
}

/// Terms of a permit to grant.
#[derive(Clone, Debug)]
pub struct PermitTerms {
    /// Id of the permit: the secret part of its token.
    pub id: Uuid,
    /// Uids of all its resources in the order of the claims. Empty: there is one.
    pub all: Vec<Uuid>,
    /// Holder, as it names itself.
    pub holder: Name,
    /// Duration from a renewal to the expiry.
    pub ttl: Duration,
    /// Expiry unless it is renewed. `None`: it ends with the attempt that holds it.
    pub expires_at: Option<Timestamp>,
    /// Lease that it is acquired under.
    pub lease: Option<LeaseBinding>,
}

/// A resource with its permits and waiters.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Key of the resource.
    pub key: ResourceKey,
    /// Name of the resource.
    pub name: Name,
    /// Version; grows by exactly one per committed change.
    pub version: i64,
    /// Policy. `None`: the resource is a lock.
    pub policy: Option<Arc<Policy>>,
    /// State of the policy.
    pub state: ResourceState,
    /// Newest fencing token of the resource.
    pub fencing_token: i64,
    /// Time at which it was first used or got a policy.
    pub create_time: Timestamp,
    /// Time of the last change.
    pub update_time: Timestamp,
    /// Held permits, and permits that were lost a short time ago, by id.
    pub permits: BTreeMap<Uuid, Arc<Permit>>,
    /// Waiting callers in order.
    pub wait_queue: BTreeMap<QueuePosition, Arc<Waiter>>,
    /// Sum of the amounts of the held permits.
    pub(super) in_use: i64,
    /// Number of held permits.
    pub(super) held: usize,
    /// Whether a held permit is exclusive.
    pub(super) is_taken: bool,
}

impl Resource {
    /// Makes a lock at version 0, which is not stored; its fencing tokens start above `floor`.
    pub fn new(key: ResourceKey, name: Name, floor: i64, now: Timestamp) -> Self {
        Self {
            key,
            name,
            version: 0,
            policy: None,
            state: ResourceState::default(),
            fencing_token: floor,
            create_time: now,
            update_time: now,
            permits: BTreeMap::new(),
            wait_queue: BTreeMap::new(),
            in_use: 0,
            held: 0,
            is_taken: false,
        }
    }

    /// Computes the derived fields from the permits.
    pub fn derive(&mut self) {
        self.held = self.held_permits().count();
        self.in_use = self.held_permits().map(|permit| permit.amount).sum();
        let is_taken = self.held_permits().any(|permit| permit.mode == PermitMode::Exclusive);
        self.is_taken = is_taken;
    }

    /// Whether the derived fields agree with the permits, and the queue with the arrivals. For assertions.
    pub fn is_consistent(&self) -> bool {
        let amounts: i64 = self.held_permits().map(|permit| permit.amount).sum();
        let is_taken = self.held_permits().any(|permit| permit.mode == PermitMode::Exclusive);
        let latest = self.state.latest_arrival;
        (self.held, self.in_use, self.is_taken) == (self.held_permits().count(), amounts, is_taken)
            && (!is_taken || self.held == 1)
            && self
                .wait_queue
                .iter()
                .all(|(position, waiter)| *position == waiter.position() && Some(waiter.arrival) <= latest)
    }

    /// Permits that are held, without lost ones.
    pub fn held_permits(&self) -> impl Iterator<Item = &Arc<Permit>> {
        self.permits.values().filter(|permit| permit.lost_at.is_none())
    }

    /// Number of held permits.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Sum of the amounts of the held permits.
    pub fn in_use(&self) -> i64 {
        self.in_use
    }

    /// The held permit with this id.
    pub fn held_permit(&self, id: &Uuid) -> Option<&Arc<Permit>> {
        self.permits.get(id).filter(|permit| permit.lost_at.is_none())
    }

    /// Sets the policy. Tokens, breaker and limit keep their state as far as the new policy has them.
    pub fn set_policy(&mut self, policy: Option<Arc<Policy>>, now: Timestamp) {
        let none = Policy::default();
        let old = self.policy.take();
        let (old, new) = (old.as_deref().unwrap_or(&none), policy.as_deref().unwrap_or(&none));
        let old_buckets = std::mem::take(&mut self.state.buckets);
        self.state.buckets = new
            .rates
            .iter()
            .enumerate()
            .map(|(i, rate)| match (old.rates.get(i), old_buckets.get(i)) {
                (Some(old), Some(bucket)) => {
                    let mut bucket = bucket.clone();
                    bucket.adopt(old, rate, now);
                    bucket
                }
                (_, _) => TokenBucket::full(rate, now),
            })
            .collect();
        if new.breaker.is_some() && self.state.breaker.is_none() {
            self.state.breaker = Some(Breaker::default());
        }
        if let Some(breaker) = &mut self.state.breaker {
            match &new.breaker {
                Some(policy) => breaker.adopt(policy, now),
                // Kept for its epoch: permits of now do not count for a later breaker.
                None => breaker.reset(),
            }
        }
        self.state.adaptive = new.adaptive.as_ref().map(|policy| match self.state.adaptive.take() {
            Some(mut limit) => {
                limit.adopt(policy);
                limit
            }
            None => AdaptiveLimit::new(policy),
        });
        if new.min_interval.is_none() {
            self.state.last_grant = None;
        }
        self.policy = policy;
    }

    /// Grants a permit; the caller has checked that it is available. Returns its fencing token.
    pub fn grant(&mut self, claim: &PermitClaim, terms: PermitTerms, now: Timestamp) -> i64 {
        self.fencing_token += 1;
        self.state.grants += 1;
        let mode = self.mode_of(claim);
        let limit = self.limit();
        let mut pass = None;
        if let Some(policy) = &self.policy {
            for (rate, bucket) in policy.rates.iter().zip(&mut self.state.buckets) {
                bucket.take(rate, claim.amount, now);
            }
            if policy.min_interval.is_some() {
                self.state.last_grant = self.state.last_grant.max(Some(now));
            }
            if let (Some(policy), Some(breaker)) = (&policy.breaker, &mut self.state.breaker) {
                pass = Some(breaker.granted(policy, now));
            }
            if let (Some(_), Some(adaptive)) = (&policy.adaptive, &mut self.state.adaptive) {
                adaptive.granted(now);
            }
        }
        self.in_use += claim.amount;
        self.held += 1;
        self.is_taken |= mode == PermitMode::Exclusive;
        let saturated = limit.is_some_and(|limit| self.in_use.saturating_mul(2) >= limit);
        let PermitTerms { id, all, holder, ttl, expires_at, lease } = terms;
        let permit = Permit {
            id,
            expires_at,
            all,
            mode,
            amount: claim.amount,
            fencing_token: self.fencing_token,
            holder,
            ttl,
            renewed_for: Duration::ZERO,
            granted_at: now,
            pass,
            saturated,
            lease,
            members: 1,
            outcome: None,
            lost_at: None,
        };
        let replaced = self.permits.insert(id, Arc::new(permit));
        debug_assert!(replaced.is_none(), "an id is granted once");
        self.fencing_token
    }

    /// Ends the use of a permit: releases it, unless other stages share it. False: it is not held.
    pub fn release(&mut self, id: &Uuid, outcome: PermitOutcome, now: Timestamp) -> bool {
        let Some(permit) = self.held_permit(id).cloned() else { return false };
        let outcome = permit.outcome.map_or(outcome, |others| others.and(outcome));
        if permit.members > 1 {
            let members = permit.members - 1;
            let shared = Permit { members, outcome: Some(outcome), ..Permit::clone(&permit) };
            self.permits.insert(*id, Arc::new(shared));
            return true;
        }
        self.permits.remove(id);
        self.ended(&permit, outcome, now);
        true
    }

    /// Adds one more stage to those that share a permit.
    pub fn share(&mut self, id: &Uuid) {
        if let Some(permit) = self.held_permit(id) {
            let members = permit.members + 1;
            self.permits.insert(*id, Arc::new(Permit { members, ..Permit::clone(permit) }));
        }
    }

    /// Ends an expired permit and remembers it as lost. An expired probe counts as TIMEOUT.
    pub fn expire_permit(&mut self, id: &Uuid, now: Timestamp) {
        self.mark_lost(id, PermitOutcome { class: Some(FailureClass::LeaseExpired), ..PermitOutcome::default() }, now);
    }

    pub(super) fn mark_lost(&mut self, id: &Uuid, outcome: PermitOutcome, now: Timestamp) {
        let Some(permit) = self.held_permit(id).cloned() else { return };
        let lost = Permit { lost_at: Some(now), expires_at: None, ..Permit::clone(&permit) };
        self.permits.insert(*id, Arc::new(lost));
        self.ended(&permit, outcome, now);
        self.forget_lost(now);
    }

    /// Forgets permits that were lost more than [`LOST_FOR`] ago, and the oldest beyond [`MAX_LOST`].
    fn forget_lost(&mut self, now: Timestamp) {
        let mut lost: Vec<(Timestamp, Uuid)> =
            self.permits.values().filter_map(|permit| Some((permit.lost_at?, permit.id))).collect();
        lost.sort_unstable();
        let beyond = lost.len().saturating_sub(MAX_LOST);
        for (i, (at, id)) in lost.into_iter().enumerate() {
            if i < beyond || at.after(LOST_FOR) <= now {
                self.permits.remove(&id);
            }
        }
    }

    fn ended(&mut self, permit: &Permit, outcome: PermitOutcome, now: Timestamp) {
        self.in_use -= permit.amount;
        self.held -= 1;
        if permit.mode == PermitMode::Exclusive {
            let is_taken = self.held_permits().any(|permit| permit.mode == PermitMode::Exclusive);
            self.is_taken = is_taken;
        }
        let Some(policy) = &self.policy else { return };
        // An expired probe counts as a call that took too long.
        let is_silent = outcome.class == Some(FailureClass::LeaseExpired) && permit.is_probe();
        let class = if is_silent { Some(FailureClass::Timeout) } else { outcome.class };
        if let (Some(policy), Some(breaker), Some(pass)) = (&policy.breaker, &mut self.state.breaker, permit.pass) {
            breaker.ended(policy, class, pass, reporter(&permit.holder), now);
        }
        if let (Some(policy), Some(adaptive)) = (&policy.adaptive, &mut self.state.adaptive) {
            let PermitOutcome { latency, retry_after, .. } = outcome;
            let latency = latency.or_else(|| Some(permit.granted_at.until(now)));
            adaptive.ended(policy, class, latency, retry_after, permit.granted_at, permit.saturated, now);
        }
    }

    /// Permits that can be ended, as far as their expiries are known. If `is_needed` by a waiter or a request: all expired ones.
    /// Otherwise late holders can still renew, so only permits that expired more than [`KEPT_FOR`] ago, and expired probes, since the
    /// breaker waits for them.
    pub fn expired(&self, now: Timestamp, is_needed: bool) -> Vec<Uuid> {
        let kept = |permit: &Permit| if is_needed || permit.is_probe() { Duration::ZERO } else { KEPT_FOR };
        let is_due = |permit: &&Arc<Permit>| permit.expires_at.is_some_and(|at| at.after(kept(permit)) <= now);
        self.held_permits().filter(is_due).map(|permit| permit.id).collect()
    }

    /// Whether a caller waits, or a stage that has workers.
    pub fn is_awaited(&self) -> bool {
        !self.wait_queue.is_empty() || self.state.stages.is_some_and(|stages| stages.wake != StageWakeUp::Idle)
    }

    /// Whether it has an adaptive limit, which late holders must not count for.
    pub fn learns(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.adaptive.is_some())
    }

    /// Adds a waiter to the queue.
    pub fn enqueue(&mut self, waiter: &Arc<Waiter>) {
        self.state.latest_arrival = self.state.latest_arrival.max(Some(waiter.arrival));
        self.wait_queue.insert(waiter.position(), waiter.clone());
    }

    /// The next arrival: `now`, but later than every earlier arrival.
    pub fn next_arrival(&self, now: Timestamp) -> Timestamp {
        self.state.latest_arrival.map_or(now, |latest| now.max(Timestamp(latest.0 + 1)))
    }

    /// Takes the next arrival, so that it is not used again.
    pub fn take_arrival(&mut self, now: Timestamp) -> Timestamp {
        let arrival = self.next_arrival(now);
        self.state.latest_arrival = Some(arrival);
        arrival
    }

    /// State of the breaker, by its number on the wire; 0: there is none.
    pub fn breaker_phase(&self, now: Timestamp) -> i32 {
        let has_breaker = self.policy.as_ref().is_some_and(|policy| policy.breaker.is_some());
        match self.state.breaker.as_ref().filter(|_| has_breaker).map(|breaker| breaker.phase(now)) {
            None => 0,
            Some(BreakerPhase::Closed) => 1,
            Some(BreakerPhase::Open) => 2,
            Some(BreakerPhase::HalfOpen) => 3,
        }
    }

    /// Whether it has version and create time of `base`. Then at most the expiries of permits differ.
    pub fn is_at_version_of(&self, base: &Self) -> bool {
        (self.version, self.create_time) == (base.version, base.create_time)
    }

    /// Approximate memory in bytes, for the bound of the cache.
    pub fn weight_bytes(&self) -> usize {
        600 + self.name.len() + 300 * self.permits.len() + 400 * self.wait_queue.len()
    }
}

/// Hash of a holder's name, for breakers that need failures of several reporters.
fn reporter(holder: &str) -> u64 {
    // FNV-1a (Fowler, Noll, Vo), because the hash has to be the same on every server.
    holder.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
