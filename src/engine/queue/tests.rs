//! Lanes before one queue, by what each of them gets.

use std::sync::Arc;

use uuid::Uuid;

use super::super::pace::MAX_WAIT;
use super::*;
use crate::domain::audit::Actor;
use crate::domain::id::{LeaseToken, NamespaceId};
use crate::domain::record::RecordKey;
use crate::operation::heartbeat::RenewLeases;
use crate::operation::update_records::{RecordUpdate, UpdateRecords};

/// An update of records from one on, so many; more than fifty are a batch.
fn update(first: usize, count: usize) -> Pending {
    let key = |i: usize| RecordKey::new(NamespaceId(1), "c".into(), i.to_string().into());
    let one = |i| RecordUpdate { key: key(i), operations: Vec::new(), expected_version: None, allow_missing: false };
    let updates = (first..first + count).map(one).collect();
    Pending::new(Box::new(UpdateRecords { updates, list: None, request: None }), Actor::Server).0
}

/// A heartbeat, which is urgent, for a job of its own.
fn beat(job: u128) -> Pending {
    let token = LeaseToken { job_uid: Uuid::from_u128(job), stage_no: 0, fencing_token: 1, secret: Uuid::nil() };
    Pending::new(Box::new(RenewLeases { namespace: NamespaceId(1), tokens: vec![token; 6] }), Actor::Server).0
}

fn queue(updates: &[(usize, usize)]) -> Queue {
    let queue = Queue::new(1_000, 1 << 20, MAX_WAIT);
    updates.iter().for_each(|(first, count)| queue.push(update(*first, *count)).expect("room"));
    queue
}

/// Takes a group; what the side had in hand before is done.
fn take(queue: &Queue, side: Side) -> Vec<Pending> {
    queue.lock().take_group(side)
}

/// How many keys each operation of a group has.
fn sizes(group: &[Pending]) -> Vec<usize> {
    group.iter().map(|pending| pending.keys.len()).collect()
}

#[test]
fn the_second_lane_takes_batches_and_leaves_the_rest() {
    let queue = queue(&[(0, 1), (100, 60), (1, 2), (200, 70)]);
    assert_eq!(sizes(&take(&queue, Side::Second)), [60, 70]);
    assert_eq!(sizes(&take(&queue, Side::First)), [1, 2]);
    assert!(take(&queue, Side::Second).is_empty());
    let inner = queue.lock();
    assert_eq!((inner.len(), inner.rows(), inner.batches(), inner.bytes), (0, 0, 0, 0));
}

#[test]
fn nobody_takes_what_the_other_has_in_hand() {
    let queue = queue(&[(0, 60)]);
    let first = take(&queue, Side::First);
    for (first, count) in [(59, 61), (119, 62), (300, 63)] {
        queue.push(update(first, count)).expect("room");
    }
    // The second of them would be free, but waits behind the one that shares a record with it.
    assert_eq!((sizes(&first), sizes(&take(&queue, Side::Second))), (vec![60], vec![63]));
    queue.push(update(310, 1)).expect("room");
    // The first lane has done with its group; what the second has in hand waits.
    assert_eq!(sizes(&take(&queue, Side::First)), [61, 62]);
    assert!(take(&queue, Side::Second).is_empty());
    assert_eq!(sizes(&take(&queue, Side::First)), [1]);
}

#[test]
fn each_lane_has_roots_of_its_own_in_hand() {
    let queue = queue(&[(0, 60)]);
    assert_eq!(sizes(&take(&queue, Side::Second)), [60]);
    queue.push(update(100, 61)).expect("room");
    assert_eq!(sizes(&take(&queue, Side::Third)), [61]);
    for (first, count) in [(50, 62), (160, 63), (300, 1), (400, 64)] {
        queue.push(update(first, count)).expect("room");
    }
    assert_eq!(sizes(&take(&queue, Side::First)), [1, 64]);
    // Its own is done; the other batch still waits for the second lane.
    assert_eq!(sizes(&take(&queue, Side::Third)), [63]);
    assert_eq!(sizes(&take(&queue, Side::Second)), [62]);
}

#[tokio::test]
async fn who_waits_for_another_lane_is_woken() {
    let queue = Arc::new(queue(&[(0, 60)]));
    let _in_hand = queue.take_group(Side::Second).await.expect("the batch");
    queue.push(update(5, 1)).expect("room");
    queue.push(update(6, 60)).expect("room");
    let waits = [Side::First, Side::Third].map(|side| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.take_group(side).await.map(|group| sizes(&group)) })
    });
    tokio::task::yield_now().await;
    assert!(waits.iter().all(|waits| !waits.is_finished()));
    queue.close();
    // They are still served, as soon as the second lane has done with the records; it takes what is left to it itself.
    let mut taken = vec![queue.take_group(Side::Second).await.map(|group| sizes(&group))];
    for waits in waits {
        taken.push(tokio::time::timeout(Duration::from_secs(10), waits).await.expect("woken").expect("no panic"));
    }
    assert_eq!(taken, [Some(vec![60]), Some(vec![1]), None]);
    assert!(queue.take_group(Side::First).await.is_none());
}

#[tokio::test]
async fn each_lane_is_woken_by_each_other() {
    for (busy, idle) in [(Side::First, Side::Third), (Side::Second, Side::Third), (Side::Third, Side::Second)] {
        let queue = Arc::new(queue(&[(0, 60)]));
        let _in_hand = queue.take_group(busy).await.expect("the batch");
        queue.push(update(59, 60)).expect("room");
        let waits = tokio::spawn({
            let queue = queue.clone();
            async move { queue.take_group(idle).await.map(|group| sizes(&group)) }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        {
            // Its group is done, and it does not look again before the other does.
            let mut inner = queue.lock();
            inner.in_hand[busy as usize].clear();
            queue.wake_others(&inner, busy);
        }
        let taken = tokio::time::timeout(Duration::from_secs(10), waits).await.expect("woken").expect("no panic");
        assert_eq!(taken, Some(vec![60]), "{idle:?} beside {busy:?}");
    }
}

#[test]
fn urgent_operations_go_first_and_leave_a_quarter_of_each_group() {
    let queue = Queue::new(10_000, 1 << 30, MAX_WAIT);
    (0..400).for_each(|i| queue.push(update(i, 1)).expect("room"));
    (0..2_000).for_each(|i| queue.push(beat(i)).expect("room"));
    let group = take(&queue, Side::First);
    let urgent = group.iter().take_while(|pending| pending.operation.is_urgent()).count();
    let rows: usize = group[..urgent].iter().map(|pending| pending.weight.rows).sum();
    let most = queue.lock().pace.max_group_rows();
    assert!((most / 2..=most / 4 * 3).contains(&rows), "{rows} of {most} rows");
    assert!(group[urgent..].iter().all(|pending| !pending.operation.is_urgent()));
    assert!(group.len() > urgent, "the others are not starved");
}

#[test]
fn work_that_would_wait_too_long_is_refused_but_urgent_work_is_not() {
    let queue = Queue::new(1_000_000, 1 << 40, MAX_WAIT);
    (0..100).for_each(|_| queue.note_pace(1_000, Duration::from_millis(25)));
    let accepted = (0..).take_while(|i| queue.push(update(i * 100, 100)).is_ok()).count();
    // 40,000 rows a second, a quarter of a second less the eighth for others; an update of a hundred records has two rows for each.
    assert!((39..=48).contains(&accepted), "{accepted} were accepted");
    let retry_after = queue.overload(Some(NamespaceId(1))).expect("a refusal");
    assert!((MIN_RETRY_AFTER..=MAX_RETRY_AFTER).contains(&retry_after));
    (0..10).for_each(|i| queue.push(beat(i)).expect("room for what keeps work alive"));
    assert!(take(&queue, Side::First)[0].operation.is_urgent());
    // Once enough of it is done, the next are accepted.
    while queue.overload(Some(NamespaceId(1))).is_some() {
        assert!(!take(&queue, Side::First).is_empty());
    }
    queue.push(update(0, 100)).expect("room");
}

#[test]
fn a_large_operation_is_not_passed_over_for_urgent_ones_for_ever() {
    let queue = Queue::new(10_000, 1 << 30, MAX_WAIT);
    queue.push(update(0, 3_000)).expect("room");
    let mut groups = Vec::new();
    for round in 0..3 {
        (0..200).for_each(|i| queue.push(beat(round * 200 + i)).expect("room"));
        groups.push(take(&queue, Side::First));
    }
    let is_large = |group: &Vec<Pending>| group.iter().any(|pending| !pending.operation.is_urgent());
    assert_eq!(groups.iter().map(is_large).collect::<Vec<_>>(), [false, true, false]);
}

/// The same as an update of one record, in another namespace.
fn update_in(namespace: i32, record: usize) -> Pending {
    let key = RecordKey::new(NamespaceId(namespace), "c".into(), record.to_string().into());
    let update = RecordUpdate { key, operations: Vec::new(), expected_version: None, allow_missing: false };
    Pending::new(Box::new(UpdateRecords { updates: vec![update], list: None, request: None }), Actor::Server).0
}

#[test]
fn a_namespace_that_floods_is_refused_before_the_queue_is_full_for_another() {
    let queue = Queue::new(1_000, 1 << 40, MAX_WAIT);
    let flooded = (0..).take_while(|i| queue.push(update_in(1, *i)).is_ok()).count();
    // Of 900 that are not urgent.
    assert_eq!(flooded, 788);
    assert!(queue.overload(Some(NamespaceId(1))).is_some() && queue.overload(Some(NamespaceId(2))).is_none());
    (0..50).for_each(|i| queue.push(update_in(2, i)).expect("room for another namespace"));
    (0..100).for_each(|i| queue.push(beat(i)).expect("what keeps work alive has room of its own"));
    while !take(&queue, Side::First).is_empty() {}
    queue.push(update_in(1, 0)).expect("it was worked off");
    let inner = queue.lock();
    assert_eq!((inner.len(), inner.bytes), (1, 256));
}
