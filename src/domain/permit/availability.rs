//! Availability: whether a claim can be granted now, which waiters are ahead of it, and when that can change.

use std::time::Duration;

use super::breaker::BreakerAdmission;
use super::resource::Resource;
use super::step_back::SLACK;
use super::wait_queue::{QueuePosition, StageWaiters, StageWakeUp, Waiter};
use super::{Block, BlockReason, MAX_HOLDERS, PermitClaim, PermitMode};
use crate::domain::time::Timestamp;

/// Time after which a waiter for several resources is no longer overtaken, even where only another resource blocks it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum number of stages that are woken at once.
const MAX_WOKEN: i64 = 64;

impl Resource {
    /// Mode of a claim at this resource.
    pub fn mode_of(&self, claim: &PermitClaim) -> PermitMode {
        claim.mode.unwrap_or(if self.policy.is_some() { PermitMode::Shared } else { PermitMode::Exclusive })
    }

    /// Current limit of the amount in use: the lower one of capacity and learned limit. `None`: no limit.
    pub fn limit(&self) -> Option<i64> {
        let policy = self.policy.as_ref()?;
        let adaptive = policy.adaptive.as_ref().zip(self.state.adaptive.as_ref());
        let learned = adaptive.map(|(policy, limit)| limit.limit(policy));
        [policy.capacity, learned].into_iter().flatten().min()
    }

    /// Reason that a claim can never be granted under this policy. `None`: it can. A capacity of 0 blocks only while it is set.
    pub fn why_impossible(&self, claim: &PermitClaim) -> Option<String> {
        let policy = self.policy.as_ref()?;
        let amount = claim.amount;
        let exceeds =
            |what: &str, most: i64| format!("is {amount}, more than the {what} of {:?}, which is {most}", self.name);
        let shared = self.mode_of(claim) == PermitMode::Shared;
        let capacity = policy.capacity.filter(|capacity| shared && *capacity > 0 && amount > *capacity);
        let highest = policy.adaptive.as_ref().map(|adaptive| adaptive.max).filter(|max| shared && amount > *max);
        let burst = policy.rates.iter().map(|rate| rate.burst).filter(|burst| amount > *burst).min();
        capacity
            .map(|capacity| exceeds("capacity", capacity))
            .or_else(|| highest.map(|max| exceeds("highest limit", max)))
            .or_else(|| burst.map(|burst| exceeds("burst", burst)))
    }

    /// Largest amount of a shared claim that can ever be granted. `None`: no limit.
    pub fn largest(&self) -> Option<i64> {
        self.policy.as_ref()?.largest()
    }

    /// Whether a claim can be granted now, without regard to waiters ahead.
    pub fn fits(&self, claim: &PermitClaim, now: Timestamp) -> Result<(), Block> {
        let mode = self.mode_of(claim);
        if self.is_taken || (mode == PermitMode::Exclusive && self.held > 0) {
            return Err(Block { reason: BlockReason::Held, until: self.first_expiry() });
        }
        if self.is_over(claim.amount, mode) || self.held >= MAX_HOLDERS {
            return Err(Block { reason: BlockReason::Capacity, until: self.first_expiry() });
        }
        self.admits(claim.amount, now)
    }

    /// Whether `amount` more would exceed the limit. A single claim of any amount is within a learned limit, which
    /// could learn nothing otherwise.
    fn is_over(&self, amount: i64, mode: PermitMode) -> bool {
        let capacity = self.policy.as_ref().and_then(|policy| policy.capacity);
        let more = self.in_use.saturating_add(amount);
        match mode {
            PermitMode::Exclusive => capacity == Some(0),
            PermitMode::Shared => {
                capacity.is_some_and(|most| more > most)
                    || (self.in_use > 0 && self.limit().is_some_and(|most| more > most))
            }
        }
    }

    /// Checks breaker, rates and interval.
    fn admits(&self, amount: i64, now: Timestamp) -> Result<(), Block> {
        let Some(policy) = &self.policy else { return Ok(()) };
        if let (Some(policy), Some(breaker)) = (&policy.breaker, &self.state.breaker) {
            let until = match breaker.admission(policy, now) {
                BreakerAdmission::Free | BreakerAdmission::Probe => None,
                BreakerAdmission::Alone => (self.held > 0).then(|| breaker.changes_at()),
                BreakerAdmission::Closed { until } => Some(until),
            };
            if let Some(until) = until {
                return Err(Block { reason: BlockReason::BreakerOpen, until });
            }
        }
        let waits = policy.rates.iter().zip(&self.state.buckets).map(|(rate, bucket)| bucket.wait(rate, amount, now));
        let pace = policy.adaptive.as_ref().zip(self.state.adaptive.as_ref());
        let wait = waits.chain(pace.map(|(policy, adaptive)| adaptive.wait(policy, now))).max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(Block { reason: BlockReason::Rate, until: Some(now.after(wait)) });
        }
        let next = policy.min_interval.zip(self.state.last_grant).map(|(interval, last)| last.after(interval));
        match next.filter(|next| *next > now) {
            Some(next) => Err(Block { reason: BlockReason::Interval, until: Some(next) }),
            None => Ok(()),
        }
    }

    /// Whether a block can end when other permits end.
    pub fn is_by_others(&self, block: Block, now: Timestamp) -> bool {
        let breaker = self.policy.as_ref().and_then(|policy| policy.breaker.as_ref()).zip(self.state.breaker.as_ref());
        match block.reason {
            BlockReason::Held | BlockReason::Capacity => true,
            BlockReason::Rate | BlockReason::Interval => false,
            BlockReason::BreakerOpen => breaker.is_some_and(|(policy, breaker)| {
                matches!(
                    breaker.admission(policy, now),
                    BreakerAdmission::Alone | BreakerAdmission::Closed { until: None }
                )
            }),
        }
    }

    /// Earliest expiry of a held permit.
    fn first_expiry(&self) -> Option<Timestamp> {
        self.held_permits().filter_map(|permit| permit.expires_at).min()
    }

    /// Whether a claim with a queue position can be granted: it is available, and no waiter ahead blocks the queue. A stage does not wait
    /// for the position that it shares with the other stages.
    pub fn allows(
        &self,
        claim: &PermitClaim,
        position: QueuePosition,
        is_stage: bool,
        now: Timestamp,
    ) -> Result<(), Block> {
        self.fits(claim, now)?;
        let mut before = self.wait_queue.range(..position).map(|(_, waiter)| waiter);
        if before.any(|waiter| self.blocks_queue(waiter, now)) {
            return Err(self.queued(claim));
        }
        let stages = self.state.stages.filter(|stages| !is_stage && stages.position() < position);
        if stages.is_some_and(|stages| stages.blocks_queue(now)) {
            return Err(self.queued(claim));
        }
        Ok(())
    }

    /// Block of a claim that has to wait for waiters ahead.
    fn queued(&self, claim: &PermitClaim) -> Block {
        let reason = match (&self.policy, self.mode_of(claim)) {
            (None, _) | (_, PermitMode::Exclusive) => BlockReason::Held,
            (Some(_), PermitMode::Shared) => BlockReason::Capacity,
        };
        Block { reason, until: self.first_expiry() }
    }

    /// Whether waiters behind `waiter` have to wait for it: this resource blocks it, or it has waited longer than `PATIENCE`. A waiter
    /// that only another resource blocks is overtaken.
    pub fn blocks_queue(&self, waiter: &Waiter, now: Timestamp) -> bool {
        waiter.claims.len() == 1
            || waiter.arrival.after(PATIENCE) <= now
            // The clock stepped back after its arrival, so the time that it has waited is not known.
            || waiter.arrival > now.after(SLACK)
            || self.claim_of(waiter).is_some_and(|claim| self.fits(claim, now).is_err())
    }

    /// Claim of a waiter on this resource.
    pub fn claim_of<'a>(&self, waiter: &'a Waiter) -> Option<&'a PermitClaim> {
        waiter.claims.iter().find(|claim| claim.resource == self.name)
    }

    /// Claim of the waiting stages: that of the first stage, or the smallest possible one if that can never be granted, so that it
    /// blocks no other stage.
    pub fn claim_of_stages(&self, stages: &StageWaiters) -> PermitClaim {
        let claim = PermitClaim { resource: self.name.clone(), amount: stages.amount, mode: Some(stages.mode) };
        if self.why_impossible(&claim).is_some() { PermitClaim { amount: 1, ..claim } } else { claim }
    }

    /// Approximate number of claims like this one that could be granted now, at most `MAX_WOKEN`.
    pub fn headroom(&self, claim: &PermitClaim, now: Timestamp) -> i64 {
        if self.fits(claim, now).is_err() {
            return 0;
        }
        let Some(policy) = &self.policy else {
            return if self.mode_of(claim) == PermitMode::Exclusive { 1 } else { MAX_WOKEN };
        };
        let breaker = policy.breaker.as_ref().zip(self.state.breaker.as_ref());
        let is_free = breaker.is_none_or(|(policy, breaker)| breaker.admission(policy, now) == BreakerAdmission::Free);
        let paced = policy.adaptive.as_ref().is_some_and(|adaptive| adaptive.learn_rate);
        if self.mode_of(claim) == PermitMode::Exclusive || policy.min_interval.is_some() || paced || !is_free {
            return 1;
        }
        let left = self.limit().map(|limit| (limit - self.in_use) / claim.amount);
        let tokens = policy.rates.iter().zip(&self.state.buckets);
        let tokens = tokens.map(|(rate, bucket)| bucket.available(rate, now) / claim.amount);
        left.into_iter().chain(tokens).min().unwrap_or(MAX_WOKEN).clamp(1, MAX_WOKEN)
    }

    /// Next timer of the resource: the expiry of a probe, or the earliest time that a waiter depends on.
    pub fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.is_awaited() {
            let has_breaker = self.policy.as_ref().is_some_and(|policy| policy.breaker.is_some());
            let probes = self.held_permits().filter(|permit| has_breaker && permit.is_probe());
            return probes.filter_map(|permit| permit.expires_at).min();
        }
        let mut moments: Vec<Timestamp> =
            self.wait_queue.values().map(|waiter| waiter.until).min().into_iter().collect();
        moments.extend(self.first_expiry());
        let block = |claim: &PermitClaim| self.fits(claim, now).err().and_then(|block| block.until);
        if let Some(stages) = &self.state.stages {
            moments.extend(match stages.wake {
                StageWakeUp::None => block(&self.claim_of_stages(stages)),
                // If no worker takes the woken stages, the waiters behind them are served.
                StageWakeUp::Woken { until } => Some(until),
                StageWakeUp::Idle => None,
            });
            let is_in_the_way = !self.wait_queue.is_empty() && stages.blocks_queue(now);
            moments.extend(is_in_the_way.then(|| stages.recheck_at()));
        }
        // Only the first waiter that this resource blocks matters: the others wait behind it.
        let first = self.wait_queue.values().find(|waiter| self.blocks_queue(waiter, now));
        moments.extend(first.and_then(|waiter| self.claim_of(waiter)).and_then(block));
        moments.into_iter().min()
    }
}
