//! A resource: its rules and where they stand, who holds a permit, and who waits.
//!
//! **Invariants.** `in_use` and `is_taken` follow from the permits that are held. A waiter is in the line of every resource that
//! was in its way; in each line the higher priority is first, then the earlier arrival, and arrivals are never the same, so that all
//! lines agree who is before whom. `version` grows by one per committed change; a renewal is none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::adaptive_limit::AdaptiveLimit;
pub use super::audit::{Reset, Revocation};
use super::breaker::{Breaker, BreakerPhase};
use super::line::{Place, StagePlace, Waiter, Wake};
use super::policy::Policy;
use super::token_bucket::TokenBucket;
use super::{Bound, Claim, Mode, Outcome, Permit, ResourceKey};
use crate::domain::failure::FailureClass;
use crate::domain::id::Name;
use crate::domain::time::Timestamp;

/// How long a permit for which nobody waits stays its holder's after its time is up.
pub const KEPT_FOR: Duration = Duration::from_secs(600);
/// How long a lost permit is remembered.
const LOST_FOR: Duration = Duration::from_secs(600);
/// How many lost permits are remembered.
const MAX_LOST: usize = 1_000;

/// Where the rules stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The tokens of each rate of the policy, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<TokenBucket>,
    /// When something was granted last, where the policy asks for an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_grant: Option<Timestamp>,
    /// Where the breaker stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// The learned limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveLimit>,
    /// Grants since the creation.
    #[serde(default)]
    pub grants: i64,
    /// The latest arrival of a waiter, so that none is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_arrival: Option<Timestamp>,
    /// The place of the stages that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<StagePlace>,
    /// The last resets of the breaker, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resets: Vec<Reset>,
    /// The last revocations of permits, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<Revocation>,
}

/// What a permit will be.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The secret part of its token.
    pub id: Uuid,
    /// All its resources in the order of the claims, if there are several.
    pub all: Vec<Uuid>,
    /// Who, by its own word.
    pub holder: Name,
    /// How long a renewal extends it.
    pub ttl: Duration,
    /// When it ends unless it is renewed; `None` with the attempt it is of.
    pub expires_at: Option<Timestamp>,
    /// The lease it was acquired under.
    pub lease: Option<Bound>,
}

/// One resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Where it is stored.
    pub key: ResourceKey,
    /// Its name.
    pub name: Name,
    /// Grows by exactly one per committed change.
    pub version: i64,
    /// Its rules; `None` for a lock.
    pub policy: Option<Arc<Policy>>,
    /// Where they stand.
    pub state: State,
    /// The newest fencing token.
    pub fencing_token: i64,
    /// When it was used or given rules for the first time.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Permits that are held, and those that were lost a short time ago.
    pub permits: BTreeMap<Uuid, Arc<Permit>>,
    /// Who waits, in order.
    pub line: BTreeMap<Place, Arc<Waiter>>,
    /// The amounts of the permits that are held.
    pub(super) in_use: i64,
    /// Permits that are held.
    pub(super) held: usize,
    /// Whether one of them is exclusive.
    pub(super) is_taken: bool,
}

impl Resource {
    /// A lock at version 0, which nobody has seen; its fencing tokens begin above `floor`.
    pub fn new(key: ResourceKey, name: Name, floor: i64, now: Timestamp) -> Self {
        Self {
            key,
            name,
            version: 0,
            policy: None,
            state: State::default(),
            fencing_token: floor,
            create_time: now,
            update_time: now,
            permits: BTreeMap::new(),
            line: BTreeMap::new(),
            in_use: 0,
            held: 0,
            is_taken: false,
        }
    }

    /// Computes what follows from the permits.
    pub fn derive(&mut self) {
        self.held = self.held_permits().count();
        self.in_use = self.held_permits().map(|permit| permit.amount).sum();
        let is_taken = self.held_permits().any(|permit| permit.mode == Mode::Exclusive);
        self.is_taken = is_taken;
    }

    /// The permits that are held.
    pub fn held_permits(&self) -> impl Iterator<Item = &Arc<Permit>> {
        self.permits.values().filter(|permit| permit.lost_at.is_none())
    }

    /// How many permits are held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The amounts of the permits that are held.
    pub fn in_use(&self) -> i64 {
        self.in_use
    }

    /// A permit that is held.
    pub fn held_permit(&self, id: &Uuid) -> Option<&Arc<Permit>> {
        self.permits.get(id).filter(|permit| permit.lost_at.is_none())
    }

    /// Sets the rules. What the breaker and the limit know is kept, as far as the new rules have a place for it.
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
                // It stays for its numbers: what is out now shall mean nothing to a later one.
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

    /// Gives a permit, which is known to fit. Returns its fencing token.
    pub fn grant(&mut self, claim: &Claim, terms: Terms, now: Timestamp) -> i64 {
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
        self.is_taken |= mode == Mode::Exclusive;
        let saturated = limit.is_some_and(|limit| self.in_use.saturating_mul(2) >= limit);
        let Terms { id, all, holder, ttl, expires_at, lease } = terms;
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
        self.permits.insert(id, Arc::new(permit));
        self.fencing_token
    }

    /// Ends the use of a permit: releases it, unless other stages share it. True if it was held.
    pub fn release(&mut self, id: &Uuid, outcome: Outcome, now: Timestamp) -> bool {
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

    /// Lets one more stage share a permit.
    pub fn join(&mut self, id: &Uuid) {
        if let Some(permit) = self.held_permit(id) {
            let members = permit.members + 1;
            self.permits.insert(*id, Arc::new(Permit { members, ..Permit::clone(permit) }));
        }
    }

    /// Takes a permit from its holder, which has expired; a probe counts as a call that took too long. It is remembered for a while.
    pub fn lose(&mut self, id: &Uuid, now: Timestamp) {
        self.take_away(id, Outcome { class: Some(FailureClass::LeaseExpired), ..Outcome::default() }, now);
    }

    pub(super) fn take_away(&mut self, id: &Uuid, outcome: Outcome, now: Timestamp) {
        let Some(permit) = self.held_permit(id).cloned() else { return };
        let lost = Permit { lost_at: Some(now), expires_at: None, ..Permit::clone(&permit) };
        self.permits.insert(*id, Arc::new(lost));
        self.ended(&permit, outcome, now);
        self.forget_lost(now);
    }

    /// Forgets permits that were lost long ago, or are too many.
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

    fn ended(&mut self, permit: &Permit, outcome: Outcome, now: Timestamp) {
        self.in_use -= permit.amount;
        self.held -= 1;
        if permit.mode == Mode::Exclusive {
            let is_taken = self.held_permits().any(|permit| permit.mode == Mode::Exclusive);
            self.is_taken = is_taken;
        }
        let Some(policy) = &self.policy else { return };
        // A probe from which nothing was heard took too long.
        let is_silent = outcome.class == Some(FailureClass::LeaseExpired) && permit.is_probe();
        let class = if is_silent { Some(FailureClass::Timeout) } else { outcome.class };
        if let (Some(policy), Some(breaker), Some(pass)) = (&policy.breaker, &mut self.state.breaker, permit.pass) {
            breaker.ended(policy, class, pass, reporter(&permit.holder), now);
        }
        if let (Some(policy), Some(adaptive)) = (&policy.adaptive, &mut self.state.adaptive) {
            let Outcome { latency, retry_after, .. } = outcome;
            let latency = latency.or_else(|| Some(permit.granted_at.until(now)));
            adaptive.ended(policy, class, latency, retry_after, permit.granted_at, permit.saturated, now);
        }
    }

    /// Permits that can be taken from their holders, as far as is known: if somebody needs the room, all whose time is up. Otherwise a
    /// holder that is late may still renew, unless it is very late, or is a probe, whose silence says something about the resource.
    pub fn expired(&self, now: Timestamp, is_needed: bool) -> Vec<Uuid> {
        let kept = |permit: &Permit| if is_needed || permit.is_probe() { Duration::ZERO } else { KEPT_FOR };
        let is_due = |permit: &&Arc<Permit>| permit.expires_at.is_some_and(|at| at.after(kept(permit)) <= now);
        self.held_permits().filter(is_due).map(|permit| permit.id).collect()
    }

    /// Whether somebody waits for it, other than stages without workers.
    pub fn is_awaited(&self) -> bool {
        !self.line.is_empty() || self.state.stages.is_some_and(|stages| stages.wake != Wake::Idle)
    }

    /// Whether it learns from how much of it is in use, so that holders who are late must not count.
    pub fn learns(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.adaptive.is_some())
    }

    /// Lets somebody wait.
    pub fn join_line(&mut self, waiter: &Arc<Waiter>) {
        self.state.latest_arrival = self.state.latest_arrival.max(Some(waiter.arrival));
        self.line.insert(waiter.place(), waiter.clone());
    }

    /// An arrival that is later than those of all who ever waited here.
    pub fn next_arrival(&self, now: Timestamp) -> Timestamp {
        self.state.latest_arrival.map_or(now, |latest| now.max(Timestamp(latest.0 + 1)))
    }

    /// Takes the next arrival.
    pub fn take_arrival(&mut self, now: Timestamp) -> Timestamp {
        let arrival = self.next_arrival(now);
        self.state.latest_arrival = Some(arrival);
        arrival
    }

    /// Where the breaker stands, by the number of the wire; 0 if there is none.
    pub fn breaker_phase(&self, now: Timestamp) -> i32 {
        let has_breaker = self.policy.as_ref().is_some_and(|policy| policy.breaker.is_some());
        match self.state.breaker.as_ref().filter(|_| has_breaker).map(|breaker| breaker.phase(now)) {
            None => 0,
            Some(BreakerPhase::Closed) => 1,
            Some(BreakerPhase::Open) => 2,
            Some(BreakerPhase::HalfOpen) => 3,
        }
    }

    /// Whether it is the very resource of an earlier state and at its version, so that only how long permits last can differ.
    pub fn is_at_version_of(&self, base: &Self) -> bool {
        (self.version, self.create_time) == (base.version, base.create_time)
    }

    /// About how much memory it takes, in bytes, for the cache's bound.
    pub fn weight_bytes(&self) -> usize {
        600 + self.name.len() + 300 * self.permits.len() + 400 * self.line.len()
    }
}

/// Who reports, for breakers that want several: a number for a name.
fn reporter(holder: &str) -> u64 {
    // FNV-1a, because it has to be the same on every server.
    holder.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
