//! Expired permits: a late holder keeps its permit until another request needs it.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::bench::{Bench, Outcome};
use super::build::{NAMESPACE, secs};
use crate::domain::failure::FailureClass;
use crate::domain::permit::policy::{AdaptivePolicy, BreakerPolicy, Policy};
use crate::domain::permit::resource::KEPT_FOR;
use crate::domain::permit::{PermitClaim, PermitOutcome, PermitToken, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::operation::permits::PermitReply;
use crate::operation::permits::acquire::AcquirePermit;
use crate::operation::permits::release::ReleasePermit;
use crate::operation::permits::renew::RenewPermit;
use crate::operation::permits::resource::{ChangeResource, ResourceChange};
use crate::operation::permits::wake::WakeResource;

fn key() -> ResourceKey {
    ResourceKey::of(NAMESPACE, "doc")
}

fn token(id: u128) -> PermitToken {
    PermitToken { namespace: NAMESPACE, resource: key().uid, id: Uuid::from_u128(id) }
}

fn change(bench: &mut Bench, change: ResourceChange) -> Outcome {
    bench.run(&ChangeResource { key: key(), resource: "doc".into(), change, expected_version: None, request: None })
}

fn with_policy(policy: Policy) -> Bench {
    let mut bench = Bench::empty();
    change(&mut bench, ResourceChange::SetPolicy(Some(Arc::new(policy)))).expect("set");
    bench
}

/// Asks for a second of `doc`.
fn ask(bench: &mut Bench, id: u128, wait: Duration) -> PermitReply {
    let claims = vec![PermitClaim { resource: "doc".into(), amount: 1, mode: None }];
    let (id, ttl) = (Uuid::from_u128(id), secs(1));
    let (holder, priority, lease, request) = ("worker".into(), 0, None, None);
    let acquire = AcquirePermit { namespace: NAMESPACE, id, claims, ttl, wait, holder, priority, lease, request };
    bench.run(&acquire).expect("never refused").permit.expect("an answer")
}

fn take(bench: &mut Bench, id: u128) {
    assert!(matches!(ask(bench, id, Duration::ZERO), PermitReply::Granted(_)));
}

fn release(bench: &mut Bench, id: u128, class: Option<FailureClass>) -> Outcome {
    let outcome = PermitOutcome { class, ..PermitOutcome::default() };
    bench.run(&ReleasePermit { namespace: NAMESPACE, token: token(id), outcome, request: None })
}

fn renews(bench: &mut Bench, id: u128) -> bool {
    match bench.run(&RenewPermit { namespace: NAMESPACE, token: token(id), ttl: None }) {
        Ok(_) => true,
        Err(refusal) => {
            assert_eq!(refusal, Refusal::PermitLost);
            false
        }
    }
}

fn wake(bench: &mut Bench) -> bool {
    bench.run(&WakeResource { key: key(), is_overdue: false }).expect("never refused").applied
}

#[test]
fn a_late_holder_renews_and_releases_while_no_caller_waits() {
    let mut bench = Bench::empty();
    take(&mut bench, 1);
    bench.pass(secs(60));
    assert!(!wake(&mut bench), "nothing happens by itself");
    assert!(renews(&mut bench, 1));
    let expires_at = bench.resource(key()).expect("there").held_permits().next().expect("held").expires_at;
    assert_eq!(expires_at, Some(bench.now.after(secs(1))));
    bench.pass(secs(60));
    assert!(release(&mut bench, 1, None).expect("held").applied);
    assert_eq!(bench.resource(key()).expect("there").held(), 0);
}

#[test]
fn a_waiter_or_new_request_gets_an_expired_permit_at_once() {
    for waits in [false, true] {
        let mut bench = Bench::empty();
        take(&mut bench, 1);
        if waits {
            assert_eq!(ask(&mut bench, 2, secs(60)), PermitReply::Waiting);
            assert_eq!(bench.resource(key()).expect("there").wakes_at(bench.now), Some(bench.now.after(secs(1))));
            bench.pass(secs(1));
            assert!(wake(&mut bench));
        } else {
            bench.pass(secs(1));
            take(&mut bench, 2);
        }
        assert!(!renews(&mut bench, 1), "{waits}");
        assert!(renews(&mut bench, 2), "{waits}");
    }
}

#[test]
fn a_late_holder_keeps_its_permit_while_capacity_is_left() {
    let mut bench = with_policy(Policy { capacity: Some(2), ..Policy::default() });
    take(&mut bench, 1);
    bench.pass(secs(2));
    take(&mut bench, 2);
    assert!(release(&mut bench, 2, None).expect("held").applied);
    assert!(renews(&mut bench, 1));
    bench.pass(secs(2));
    take(&mut bench, 3);
    take(&mut bench, 4);
    assert!(!renews(&mut bench, 1) && renews(&mut bench, 3) && renews(&mut bench, 4));
}

#[test]
fn a_permit_that_is_not_renewed_ends_after_ten_minutes() {
    let mut bench = Bench::empty();
    take(&mut bench, 1);
    bench.pass(secs(1) + KEPT_FOR - Duration::from_micros(1));
    assert!(!wake(&mut bench));
    bench.pass(Duration::from_micros(1));
    assert!(wake(&mut bench));
    assert!(!renews(&mut bench, 1));
}

#[test]
fn a_resource_that_only_late_holders_hold_can_be_deleted() {
    let mut bench = Bench::empty();
    take(&mut bench, 1);
    assert!(matches!(change(&mut bench, ResourceChange::Delete), Err(Refusal::ResourceInUse { .. })));
    bench.pass(secs(1));
    change(&mut bench, ResourceChange::Delete).expect("deleted");
    assert!(!renews(&mut bench, 1));
}

/// The breaker goes on by itself: a late probe is a service that does not answer.
#[test]
fn an_expired_probe_ends_at_once() {
    let breaker = BreakerPolicy { open_for: secs(10), ..BreakerPolicy::default() };
    let mut bench = with_policy(Policy { breaker: Some(breaker), ..Policy::default() });
    let phase = |bench: &Bench| bench.resource(key()).expect("there").breaker_phase(bench.now);
    let mut id = 0;
    while phase(&bench) == 1 {
        id += 1;
        take(&mut bench, id);
        release(&mut bench, id, Some(FailureClass::ServerError)).expect("held");
    }
    bench.pass(secs(10));
    take(&mut bench, 100);
    assert_eq!(phase(&bench), 3);
    assert_eq!(bench.resource(key()).expect("there").wakes_at(bench.now), Some(bench.now.after(secs(1))));
    bench.pass(secs(1));
    assert!(wake(&mut bench));
    assert_eq!(phase(&bench), 2, "it counts as TIMEOUT");
    assert!(!renews(&mut bench, 100));
}

#[test]
fn an_adaptive_limit_does_not_count_late_holders() {
    let mut bench = with_policy(Policy { adaptive: Some(AdaptivePolicy::up_to(10)), ..Policy::default() });
    take(&mut bench, 1);
    bench.pass(secs(1));
    assert!(!wake(&mut bench) && renews(&mut bench, 1));
    bench.pass(secs(1));
    take(&mut bench, 2);
    assert_eq!(bench.resource(key()).expect("there").in_use(), 1);
}
