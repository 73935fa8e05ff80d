//! Heads of queues after commits, reads and races.

use uuid::Uuid;

use super::*;
use crate::domain::id::NamespaceId;

fn stage(n: u32) -> ReadyStage {
    ReadyStage {
        key: JobKey { namespace: NamespaceId(1), uid: Uuid::from_u128(n.into()) },
        stage_no: 0,
        queue: "default".into(),
        priority: 0,
        ready_at: Timestamp(i64::from(n)),
        group_key: None,
        alone: false,
    }
}

fn queue() -> QueueKey {
    (NamespaceId(1), "default".into())
}

fn range(limit: usize) -> HeadRange {
    HeadRange { namespace: NamespaceId(1), queue: "default".into(), alone: false, from: ReadyPosition::FRONT, limit }
}

/// Heads with one queue, known to its end, that has these stages.
fn heads(stages: impl Iterator<Item = u32>) -> Heads {
    let heads = Heads::default();
    let mut inner = heads.lock();
    inner.head(&queue());
    inner.begin_read();
    inner.end_read(&[range(100)], Some(&[stages.map(stage).collect()]), Instant::now());
    drop(inner);
    heads
}

fn pick(heads: &Heads) -> Option<ReadyStage> {
    let mut inner = heads.lock();
    let place = inner.known(&queue())?.plain.next(None, false)?;
    inner.pick(&queue(), false, place)
}

fn picked(heads: &Heads) -> Vec<i64> {
    std::iter::from_fn(|| pick(heads)).map(|stage| stage.ready_at.0).collect()
}

fn ended(heads: &Heads, n: u32) {
    heads.lock().apply(Note::Ended((queue(), false), stage(n).key, 0));
}

#[test]
fn a_picked_stage_is_not_found_again_until_it_is_given_back() {
    let heads = heads(1..4);
    let first = pick(&heads).expect("a stage");
    heads.lock().begin_read();
    heads.lock().end_read(&[range(100)], Some(&[(1..4).map(stage).collect()]), Instant::now());
    heads.give_back([first], false);
    assert_eq!(picked(&heads), [1, 2, 3]);
    heads.give_back([stage(2)], true);
    assert_eq!(picked(&heads), [0; 0], "what is lost is somebody else's");
    assert!(heads.lock().others.lost_race_recently());
}

#[test]
fn what_ended_while_it_was_in_hand_does_not_come_back() {
    let heads = heads(1..3);
    let first = pick(&heads).expect("a stage");
    ended(&heads, 1);
    heads.give_back([first], false);
    assert_eq!(picked(&heads), [2]);
}

#[test]
fn a_commit_during_a_read_is_newer_than_what_the_read_found() {
    let heads = heads(1..3);
    let first = pick(&heads).expect("a stage");
    heads.lock().begin_read();
    // The snapshot of the read was taken before these commits.
    ended(&heads, 1);
    heads.leased([&first]);
    ended(&heads, 2);
    heads.lock().apply(Note::Added(stage(5)));
    heads.lock().end_read(&[range(100)], Some(&[(1..3).map(stage).collect()]), Instant::now());
    assert_eq!(picked(&heads), [5]);
}

#[test]
fn a_stage_that_was_lost_during_a_read_is_not_found_by_it() {
    let heads = heads(1..3);
    let first = pick(&heads).expect("a stage");
    heads.lock().begin_read();
    heads.give_back([first], true);
    heads.lock().end_read(&[range(100)], Some(&[(1..3).map(stage).collect()]), Instant::now());
    assert_eq!(picked(&heads), [2]);
}

#[test]
fn queues_and_stages_are_bounded() {
    let heads = Heads::default();
    let mut inner = heads.lock();
    for n in 0..=MAX_QUEUES.get() {
        inner.head(&(NamespaceId(1), format!("q{n}").into()));
    }
    assert_eq!(inner.queues.len(), MAX_QUEUES.get());
    assert!(inner.known(&(NamespaceId(1), "q0".into())).is_none(), "the longest unused is forgotten");
    inner.stages = MAX_STAGES + 1;
    inner.head(&queue());
    assert!(inner.queues.len() < MAX_QUEUES.get(), "stages count too");
}
