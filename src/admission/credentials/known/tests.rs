//! Known credentials: sessions that end, rounds that calls wait for, bounds.

use std::sync::atomic::AtomicI64;

use super::*;
use crate::domain::access::{NamespacePattern, RateLimits, Role, Roles};
use crate::domain::credential::{PreviousSecret, Secret};

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];
const NEWER: [u8; 32] = [3; 32];

/// Known keys with a clock that the test sets, in seconds.
struct Scene {
    known: Arc<KnownKeys>,
    now: Arc<AtomicI64>,
    version: i64,
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

impl Scene {
    fn new() -> Scene {
        let now = Arc::new(AtomicI64::new(1));
        let clock = now.clone();
        let known = Arc::new(KnownKeys::new(Arc::new(move || seconds(clock.load(Ordering::Relaxed)))));
        Scene { known, now, version: 0 }
    }

    /// Runs a round that reads these keys: as the full list, or as changes.
    fn round(&mut self, is_whole: bool, keys: Vec<ApiKey>) {
        self.version += 1;
        self.known.begin_round();
        let keys = keys.into_iter().map(Arc::new).collect();
        self.known.end_round(Some(KeyChanges { version: self.version, floor_version: 0, is_whole, keys }));
    }

    /// Runs a round that fails at a time.
    fn failed_round_at(&self, now: i64) {
        self.now.store(now, Ordering::Relaxed);
        self.known.begin_round();
        self.known.end_round(None);
    }

    fn show(&self, number: u64, secret: [u8; 32]) -> KeyLookup {
        self.known.find(&shown(number, secret))
    }

    fn session(&self, number: u64, secret: [u8; 32]) -> CancellationToken {
        match self.show(number, secret) {
            KeyLookup::Valid(session) => session.ended,
            _ => panic!("key {number} is not valid"),
        }
    }
}

fn shown(number: u64, secret: [u8; 32]) -> ShownCredential {
    ShownCredential::Key(KeyText { id: KeyId::of_random(number), secret: Secret::new(secret) })
}

fn hash(secret: [u8; 32]) -> SecretHash {
    SecretHash::of(&Secret::new(secret))
}

fn key(number: u64, proof: Proof) -> ApiKey {
    ApiKey {
        id: KeyId::of_random(number),
        version: 1,
        changed_version: 1,
        proof,
        label: "test".into(),
        roles: Roles::NONE.with(Role::Work),
        namespaces: [NamespacePattern::parse("*").expect("a pattern")].into(),
        rates: RateLimits::default(),
        create_time: seconds(0),
        expire_time: None,
        revoke_time: None,
        last_use_time: None,
    }
}

fn with_secret(number: u64, secret: [u8; 32]) -> ApiKey {
    key(number, Proof::Secret { hash: hash(secret), previous: None })
}

fn rotated(number: u64, secret: [u8; 32], before: [u8; 32], until: i64) -> ApiKey {
    let previous = Some(PreviousSecret { hash: hash(before), until: seconds(until) });
    key(number, Proof::Secret { hash: hash(secret), previous })
}

fn revoked(key: ApiKey) -> ApiKey {
    ApiKey { revoke_time: Some(seconds(1)), ..key }
}

#[test]
fn revocation_and_deletion_end_what_was_let_in() {
    let mut scene = Scene::new();
    scene.round(true, vec![with_secret(1, OLD), with_secret(2, NEW)]);
    let (first, second) = (scene.session(1, OLD), scene.session(2, NEW));
    scene.round(false, vec![revoked(with_secret(1, OLD))]);
    assert!(first.is_cancelled() && !second.is_cancelled());
    assert!(matches!(scene.show(1, OLD), KeyLookup::Ended(KeyState::Revoked)));
    assert!(matches!(scene.show(1, NEW), KeyLookup::WrongSecret), "a wrong secret does not reveal the state");
    scene.round(true, vec![with_secret(3, NEW)]);
    assert!(second.is_cancelled());
    assert!(matches!(scene.show(2, NEW), KeyLookup::Unknown));
    assert_eq!(scene.known.version(), 3);
}

#[test]
fn expiry_ends_what_was_let_in_also_while_nothing_can_be_read() {
    let mut scene = Scene::new();
    scene.round(true, vec![ApiKey { expire_time: Some(seconds(10)), ..with_secret(1, OLD) }]);
    let session = scene.session(1, OLD);
    scene.failed_round_at(9);
    assert!(!session.is_cancelled() && matches!(scene.show(1, OLD), KeyLookup::Valid(_)));
    scene.failed_round_at(10);
    assert!(session.is_cancelled());
    assert!(matches!(scene.show(1, OLD), KeyLookup::Ended(KeyState::Expired)));
}

#[test]
fn a_rotation_ends_the_old_secret_after_its_grace_and_never_the_new_one() {
    let mut scene = Scene::new();
    scene.round(true, vec![with_secret(1, OLD)]);
    let old = scene.session(1, OLD);
    scene.round(false, vec![rotated(1, NEW, OLD, 10)]);
    let (in_grace, new) = (scene.session(1, OLD), scene.session(1, NEW));
    assert!(!old.is_cancelled() && !in_grace.is_cancelled());
    scene.failed_round_at(10);
    assert!(old.is_cancelled() && in_grace.is_cancelled() && !new.is_cancelled());
    assert!(matches!(scene.show(1, OLD), KeyLookup::WrongSecret));
    // Two rotations between two rounds, without a grace period: no session from before is left.
    scene.round(false, vec![with_secret(1, NEWER)]);
    assert!(new.is_cancelled() && matches!(scene.show(1, NEW), KeyLookup::WrongSecret));
    assert!(!scene.session(1, NEWER).is_cancelled());
}

#[test]
fn changes_of_other_things_end_nothing() {
    let mut scene = Scene::new();
    scene.round(true, vec![rotated(1, NEW, OLD, 100), key(2, Proof::Certificate("worker".into()))]);
    let names: Arc<[String]> = ["other".to_owned(), "worker".to_owned()].into();
    let certificate = || match scene.known.find(&ShownCredential::Certificate(names.clone())) {
        KeyLookup::Valid(session) => session,
        _ => panic!("the certificate is not valid"),
    };
    let sessions = [scene.session(1, NEW), scene.session(1, OLD), certificate().ended];
    assert_eq!(&*certificate().principal.name, "cert:worker");
    for is_whole in [false, true] {
        scene.round(is_whole, vec![rotated(1, NEW, OLD, 100), key(2, Proof::Certificate("worker".into()))]);
        assert!(sessions.iter().all(|session| !session.is_cancelled()));
    }
    scene.round(
        false,
        vec![revoked(key(2, Proof::Certificate("worker".into()))), key(3, Proof::Certificate("w".into()))],
    );
    assert!(sessions[2].is_cancelled());
    assert!(matches!(scene.known.find(&ShownCredential::Certificate(names)), KeyLookup::Unknown));
}

#[test]
fn use_is_noted_once() {
    let mut scene = Scene::new();
    scene.round(true, vec![with_secret(1, OLD), with_secret(2, OLD)]);
    assert_eq!(scene.known.take_used(), []);
    scene.session(1, OLD);
    scene.session(1, OLD);
    scene.show(2, NEW);
    assert_eq!(scene.known.take_used(), [KeyId::of_random(1)]);
    assert_eq!(scene.known.take_used(), []);
}

#[tokio::test]
async fn an_unknown_key_waits_for_a_round_and_is_then_believed_absent() {
    let mut scene = Scene::new();
    scene.round(true, vec![]);
    let known = scene.known.clone();
    let (new, absent) = (shown(1, OLD), shown(2, OLD));
    let both = tokio::spawn(async move { tokio::join!(known.find_after_round(&new), known.find_after_round(&absent)) });
    scene.known.round_wanted().await;
    // Both calls have asked before the round begins: one task polls them.
    scene.round(false, vec![with_secret(1, OLD)]);
    let (new, absent) = both.await.expect("no panic");
    assert!(matches!(new, Some(KeyLookup::Valid(_))) && matches!(absent, Some(KeyLookup::Unknown)));
    let again = scene.known.find_after_round(&shown(2, OLD)).await;
    assert!(matches!(again, Some(KeyLookup::Unknown)), "no round was made for it");
}

#[tokio::test]
async fn what_cannot_be_found_out_is_not_the_same_as_what_is_unknown() {
    let scene = Scene::new();
    assert!(scene.known.find_after_round(&shown(1, OLD)).await.is_none(), "no rounds are made");
    let known = scene.known.clone();
    let waiting = tokio::spawn(async move { known.find_after_round(&shown(1, OLD)).await.is_none() });
    scene.known.round_wanted().await;
    scene.failed_round_at(1);
    assert!(waiting.await.expect("no panic"), "the round failed");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_bounded() {
    let mut scene = Scene::new();
    scene.round(true, vec![]);
    let flood: Vec<_> = (0..3 * MAX_WAITING as u64)
        .map(|number| {
            let known = scene.known.clone();
            tokio::spawn(async move { known.find_after_round(&shown(number, OLD)).await })
        })
        .collect();
    while scene.known.waiting.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    scene.round(false, vec![]);
    let mut answers = [0, 0];
    for answer in flood {
        answers[usize::from(answer.await.expect("no panic").is_none())] += 1;
    }
    // Calls beyond the bound are refused with a retry delay.
    assert_eq!(answers, [MAX_WAITING, 2 * MAX_WAITING]);
    assert!(scene.known.absent.lock().len() <= MAX_ABSENT);
}

#[test]
fn nothing_secret_is_printed() {
    let mut scene = Scene::new();
    scene.round(true, vec![with_secret(1, [7; 32])]);
    let text = format!("{:?}", scene.known);
    assert!(text.starts_with("KnownKeys") && !text.contains('7'), "{text}");
}
