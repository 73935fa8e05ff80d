//! Credentials: text form, expiry, revocation and the grace of a rotation.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::access::Role;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn at(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

fn key(proof: Proof) -> ApiKey {
    ApiKey {
        id: KeyId::of_random(7),
        version: 1,
        changed_version: 2,
        proof,
        label: "worker".into(),
        roles: Roles::NONE.with(Role::Work),
        namespaces: [NamespacePattern::parse("team-*").expect("a pattern")].into(),
        rates: RateLimits::default(),
        create_time: NOW,
        expire_time: None,
        revoke_time: None,
        last_use_time: None,
    }
}

fn with_secret(secret: [u8; 32]) -> ApiKey {
    key(Proof::Secret { hash: SecretHash::of(&Secret::new(secret)), previous: None })
}

fn verify(key: &ApiKey, secret: [u8; 32], now: Timestamp) -> bool {
    key.verify(&Secret::new(secret), now)
}

#[test]
fn a_key_verifies_its_own_secret_alone() {
    let key = with_secret(NEW);
    assert!(verify(&key, NEW, NOW));
    for other in [OLD, [0; 32], [2u8; 32].map(|byte| byte ^ 128)] {
        assert!(!verify(&key, other, NOW));
    }
    assert!(!verify_unknown(&Secret::new(NEW)));
}

#[test]
fn an_expired_key_verifies_nothing_from_its_expire_time_on() {
    let key = ApiKey { expire_time: Some(at(10)), ..with_secret(NEW) };
    let last = at(10).before(Duration::from_micros(1));
    assert_eq!((key.state(last), verify(&key, NEW, last), key.ended(last)), (KeyState::Active, true, None));
    assert_eq!(
        (key.state(at(10)), verify(&key, NEW, at(10)), key.ended(at(10))),
        (KeyState::Expired, false, Some(at(10)))
    );
}

#[test]
fn a_revoked_key_verifies_nothing_and_is_revoked_even_after_its_expire_time() {
    let key = ApiKey { expire_time: Some(at(10)), revoke_time: Some(at(5)), ..with_secret(NEW) };
    assert!(!verify(&key, NEW, NOW));
    assert_eq!((key.state(at(20)), key.ended(at(20))), (KeyState::Revoked, Some(at(5))));
}

#[test]
fn the_previous_secret_is_valid_until_the_grace_ends() {
    let previous = PreviousSecret { hash: SecretHash::of(&Secret::new(OLD)), until: at(60) };
    let proof = Proof::Secret { hash: SecretHash::of(&Secret::new(NEW)), previous: Some(previous) };
    let rotated = key(proof);
    let last = at(60).before(Duration::from_micros(1));
    assert!(verify(&rotated, OLD, last) && verify(&rotated, NEW, last));
    assert!(!verify(&rotated, OLD, at(60)) && verify(&rotated, NEW, at(60)));
    let revoked = ApiKey { revoke_time: Some(NOW), ..rotated.clone() };
    assert!(!verify(&revoked, OLD, NOW) && !verify(&revoked, NEW, NOW));
    let expired = ApiKey { expire_time: Some(at(30)), ..rotated };
    assert!(verify(&expired, OLD, at(29)) && !verify(&expired, OLD, at(30)));
}

#[test]
fn a_certificate_has_no_secret() {
    let certificate = key(Proof::Certificate("spiffe://team/worker".into()));
    assert!(!verify(&certificate, [0; 32], NOW));
    assert_eq!(&*certificate.principal().name, "cert:spiffe://team/worker");
    assert_eq!(*with_secret(NEW).principal().name, *format!("key:{}", KeyId::of_random(7)));
}

#[test]
fn a_key_ring_finds_keys_and_certificates_that_are_not_revoked() {
    let number = |number| KeyId::of_random(number);
    let certificate =
        |id, revoke_time| Arc::new(ApiKey { id: number(id), revoke_time, ..key(Proof::Certificate("robot".into())) });
    let mut ring = KeyRing::default();
    let changes = |version, is_whole, keys| KeyChanges { version, floor_version: 0, is_whole, keys };
    ring.apply(changes(2, true, vec![certificate(1, None)]));
    assert_eq!(ring.of_certificate("robot").map(|key| key.id), Some(number(1)));
    // The new one before the old one that was revoked for it, and after it.
    for (old, new) in [(1, 2), (2, 3)] {
        let mut keys = vec![certificate(new, None), certificate(old, Some(NOW))];
        if old == 2 {
            keys.reverse();
        }
        ring.apply(changes(3, false, keys));
        assert_eq!(ring.of_certificate("robot").map(|key| key.id), Some(number(new)));
    }
    assert_eq!((ring.len(), ring.version), (3, 3));
    ring.remove(number(3));
    assert!(ring.of_certificate("robot").is_none() && ring.get(number(3)).is_none());
    ring.apply(changes(4, true, vec![certificate(9, None)]));
    assert_eq!(ring.iter().map(|key| key.id).collect::<Vec<_>>(), [number(9)], "all others were deleted");
}

#[test]
fn key_text_parse_refuses_other_texts() {
    let text = KeyText { id: KeyId::of_random(u64::MAX), secret: Secret::new(NEW) }.expose();
    assert!(KeyText::parse(&text).is_some());
    let upper = format!("il_{}{}", text[3..11].to_uppercase(), &text[11..]);
    let bad = [
        String::new(),
        text[1..].to_owned(),
        format!("{text}a"),
        format!(" {text}"),
        text.replace("il_", "xx_"),
        text.replacen('_', "-", 2),
        format!("{}!", &text[..text.len() - 1]),
        // Its last character has bits that no 32 bytes have.
        format!("{}B", &text[..text.len() - 1]),
        upper,
        "ü".repeat(27) + "a",
        "a".repeat(1_000_000),
    ];
    for bad in bad {
        assert!(KeyText::parse(&bad).is_none(), "{bad:.60}");
    }
}

#[test]
fn debug_output_contains_no_secret_and_no_hash() {
    let text = KeyText { id: KeyId::of_random(1), secret: Secret::new(NEW) };
    let secret = text.expose().split_off(12);
    let key = with_secret(NEW);
    let Proof::Secret { hash, .. } = &key.proof else { panic!("a secret") };
    let hash = hash.as_bytes().map(|byte| byte.to_string()).join(", ");
    for printed in [format!("{text:?}"), format!("{key:?}"), format!("{:?}", KeyRing::default())] {
        assert!(!printed.contains(&secret) && !printed.contains(&hash) && !printed.contains("2, 2, 2"), "{printed}");
    }
}

proptest! {
    #[test]
    fn key_text_round_trips(number: u64, secret: [u8; 32]) {
        let made = KeyText { id: KeyId::of_random(number), secret: Secret::new(secret) };
        let read = KeyText::parse(&made.expose()).expect("a key");
        prop_assert_eq!(read.id, made.id);
        prop_assert_eq!(SecretHash::of(&read.secret), SecretHash::of(&made.secret));
        prop_assert_eq!(read.expose(), made.expose());
        prop_assert_eq!(KeyId::of_uuid(made.id.to_uuid()), Some(made.id));
    }

    #[test]
    fn parsed_key_text_is_written_the_same(text in "il_[a-z0-9]{8}_[A-Za-z0-9_-]{43}") {
        if let Some(read) = KeyText::parse(&text) {
            prop_assert_eq!(read.expose(), text);
        }
    }
}
