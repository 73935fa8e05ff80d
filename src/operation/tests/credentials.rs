//! Credentials: what creates, changes and ends them, decided in memory.

use std::time::Duration;

use super::bench::Bench;
use super::requests::identity;
use crate::domain::access::{NamespacePattern, RateLimits, Role, Roles};
use crate::domain::credential::{ApiKey, KeyId, KeyRing, KeyState, MAX_KEYS, Proof, Secret, SecretHash};
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::operation::credential::{CreateKey, Expiry, KEPT, RetireKeys, RevokeKey, RotateKey};
use crate::operation::{Operation, decide};

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn id(number: u64) -> KeyId {
    KeyId::of_random(number)
}

fn hash(secret: [u8; 32]) -> SecretHash {
    SecretHash::of(&Secret::new(secret))
}

fn new(number: u64, proof: Proof) -> CreateKey {
    let key = ApiKey {
        id: id(number),
        version: 0,
        changed_version: 0,
        proof,
        label: "worker".into(),
        roles: Roles::NONE.with(Role::Work),
        namespaces: [NamespacePattern::Prefix("".into())].into(),
        rates: RateLimits::default(),
        create_time: Timestamp(0),
        expire_time: None,
        revoke_time: None,
        last_use_time: None,
    };
    CreateKey { key, expiry: Expiry::Never, request: None }
}

fn with_secret(number: u64) -> CreateKey {
    new(number, Proof::Secret { hash: hash(OLD), previous: None })
}

fn certificate(number: u64) -> CreateKey {
    new(number, Proof::Certificate("robot".into()))
}

fn rotate(number: u64, grace: u64) -> RotateKey {
    RotateKey { id: id(number), hash: hash(NEW), grace: Duration::from_secs(grace), request: None }
}

fn revoke(number: u64) -> RevokeKey {
    RevokeKey { id: id(number), request: None }
}

fn bench() -> Bench {
    let mut bench = Bench::empty();
    bench.committed.key_ring = Some(KeyRing::default().into());
    bench
}

fn key(bench: &Bench, number: u64) -> ApiKey {
    let ring = bench.committed.key_ring.as_ref().expect("it was loaded");
    (**ring.get(id(number)).expect("the key")).clone()
}

fn ring_version(bench: &Bench) -> i64 {
    bench.committed.key_ring.as_ref().expect("it was loaded").version
}

#[test]
fn each_change_raises_the_version_of_the_key_and_of_the_ring() {
    let mut bench = bench();
    bench.run(&with_secret(1)).expect("created");
    bench.run(&with_secret(2)).expect("created");
    bench.run(&rotate(1, 60)).expect("rotated");
    let (first, second) = (key(&bench, 1), key(&bench, 2));
    assert_eq!((first.version, first.changed_version, second.changed_version), (2, 3, 2));
    assert_eq!((ring_version(&bench), first.create_time), (3, bench.now));
    // What one group changes has one version, so whoever asks for what changed since gets all of it.
    bench.group(&[&with_secret(3), &revoke(3), &revoke(2)]).into_iter().for_each(|done| drop(done.expect("done")));
    let (second, third) = (key(&bench, 2), key(&bench, 3));
    assert_eq!((second.changed_version, third.changed_version, ring_version(&bench)), (4, 4, 4));
    assert_eq!((third.version, third.state(bench.now)), (2, KeyState::Revoked));
}

#[test]
fn expire_times_are_counted_from_the_decision() {
    let mut bench = bench();
    let ttl = Duration::from_secs(60);
    bench.run(&CreateKey { expiry: Expiry::After(ttl), ..with_secret(1) }).expect("created");
    bench.run(&CreateKey { expiry: Expiry::At(bench.now.after(ttl)), ..with_secret(2) }).expect("created");
    for number in [1, 2] {
        assert_eq!(key(&bench, number).expire_time, Some(bench.now.after(ttl)));
    }
    let refused = bench.run(&CreateKey { expiry: Expiry::At(bench.now), ..with_secret(3) });
    assert!(matches!(refused, Err(Refusal::InvalidField { path, .. }) if path == "expire_time"));
}

#[test]
fn ids_and_names_in_certificates_are_used_once() {
    let mut bench = bench();
    bench.run(&certificate(1)).expect("created");
    for taken in [certificate(2), with_secret(1)] {
        let refused = bench.run(&taken);
        assert!(matches!(refused, Err(Refusal::KeyAlreadyExists { .. })), "{refused:?}");
    }
    // In one group, in which the first is revoked, too.
    let done = bench.group(&[&revoke(1), &certificate(2), &certificate(3)]);
    assert_eq!(done.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    assert!(bench.run(&with_secret(1)).is_err(), "an id is never used again");
}

#[test]
fn a_rotation_keeps_the_secret_before_it_for_the_grace() {
    let mut bench = bench();
    bench.run(&with_secret(1)).expect("created");
    bench.run(&rotate(1, 60)).expect("rotated");
    let verify = |bench: &Bench, secret| key(bench, 1).verify(&Secret::new(secret), bench.now);
    assert!(verify(&bench, OLD) && verify(&bench, NEW));
    bench.pass(Duration::from_secs(60));
    assert!(!verify(&bench, OLD) && verify(&bench, NEW));
    bench.run(&RotateKey { hash: hash(OLD), ..rotate(1, 0) }).expect("rotated");
    assert!(verify(&bench, OLD) && !verify(&bench, NEW), "without a grace it ends at once");
}

#[test]
fn an_ended_key_or_a_certificate_cannot_be_rotated() {
    let mut bench = bench();
    bench.run(&certificate(1)).expect("created");
    bench.run(&with_secret(2)).expect("created");
    bench.run(&revoke(2)).expect("revoked");
    bench.run(&CreateKey { expiry: Expiry::After(Duration::from_secs(1)), ..with_secret(3) }).expect("created");
    bench.pass(Duration::from_secs(1));
    for (number, expected) in [(1, "CERTIFICATE"), (2, "REVOKED"), (3, "EXPIRED")] {
        let refused = bench.run(&rotate(number, 0));
        assert!(matches!(refused, Err(Refusal::InvalidTransition { state, .. }) if state == expected), "{refused:?}");
    }
    assert!(matches!(bench.run(&rotate(9, 0)), Err(Refusal::KeyNotFound { .. })));
    assert!(matches!(bench.run(&revoke(9)), Err(Refusal::KeyNotFound { .. })));
}

#[test]
fn a_second_revocation_changes_nothing() {
    let mut bench = bench();
    bench.run(&with_secret(1)).expect("created");
    bench.run(&revoke(1)).expect("revoked");
    let (first, version) = (key(&bench, 1), ring_version(&bench));
    bench.pass(Duration::from_secs(1));
    assert!(!bench.run(&revoke(1)).expect("answered").applied);
    assert_eq!((key(&bench, 1), ring_version(&bench)), (first, version));
}

#[test]
fn a_repeat_finds_the_key_by_its_id() {
    let mut bench = bench();
    let create = CreateKey { request: identity(1, 1), ..with_secret(1) };
    bench.run(&create).expect("created");
    // The caller's side draws another id for the repeat.
    let repeat = CreateKey { request: identity(1, 1), ..with_secret(2) };
    let record = bench.run(&repeat).expect("answered").replayed.expect("from memory");
    assert_eq!(record.jobs.iter().map(|name| KeyId::of_uuid(*name)).collect::<Vec<_>>(), [Some(id(1))]);
    assert_eq!(bench.committed.key_ring.as_ref().expect("there").len(), 1);
}

#[test]
fn keys_are_bounded_and_retired_long_after_their_end() {
    let mut bench = bench();
    let mut ring = KeyRing::default();
    for number in 0..MAX_KEYS as u64 {
        ring.put(ApiKey { version: 1, create_time: bench.now, ..with_secret(number).key }.into());
    }
    bench.committed.key_ring = Some(ring.into());
    let one_more = MAX_KEYS as u64;
    assert!(matches!(bench.run(&with_secret(one_more)), Err(Refusal::TooManyKeys { limit: MAX_KEYS })));
    bench.run(&revoke(7)).expect("revoked");
    assert!(bench.run(&with_secret(one_more)).is_err(), "it is still stored");
    bench.pass(KEPT - Duration::from_micros(1));
    assert!(!bench.run(&RetireKeys).expect("nothing to do").applied);
    bench.pass(Duration::from_micros(1));
    assert!(bench.run(&RetireKeys).expect("retired").applied);
    let ring = bench.committed.key_ring.clone().expect("there");
    assert_eq!((ring.len(), ring.get(id(7)), ring.floor_version), (MAX_KEYS - 1, None, ring.version));
    bench.run(&with_secret(one_more)).expect("there is room");
}

#[test]
fn the_audit_log_contains_applied_operations_only() {
    let mut bench = bench();
    bench.run(&with_secret(1)).expect("created");
    let noted = |operation: &dyn Operation| {
        let mut overlay = bench.overlay();
        let outcome = decide(operation, &mut overlay);
        overlay.end_operation(outcome.is_ok()).audit.into_iter().map(|entry| entry.method).collect::<Vec<_>>()
    };
    assert_eq!(noted(&with_secret(2)), ["AdminService/CreateKey"]);
    assert_eq!(noted(&rotate(1, 0)), ["AdminService/RotateKey"]);
    assert_eq!(noted(&revoke(1)), ["AdminService/RevokeKey"]);
    assert!(noted(&with_secret(1)).is_empty() && noted(&revoke(9)).is_empty() && noted(&RetireKeys).is_empty());
    let entry = with_secret(1).audit().expect("an entry");
    assert!(!entry.details.to_string().contains("hash"), "{entry:?}");
}
