//! Random histories of permits, one operation at a time or several in a group. After each: limits hold, fencing tokens grow, no waiter could be
//! served, and waiters for a single resource are served in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use proptest::prelude::*;
use uuid::Uuid;

use super::bench::{Bench, Outcome};
use super::build::{NAMESPACE, secs};
use crate::domain::permit::policy::{Policy, RatePolicy};
use crate::domain::permit::resource::{KEPT_FOR, Resource};
use crate::domain::permit::{PermitClaim, PermitMode, PermitOutcome, PermitToken, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::operation::Operation;
use crate::operation::permits::PermitReply;
use crate::operation::permits::acquire::AcquirePermit;
use crate::operation::permits::end_wait::{EndWait, WhenGranted};
use crate::operation::permits::release::ReleasePermit;
use crate::operation::permits::renew::RenewPermit;
use crate::operation::permits::resource::{ChangeResource, ResourceChange};
use crate::operation::permits::wake::WakeResource;

/// A lock, a limit of three, and a rate.
const NAMES: [&str; 3] = ["lock", "limit", "rate"];

#[derive(Clone, Debug)]
enum Step {
    Acquire {
        claims: Vec<(usize, i64, Option<PermitMode>)>,
        wait: u64,
        ttl: u64,
    },
    Release(usize),
    Renew(usize),
    GiveUp(usize),
    Limit(i64),
    Pass(u64),
    Wake(usize),
    /// Deletes a resource and acquires it again in one group.
    Recreate(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode =
        prop_oneof![3 => Just(None), 1 => Just(Some(PermitMode::Shared)), 1 => Just(Some(PermitMode::Exclusive))];
    let claim = (0..3_usize, 1..3_i64, mode);
    let claims = prop::collection::btree_map(0..3_usize, claim, 1..3);
    let claims = claims.prop_map(|claims| claims.into_iter().map(|(i, (_, amount, mode))| (i, amount, mode)).collect());
    let step = prop_oneof![
        5 => (claims, 0..20_u64, 1..30_u64).prop_map(|(claims, wait, ttl)| Step::Acquire { claims, wait, ttl }),
        4 => (0..8_usize).prop_map(Step::Release),
        1 => (0..8_usize).prop_map(Step::Renew),
        1 => (0..8_usize).prop_map(Step::GiveUp),
        1 => (0..5_i64).prop_map(Step::Limit),
        2 => (0..6_000_u64).prop_map(Step::Pass),
        2 => (0..3_usize).prop_map(Step::Wake),
        1 => (0..3_usize).prop_map(Step::Recreate),
    ];
    prop::collection::vec(step, 1..60)
}

struct Fleet {
    bench: Bench,
    /// Requests that were made, granted or waiting.
    requests: Vec<(Uuid, Vec<PermitClaim>)>,
    next: u128,
    newest: HashMap<ResourceKey, i64>,
}

impl Fleet {
    fn new() -> Self {
        let mut fleet = Self { bench: Bench::empty(), requests: Vec::new(), next: 0, newest: HashMap::default() };
        let rate = RatePolicy { amount: 2, per: secs(1), burst: 2 };
        fleet.set_policy("limit", Policy { capacity: Some(3), ..Policy::default() });
        fleet.set_policy("rate", Policy { rates: vec![rate], ..Policy::default() });
        fleet
    }

    fn set_policy(&mut self, name: &str, policy: Policy) {
        let key = ResourceKey::of(NAMESPACE, name);
        let change = ResourceChange::SetPolicy(Some(Arc::new(policy)));
        let set = ChangeResource { key, resource: name.into(), change, expected_version: None, request: None };
        self.run(&set).expect("it can be set");
    }

    fn run(&mut self, operation: &dyn Operation) -> Outcome {
        let outcome = self.bench.run(operation);
        self.check();
        outcome
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Acquire { claims, wait, ttl } => self.acquire(claims, *wait, *ttl),
            Step::Release(i) => {
                if let Some((id, claims)) = self.request(*i) {
                    let token = token(id, &claims);
                    let release =
                        ReleasePermit { namespace: NAMESPACE, token, outcome: PermitOutcome::default(), request: None };
                    assert!(matches!(self.run(&release), Ok(_) | Err(Refusal::PermitLost)));
                }
            }
            Step::Renew(i) => {
                if let Some((id, claims)) = self.request(*i) {
                    let renew = RenewPermit { namespace: NAMESPACE, token: token(id, &claims), ttl: None };
                    assert!(matches!(self.run(&renew), Ok(_) | Err(Refusal::PermitLost)));
                }
            }
            Step::GiveUp(i) => {
                if let Some((id, claims)) = self.request(*i) {
                    self.run(&EndWait { namespace: NAMESPACE, id, claims, granted: WhenGranted::Release })
                        .expect("never refused");
                    assert!(self.resources().all(|resource| resource.held_permit(&id).is_none()));
                }
            }
            Step::Limit(capacity) => {
                self.set_policy("limit", Policy { capacity: Some(*capacity), ..Policy::default() });
            }
            Step::Pass(millis) => self.bench.pass(Duration::from_millis(*millis)),
            Step::Recreate(i) => self.recreate(NAMES[*i]),
            Step::Wake(i) => {
                let key = ResourceKey::of(NAMESPACE, NAMES[*i]);
                self.run(&WakeResource { key, is_overdue: false }).expect("never refused");
            }
        }
    }

    fn recreate(&mut self, name: &'static str) {
        let key = ResourceKey::of(NAMESPACE, name);
        let change = ResourceChange::Delete;
        let delete = ChangeResource { key, resource: name.into(), change, expected_version: None, request: None };
        self.next += 1;
        let claims = vec![PermitClaim { resource: name.into(), amount: 1, mode: None }];
        let acquire = AcquirePermit { wait: Duration::ZERO, ..self.request_for(claims.clone(), 5) };
        let id = acquire.id;
        let answers = self.bench.group(&[&delete, &acquire]);
        self.check();
        if answers[0].is_ok() {
            let reply = answers[1].as_ref().expect("it is a free lock now");
            assert!(matches!(reply.permit, Some(PermitReply::Granted(_))));
            assert_eq!(self.bench.resource(key).expect("it is there").version, 1);
        }
        if answers[1].as_ref().is_ok_and(|reply| matches!(reply.permit, Some(PermitReply::Granted(_)))) {
            self.requests.push((id, claims));
        }
        // What the others stand on.
        if name != "lock" {
            self.set_policy(name, Policy { capacity: Some(3), ..Policy::default() });
        }
    }

    fn request_for(&self, claims: Vec<PermitClaim>, ttl: u64) -> AcquirePermit {
        AcquirePermit {
            namespace: NAMESPACE,
            id: Uuid::from_u128(self.next),
            claims,
            ttl: secs(ttl),
            wait: Duration::ZERO,
            holder: "worker".into(),
            priority: 0,
            lease: None,
            request: None,
        }
    }

    fn acquire(&mut self, claims: &[(usize, i64, Option<PermitMode>)], wait: u64, ttl: u64) {
        let claim = |(i, amount, mode): &(usize, i64, Option<PermitMode>)| PermitClaim {
            resource: NAMES[*i].into(),
            amount: *amount,
            mode: *mode,
        };
        let claims: Vec<PermitClaim> = claims.iter().map(claim).collect();
        self.next += 1;
        let acquire = AcquirePermit { wait: secs(wait), ..self.request_for(claims.clone(), ttl) };
        let id = acquire.id;
        match self.run(&acquire) {
            Ok(reply) => match reply.permit.expect("an answer") {
                PermitReply::Granted(granted) => {
                    assert_eq!(granted.len(), claims.len(), "all or none");
                    // A lower limit ends no permits; nothing more is granted above it.
                    for resource in self.resources().filter(|resource| resource.held_permit(&id).is_some()) {
                        let is_shared = resource.held_permits().all(|permit| permit.mode == PermitMode::Shared);
                        let most = resource.limit().filter(|_| is_shared);
                        assert!(most.is_none_or(|most| resource.in_use() <= most), "{resource:?}");
                    }
                    self.requests.push((id, claims));
                }
                PermitReply::Waiting => self.requests.push((id, claims)),
                PermitReply::Denied(blockers) => assert!(wait == 0 && !blockers.is_empty()),
            },
            Err(refusal) => assert!(matches!(refusal, Refusal::InvalidField { .. }), "{refusal}"),
        }
    }

    fn request(&self, i: usize) -> Option<(Uuid, Vec<PermitClaim>)> {
        let back = self.requests.len().checked_sub(1 + i)?;
        self.requests.get(back).cloned()
    }

    fn resources(&self) -> impl Iterator<Item = Arc<Resource>> {
        NAMES.into_iter().filter_map(|name| self.bench.resource(ResourceKey::of(NAMESPACE, name)))
    }

    /// What is true after every operation.
    fn check(&mut self) {
        let now = self.bench.now;
        let mut places: BTreeMap<Uuid, usize> = BTreeMap::new();
        for resource in self.resources().collect::<Vec<_>>() {
            let mut again = Resource::clone(&resource);
            again.derive();
            assert_eq!(
                (again.held(), again.in_use()),
                (resource.held(), resource.in_use()),
                "what is kept along is right"
            );
            let exclusive = resource.held_permits().filter(|permit| permit.mode == PermitMode::Exclusive).count();
            assert!(exclusive == 0 || resource.held() == 1, "who is alone is alone");
            let newest = self.newest.entry(resource.key).or_default();
            assert!(resource.fencing_token >= *newest);
            *newest = resource.fencing_token;
            let mut tokens: Vec<i64> = resource.held_permits().map(|permit| permit.fencing_token).collect();
            tokens.sort_unstable();
            tokens.dedup();
            assert_eq!(tokens.len(), resource.held());
            for waiter in resource.wait_queue.values() {
                *places.entry(waiter.id).or_default() += 1;
                assert!(!resource.permits.contains_key(&waiter.id), "no waiter holds what it waits for");
            }
            // Whoever is first of those who want this alone does not fit, unless time alone has made it so: then an alarm is due.
            let first = resource.wait_queue.values().next().filter(|waiter| waiter.claims.len() == 1);
            let fits = first
                .and_then(|waiter| resource.claim_of(waiter))
                .is_some_and(|claim| resource.fits(claim, now).is_ok());
            let is_due = resource.update_time < now;
            assert!(!fits || is_due, "no waiter could be served: {resource:?}");
        }
    }
}

fn token(id: Uuid, claims: &[PermitClaim]) -> PermitToken {
    PermitToken { namespace: NAMESPACE, resource: ResourceKey::uid_of(&claims[0].resource), id }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn permits_stay_within_limits_and_every_waiter_is_served_or_times_out(steps in steps()) {
        let mut fleet = Fleet::new();
        for step in &steps {
            fleet.step(step);
        }
        // In the end everything expires: then no queue has a waiter, and later no permit is held.
        for later in [secs(120), KEPT_FOR] {
            fleet.bench.pass(later);
            for i in (0..3).chain(0..3) {
                fleet.step(&Step::Wake(i));
            }
            for resource in fleet.resources() {
                prop_assert!(resource.wait_queue.is_empty(), "{resource:?}");
                prop_assert!(later != KEPT_FOR || resource.held() == 0, "{resource:?}");
            }
        }
    }
}
