//! Each kind of rule after the clock stepped back an hour: it goes on as if no time had passed since its last change.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::domain::failure::FailureClass;
use crate::domain::id::NamespaceId;
use crate::domain::permit::policy::{AdaptivePolicy, BreakerPolicy, Policy, RatePolicy};
use crate::domain::permit::resource::PermitTerms;
use crate::domain::permit::{BlockReason, PermitClaim, PermitOutcome, ResourceKey};

const HOUR: Duration = Duration::from_secs(3_600);
const THEN: Timestamp = Timestamp(1_790_000_000_000_000);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn claim() -> PermitClaim {
    PermitClaim { resource: "api".into(), amount: 1, mode: None }
}

/// A resource with rules at a moment, changed then.
fn resource(policy: Option<Policy>) -> Resource {
    let mut resource = Resource::new(ResourceKey::of(NamespaceId(1), "api"), "api".into(), 0, THEN);
    resource.set_policy(policy.map(Arc::new), THEN);
    resource
}

fn grant(resource: &mut Resource, ttl: Duration, now: Timestamp) -> Uuid {
    let id = Uuid::new_v4();
    let (holder, expires_at) = ("w".into(), Some(now.after(ttl)));
    resource.grant(&claim(), PermitTerms { id, all: Vec::new(), holder, ttl, expires_at, lease: None }, now);
    id
}

fn failed(resource: &mut Resource, class: FailureClass, retry_after: Option<Duration>) {
    let id = grant(resource, secs(10), THEN);
    assert!(resource.release(&id, PermitOutcome { class: Some(class), latency: None, retry_after }, THEN));
}

/// What is in the way an hour earlier, before and after the resource was brought back, and after `wait` from then on.
fn blocks(mut resource: Resource, wait: Duration) -> [Option<BlockReason>; 3] {
    let now = THEN.before(HOUR);
    let block = |resource: &Resource, now| resource.fits(&claim(), now).err().map(|block| block.reason);
    let before = block(&resource, now.after(wait));
    assert!(resource.is_ahead(now));
    resource.step_back(now);
    assert!(!resource.is_ahead(now) && resource.update_time == now);
    [before, block(&resource, now), block(&resource, now.after(wait))]
}

#[test]
fn step_back_ends_every_rule_after_its_own_duration() {
    use BlockReason::*;
    let rate = RatePolicy { amount: 1, per: secs(10), burst: 1 };
    let mut empty = resource(Some(Policy { rates: vec![rate], ..Policy::default() }));
    let id = grant(&mut empty, secs(10), THEN);
    empty.release(&id, PermitOutcome::default(), THEN);
    assert_eq!(blocks(empty, secs(10)), [Some(Rate), Some(Rate), None], "a rate");

    let mut spaced = resource(Some(Policy { min_interval: Some(secs(5)), ..Policy::default() }));
    let id = grant(&mut spaced, secs(10), THEN);
    spaced.release(&id, PermitOutcome::default(), THEN);
    assert_eq!(blocks(spaced, secs(5)), [Some(Interval), Some(Interval), None], "an interval");

    let breaker = BreakerPolicy { failure_threshold: 1, open_for: secs(30), ..BreakerPolicy::default() };
    let mut open = resource(Some(Policy { breaker: Some(breaker), ..Policy::default() }));
    failed(&mut open, FailureClass::ServerError, None);
    assert_eq!(blocks(open, secs(30)), [Some(BreakerOpen), Some(BreakerOpen), None], "a breaker");

    for learn_rate in [false, true] {
        let adaptive = AdaptivePolicy { learn_rate, ..AdaptivePolicy::up_to(5) };
        let mut silent = resource(Some(Policy { adaptive: Some(adaptive), ..Policy::default() }));
        failed(&mut silent, FailureClass::RateLimited, Some(secs(20)));
        assert_eq!(blocks(silent, secs(20)), [Some(Rate), Some(Rate), None], "a silence, learned rate {learn_rate}");
    }
}

#[test]
fn a_permit_lasts_no_longer_than_it_was_renewed_for() {
    let now = THEN.before(HOUR);
    let mut lock = resource(None);
    let id = grant(&mut lock, secs(10), THEN);
    lock.step_back(now);
    assert_eq!(lock.held_permit(&id).and_then(|permit| permit.expires_at), Some(now.after(secs(10))));

    // Renewed long after the lock's last change, which says nothing of the step.
    let mut old = resource(None);
    let id = grant(&mut old, secs(10), THEN);
    old.update_time = now.before(HOUR);
    let longer = Permit { renewed_for: secs(60), ..Permit::clone(&old.permits[&id]) };
    old.permits.insert(id, longer.into());
    assert!(old.is_ahead(now));
    old.step_back(now);
    assert_eq!(old.held_permit(&id).and_then(|permit| permit.expires_at), Some(now.after(secs(60))));
    assert_eq!(old.expired(now.after(secs(60)), true), [id]);
}

#[test]
fn a_lead_within_the_slack_is_no_step() {
    let mut lock = resource(None);
    grant(&mut lock, secs(10), THEN);
    assert!(!lock.is_ahead(THEN.before(SLACK)) && lock.is_ahead(THEN.before(SLACK + secs(1))));
}
