//! Whether a claim fits a resource now, who is before it, and when that may change.

use std::time::Duration;

use super::breaker::Admission;
use super::line::{Place, StagePlace, Waiter, Wake};
use super::resource::Resource;
use super::step_back::SLACK;
use super::{Block, BlockReason, Claim, MAX_HOLDERS, Mode};
use crate::domain::time::Timestamp;

/// After so long nobody may pass a waiter of several resources any more, whatever it waits for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Stages that are woken at once, at most.
const MAX_WOKEN: i64 = 64;

impl Resource {
    /// How a claim would use it.
    pub fn mode_of(&self, claim: &Claim) -> Mode {
        claim.mode.unwrap_or(if self.policy.is_some() { Mode::Shared } else { Mode::Exclusive })
    }

    /// How much may be in use at once now; `None` for no limit.
    pub fn limit(&self) -> Option<i64> {
        let policy = self.policy.as_ref()?;
        let adaptive = policy.adaptive.as_ref().zip(self.state.adaptive.as_ref());
        let learned = adaptive.map(|(policy, limit)| limit.limit(policy));
        [policy.capacity, learned].into_iter().flatten().min()
    }

    /// Why a claim could never be had, whoever else holds a permit. A capacity of 0 only says: not now.
    pub fn never(&self, claim: &Claim) -> Option<String> {
        let policy = self.policy.as_ref()?;
        let amount = claim.amount;
        let most = |what: &str, most: i64| format!("asks for {amount} of {:?}, whose {what} is {most}", self.name);
        let shared = self.mode_of(claim) == Mode::Shared;
        let capacity = policy.capacity.filter(|capacity| shared && *capacity > 0 && amount > *capacity);
        let highest = policy.adaptive.as_ref().map(|adaptive| adaptive.max).filter(|max| shared && amount > *max);
        let burst = policy.rates.iter().map(|rate| rate.burst).filter(|burst| amount > *burst).min();
        capacity
            .map(|capacity| most("capacity", capacity))
            .or_else(|| highest.map(|max| most("highest limit", max)))
            .or_else(|| burst.map(|burst| most("burst", burst)))
    }

    /// The largest amount of a shared claim that can ever be had. None: there is no such limit.
    pub fn largest(&self) -> Option<i64> {
        self.policy.as_ref()?.largest()
    }

    /// Whether a claim fits now, if nobody is before it.
    pub fn fits(&self, claim: &Claim, now: Timestamp) -> Result<(), Block> {
        let mode = self.mode_of(claim);
        if self.is_taken || (mode == Mode::Exclusive && self.held > 0) {
            return Err(Block { reason: BlockReason::Held, until: self.first_expiry() });
        }
        if self.is_over(claim.amount, mode) || self.held >= MAX_HOLDERS {
            return Err(Block { reason: BlockReason::Capacity, until: self.first_expiry() });
        }
        self.admits(claim.amount, now)
    }

    /// Whether so much more is above the limit. A learned limit lets anything in that comes alone: it could learn nothing otherwise.
    fn is_over(&self, amount: i64, mode: Mode) -> bool {
        let capacity = self.policy.as_ref().and_then(|policy| policy.capacity);
        let more = self.in_use.saturating_add(amount);
        match mode {
            Mode::Exclusive => capacity == Some(0),
            Mode::Shared => {
                capacity.is_some_and(|most| more > most)
                    || (self.in_use > 0 && self.limit().is_some_and(|most| more > most))
            }
        }
    }

    /// What breaker, rates and interval say.
    fn admits(&self, amount: i64, now: Timestamp) -> Result<(), Block> {
        let Some(policy) = &self.policy else { return Ok(()) };
        if let (Some(policy), Some(breaker)) = (&policy.breaker, &self.state.breaker) {
            let until = match breaker.admission(policy, now) {
                Admission::Free | Admission::Probe => None,
                Admission::Alone => (self.held > 0).then(|| breaker.changes_at()),
                Admission::Closed { until } => Some(until),
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

    /// Whether a block may be over when others no longer hold their permits.
    pub fn is_by_others(&self, block: Block, now: Timestamp) -> bool {
        let breaker = self.policy.as_ref().and_then(|policy| policy.breaker.as_ref()).zip(self.state.breaker.as_ref());
        match block.reason {
            BlockReason::Held | BlockReason::Capacity => true,
            BlockReason::Rate | BlockReason::Interval => false,
            BlockReason::BreakerOpen => breaker.is_some_and(|(policy, breaker)| {
                matches!(breaker.admission(policy, now), Admission::Alone | Admission::Closed { until: None })
            }),
        }
    }

    /// When the first permit expires, should nobody renew it.
    fn first_expiry(&self) -> Option<Timestamp> {
        self.held_permits().filter_map(|permit| permit.expires_at).min()
    }

    /// Whether a claim that stands at a place can be granted: it fits, and nobody before it waits for this resource. A stage does
    /// not wait for the place that it shares with other stages.
    pub fn allows(&self, claim: &Claim, place: Place, is_stage: bool, now: Timestamp) -> Result<(), Block> {
        self.fits(claim, now)?;
        let mut before = self.line.range(..place).map(|(_, waiter)| waiter);
        if before.any(|waiter| self.holds_up(waiter, now)) {
            return Err(self.queued(claim));
        }
        let stages = self.state.stages.filter(|stages| !is_stage && stages.place() < place);
        if stages.is_some_and(|stages| stages.holds_up(now)) {
            return Err(self.queued(claim));
        }
        Ok(())
    }

    /// The block of one who has to wait for those before it.
    fn queued(&self, claim: &Claim) -> Block {
        let reason = match (&self.policy, self.mode_of(claim)) {
            (None, _) | (_, Mode::Exclusive) => BlockReason::Held,
            (Some(_), Mode::Shared) => BlockReason::Capacity,
        };
        Block { reason, until: self.first_expiry() }
    }

    /// Whether those behind a waiter have to wait for it: this resource is in its way, or it has waited for too long. One whom only
    /// another resource holds up may be passed.
    pub fn holds_up(&self, waiter: &Waiter, now: Timestamp) -> bool {
        waiter.claims.len() == 1
            || waiter.arrival.after(PATIENCE) <= now
            // By a clock that has stepped back since: for how long it has waited is not known.
            || waiter.arrival > now.after(SLACK)
            || self.claim_of(waiter).is_some_and(|claim| self.fits(claim, now).is_err())
    }

    /// What a waiter asks of this resource.
    pub fn claim_of<'a>(&self, waiter: &'a Waiter) -> Option<&'a Claim> {
        waiter.claims.iter().find(|claim| claim.resource == self.name)
    }

    /// What the stages that wait ask for: the claim of the first, or the least there is if that can never be had and holds up nobody.
    pub fn claim_of_stages(&self, stages: &StagePlace) -> Claim {
        let claim = Claim { resource: self.name.clone(), amount: stages.amount, mode: Some(stages.mode) };
        if self.never(&claim).is_some() { Claim { amount: 1, ..claim } } else { claim }
    }

    /// How many claims like this one could be granted now, about, up to a bound.
    pub fn room(&self, claim: &Claim, now: Timestamp) -> i64 {
        if self.fits(claim, now).is_err() {
            return 0;
        }
        let Some(policy) = &self.policy else {
            return if self.mode_of(claim) == Mode::Exclusive { 1 } else { MAX_WOKEN };
        };
        let breaker = policy.breaker.as_ref().zip(self.state.breaker.as_ref());
        let is_free = breaker.is_none_or(|(policy, breaker)| breaker.admission(policy, now) == Admission::Free);
        let paced = policy.adaptive.as_ref().is_some_and(|adaptive| adaptive.learn_rate);
        if self.mode_of(claim) == Mode::Exclusive || policy.min_interval.is_some() || paced || !is_free {
            return 1;
        }
        let left = self.limit().map(|limit| (limit - self.in_use) / claim.amount);
        let tokens = policy.rates.iter().zip(&self.state.buckets);
        let tokens = tokens.map(|(rate, bucket)| bucket.available(rate, now) / claim.amount);
        left.into_iter().chain(tokens).min().unwrap_or(MAX_WOKEN).clamp(1, MAX_WOKEN)
    }

    /// When something happens by itself: to a probe of the breaker, or that somebody waits for.
    pub fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.is_awaited() {
            let has_breaker = self.policy.as_ref().is_some_and(|policy| policy.breaker.is_some());
            let probes = self.held_permits().filter(|permit| has_breaker && permit.is_probe());
            return probes.filter_map(|permit| permit.expires_at).min();
        }
        let mut moments: Vec<Timestamp> = self.line.values().map(|waiter| waiter.until).min().into_iter().collect();
        moments.extend(self.first_expiry());
        let block = |claim: &Claim| self.fits(claim, now).err().and_then(|block| block.until);
        if let Some(stages) = &self.state.stages {
            moments.extend(match stages.wake {
                Wake::None => block(&self.claim_of_stages(stages)),
                // No worker may come for those that were woken; then those behind are served.
                Wake::Woken { until } => Some(until),
                Wake::Idle => None,
            });
            let is_in_the_way = !self.line.is_empty() && stages.holds_up(now);
            moments.extend(is_in_the_way.then(|| stages.check_at()));
        }
        // Only the first whom this resource holds up matters: who is behind has to wait for it.
        let first = self.line.values().find(|waiter| self.holds_up(waiter, now));
        moments.extend(first.and_then(|waiter| self.claim_of(waiter)).and_then(block));
        moments.into_iter().min()
    }
}
