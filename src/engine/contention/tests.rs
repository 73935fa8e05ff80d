//! Marks and their ages.

use super::*;
use crate::domain::id::{JobKey, NamespaceId};

fn job(id: &str) -> Key {
    Key::Job(JobKey::of(NamespaceId(1), id))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Marks with one key at a level, and the moment of the mark.
fn marked(level: ContentionLevel, key: &Key) -> (Marks, Instant) {
    let (mut marks, now) = (Marks::default(), Instant::now());
    marks.mark(level, [key], now);
    (marks, now)
}

#[test]
fn marks_expire_by_level() {
    let key = job("a");
    for (level, later) in [
        (ContentionLevel::Foreign, [(9, Some(ContentionLevel::Foreign)), (10, None), (11, None)]),
        (ContentionLevel::Hot, [(1, Some(ContentionLevel::Foreign)), (9, Some(ContentionLevel::Foreign)), (10, None)]),
        (
            ContentionLevel::Blocked,
            [(1, Some(ContentionLevel::Blocked)), (9, Some(ContentionLevel::Blocked)), (10, None)],
        ),
    ] {
        let (mut marks, now) = marked(level, &key);
        assert_eq!((marks.level(&key, now), marks.level(&job("b"), now)), (Some(level), None));
        for (seconds, expected) in later {
            let then = now + secs(seconds);
            assert_eq!(marks.level(&key, then), expected, "{level:?} after {seconds} s");
            assert_eq!(
                marks.has_any(ContentionLevel::Foreign, then),
                expected.is_some(),
                "{level:?} after {seconds} s"
            );
            assert_eq!(marks.has_any(ContentionLevel::Blocked, then), expected == Some(ContentionLevel::Blocked));
        }
        assert!(marks.keys.is_empty(), "expired marks are dropped");
    }
}

#[test]
fn a_lower_mark_does_not_end_a_higher_one() {
    let key = job("a");
    let (mut marks, now) = marked(ContentionLevel::Hot, &key);
    marks.mark(ContentionLevel::Foreign, [&key], now);
    assert_eq!(marks.level(&key, now), Some(ContentionLevel::Hot));
    // Once it is over, the new mark counts from its own time.
    marks.mark(ContentionLevel::Foreign, [&key], now + secs(5));
    assert_eq!(marks.level(&key, now + secs(14)), Some(ContentionLevel::Foreign));
    marks.mark(ContentionLevel::Blocked, [&key], now + secs(14));
    assert_eq!(marks.level(&key, now + secs(23)), Some(ContentionLevel::Blocked));
}

#[test]
fn a_row_that_could_be_locked_is_no_longer_blocked() {
    let (key, other) = (job("a"), job("b"));
    let (mut marks, now) = marked(ContentionLevel::Blocked, &key);
    marks.mark(ContentionLevel::Hot, [&other], now);
    marks.unblock([&key, &other], now);
    assert_eq!(
        (marks.level(&key, now), marks.level(&other, now)),
        (Some(ContentionLevel::Foreign), Some(ContentionLevel::Hot))
    );
}

#[test]
fn marked_keys_are_bounded() {
    let keys: Vec<Key> = (0..=MAX_KEYS).map(|i| job(&i.to_string())).collect();
    let (mut marks, now) = (Marks::default(), Instant::now());
    marks.mark(ContentionLevel::Hot, &keys, now);
    assert_eq!((marks.keys.len(), marks.level(&keys[MAX_KEYS], now)), (MAX_KEYS, None));
    marks.mark(ContentionLevel::Hot, &keys[MAX_KEYS..], now + FOREIGN_FOR);
    assert_eq!(marks.keys.len(), 1, "expired marks make room");
}

#[test]
fn roots_written_by_others_end_commits_of_all_or_nothing() {
    let contention = Contention::default();
    assert_eq!(contention.commit_mode(), CommitMode::AllOrNothing);
    contention.mark(ContentionLevel::Hot, [&Key::Namespace(NamespaceId(1))]);
    assert_eq!(contention.commit_mode(), CommitMode::AllOrNothing, "a namespace is no root");
    contention.mark(ContentionLevel::Foreign, [&job("a")]);
    assert_eq!(contention.commit_mode(), CommitMode::PerComponent);
    let contention = Contention::default();
    contention.note_other_writer();
    assert_eq!(contention.commit_mode(), CommitMode::PerComponent);
    assert!(!contention.has_any(ContentionLevel::Foreign), "it is not known of which key");
}

#[test]
fn operations_are_blocked_by_rows_and_by_tables_of_their_kind() {
    let contention = Contention::default();
    let (a, b) = (job("a"), job("b"));
    let keys = [b.clone(), Key::Namespace(NamespaceId(1)), a.clone(), b.clone()];
    assert_eq!(contention.blocked(keys.iter()), Blocked::default());
    contention.mark(ContentionLevel::Blocked, [&b]);
    contention.mark(ContentionLevel::Hot, [&a]);
    let blocked = contention.blocked(keys.iter());
    assert_eq!((&*blocked.rows, blocked.has_rows(), blocked.has_tables()), (&[b][..], true, false));
    contention.set_tables(&[Tables::Records, Tables::Jobs]);
    let blocked = contention.blocked(keys.iter());
    assert!(blocked.has_tables() && contention.needs_blocked_table(keys.iter()));
    assert!(!contention.needs_blocked_table([&Key::KeyRing(())].into_iter()));
    contention.set_tables(&[]);
    assert!(!contention.has_blocked_tables() && !contention.needs_blocked_table(keys.iter()));
}
