//! Which operations each lane takes, and which the queue refuses.

use uuid::Uuid;

use super::section::{MAX_RETRY_AFTER, MIN_OVERLAPPING_OPERATIONS, MIN_RETRY_AFTER};
use super::*;
use crate::domain::audit::Actor;
use crate::domain::field_op::{FieldChange, FieldOp};
use crate::domain::id::{JobKey, LeaseToken, NamespaceId};
use crate::domain::job::StageCredential;
use crate::domain::json::Document;
use crate::domain::record::RecordKey;
use crate::operation::end_stage::{End, EndStage};
use crate::operation::heartbeat::RenewLeases;
use crate::operation::target::StageTarget;
use crate::operation::update_records::{RecordUpdate, UpdateRecords};

const FIRST: LaneId = LaneId::ALL[0];
const SECOND: LaneId = LaneId::ALL[1];
const THIRD: LaneId = LaneId::ALL[2];

/// An update of `count` records from `first` on; fifty or more are a batch.
fn update(first: usize, count: usize) -> Pending {
    let key = |i: usize| RecordKey::new(NamespaceId(1), "c".into(), i.to_string().into());
    let one = |i| RecordUpdate { key: key(i), operations: Vec::new(), expected_version: None, allow_missing: false };
    let updates = (first..first + count).map(one).collect();
    Pending::new(Box::new(UpdateRecords { updates, list: None, request: None }), Actor::Server).0
}

/// The end of an attempt of a job of its own, which is urgent and has six rows.
fn urgent(job: u128) -> Pending {
    let token = LeaseToken { job_uid: Uuid::from_u128(job), stage_no: 0, fencing_token: 1, secret: Uuid::nil() };
    let key = JobKey { namespace: NamespaceId(1), uid: token.job_uid };
    let target = StageTarget { key, job_id: "".into(), credential: StageCredential::Token(token) };
    let end = EndStage { target, end: End::Release, digest: Uuid::nil(), expected_version: None, request: None };
    Pending::new(Box::new(end), Actor::Server).0
}

/// A heartbeat for a job of its own.
fn renewal(job: u128) -> Pending {
    let token = LeaseToken { job_uid: Uuid::from_u128(job), stage_no: 0, fencing_token: 1, secret: Uuid::nil() };
    Pending::new(Box::new(RenewLeases { namespace: NamespaceId(1), tokens: vec![token] }), Actor::Server).0
}

fn queue(updates: &[(usize, usize)]) -> Queue {
    let queue = Queue::new(1_000, 1 << 20);
    updates.iter().for_each(|(first, count)| queue.push(update(*first, *count)).expect("room"));
    queue
}

/// How many keys each operation of a group has.
fn sizes(group: &[Pending]) -> Vec<usize> {
    group.iter().map(|pending| pending.keys.len()).collect()
}

#[test]
fn second_lane_takes_batches_and_leaves_the_rest() {
    let queue = queue(&[(0, 1), (100, 60), (1, 2), (200, 70)]);
    assert_eq!(sizes(&queue.take(SECOND)), [60, 70]);
    assert_eq!(sizes(&queue.take(FIRST)), [1, 2]);
    assert!(queue.take(SECOND).is_empty());
    let inner = queue.section(LaneKind::Main).lock();
    assert_eq!((inner.len(), inner.rows(), inner.batches(), inner.bytes), (0, 0, 0, 0));
}

#[test]
fn lane_leaves_operations_on_roots_of_another_lane() {
    let queue = queue(&[(0, 60)]);
    let first = queue.take(FIRST);
    for (first, count) in [(59, 61), (119, 62), (300, 63)] {
        queue.push(update(first, count)).expect("room");
    }
    // No lane works on the second, but the first of these, which is passed over, shares a record with it.
    assert_eq!((sizes(&first), sizes(&queue.take(SECOND))), (vec![60], vec![63]));
    queue.push(update(310, 1)).expect("room");
    // The first lane has done with its group; the last operation waits for the second lane.
    assert_eq!(sizes(&queue.take(FIRST)), [61, 62]);
    assert!(queue.take(SECOND).is_empty());
    assert_eq!(sizes(&queue.take(FIRST)), [1]);
}

#[test]
fn each_lane_has_busy_roots_of_its_own() {
    let queue = queue(&[(0, 60)]);
    assert_eq!(sizes(&queue.take(SECOND)), [60]);
    queue.push(update(100, 61)).expect("room");
    assert_eq!(sizes(&queue.take(THIRD)), [61]);
    for (first, count) in [(50, 62), (160, 63), (300, 1), (400, 64)] {
        queue.push(update(first, count)).expect("room");
    }
    assert_eq!(sizes(&queue.take(FIRST)), [1, 64]);
    // The third lane has done with its group; the other batch still waits for the second.
    assert_eq!(sizes(&queue.take(THIRD)), [63]);
    assert_eq!(sizes(&queue.take(SECOND)), [62]);
}

#[tokio::test]
async fn lanes_that_wait_for_another_lane_are_woken_and_drained() {
    let queue = Arc::new(queue(&[(0, 60)]));
    let _in_hand = queue.take_group(SECOND).await.expect("the batch");
    queue.push(update(5, 1)).expect("room");
    queue.push(update(6, 60)).expect("room");
    let waits = [FIRST, THIRD].map(|side| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.take_group(side).await.map(|group| sizes(&group)) })
    });
    tokio::task::yield_now().await;
    assert!(waits.iter().all(|waits| !waits.is_finished()));
    queue.close(LaneKind::Main);
    // Both are still taken once the second lane has done with the records: the batch by itself.
    let mut taken = vec![queue.take_group(SECOND).await.map(|group| sizes(&group))];
    for waits in waits {
        taken.push(tokio::time::timeout(Duration::from_secs(10), waits).await.expect("woken").expect("no panic"));
    }
    assert_eq!(taken, [Some(vec![60]), Some(vec![1]), None]);
    assert!(queue.take_group(FIRST).await.is_none());
}

#[tokio::test]
async fn each_lane_is_woken_by_each_other_lane() {
    for (busy, idle) in [(FIRST, THIRD), (SECOND, THIRD), (THIRD, SECOND)] {
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
            // The busy lane has done with its group, and does not take another before the idle one does.
            let section = queue.section(LaneKind::Main);
            let mut inner = section.lock();
            inner.busy_roots[busy.place].clear();
            section.wake_others(&inner, busy);
        }
        let taken = tokio::time::timeout(Duration::from_secs(10), waits).await.expect("woken").expect("no panic");
        assert_eq!(taken, Some(vec![60]), "{idle:?} beside {busy:?}");
    }
}

#[test]
fn urgent_operations_go_first_and_leave_a_quarter_of_each_group() {
    let queue = Queue::new(10_000, 1 << 30);
    (0..400).for_each(|i| queue.push(update(i, 1)).expect("room"));
    (0..2_000).for_each(|i| queue.push(urgent(i)).expect("room"));
    let group = queue.take(FIRST);
    let urgent = group.iter().take_while(|pending| pending.operation.is_urgent()).count();
    let rows: usize = group[..urgent].iter().map(|pending| pending.weight.rows).sum();
    let most = queue.section(LaneKind::Main).lock().pace.max_group_rows();
    assert!((most / 2..=most / 4 * 3).contains(&rows), "{rows} of {most} rows");
    assert!(group[urgent..].iter().all(|pending| !pending.operation.is_urgent()));
    assert!(group.len() > urgent, "the others are not starved");
}

#[test]
fn usual_work_that_would_wait_too_long_is_refused_and_urgent_work_is_not() {
    let queue = Queue::new(1_000_000, 1 << 40);
    (0..100).for_each(|_| queue.note_pace(LaneKind::Main, 1_000, Duration::from_millis(25)));
    let accepted = (0..).take_while(|i| queue.push(update(i * 100, 100)).is_ok()).count();
    // 40,000 rows a second, a quarter of a second less the eighth for others; an update of a hundred records has two rows for each.
    assert!((39..=48).contains(&accepted), "{accepted} were accepted");
    let retry_after = queue.overload(Some(NamespaceId(1))).expect("a refusal");
    assert!((MIN_RETRY_AFTER..=MAX_RETRY_AFTER).contains(&retry_after));
    (0..10).for_each(|i| queue.push(urgent(i)).expect("room for what keeps work alive"));
    assert!(queue.take(FIRST)[0].operation.is_urgent());
    // Once enough of it is done, the next are accepted.
    while queue.overload(Some(NamespaceId(1))).is_some() {
        assert!(!queue.take(FIRST).is_empty());
    }
    queue.push(update(0, 100)).expect("room");
}

#[test]
fn large_operation_goes_before_urgent_ones_after_it_was_passed_over_once() {
    let queue = Queue::new(10_000, 1 << 30);
    queue.push(update(0, 1_000)).expect("room");
    let mut groups = Vec::new();
    for round in 0..3 {
        (0..200).for_each(|i| queue.push(urgent(round * 200 + i)).expect("room"));
        groups.push(queue.take(FIRST));
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
fn flooding_namespace_is_refused_before_the_queue_is_full_for_another() {
    let queue = Queue::new(1_000, 1 << 40);
    let flooded = (0..).take_while(|i| queue.push(update_in(1, *i)).is_ok()).count();
    // Of 900 that are not urgent.
    assert_eq!(flooded, 788);
    assert!(queue.overload(Some(NamespaceId(1))).is_some() && queue.overload(Some(NamespaceId(2))).is_none());
    (0..50).for_each(|i| queue.push(update_in(2, i)).expect("room for another namespace"));
    (0..100).for_each(|i| queue.push(urgent(i)).expect("what keeps work alive has room of its own"));
    while !queue.take(FIRST).is_empty() {}
    queue.push(update_in(1, 0)).expect("it was worked off");
    let inner = queue.section(LaneKind::Main).lock();
    assert_eq!((inner.len(), inner.bytes), (1, 256));
}

/// A record with a value of some bytes.
fn large(record: usize, bytes: usize) -> Pending {
    let key = RecordKey::new(NamespaceId(1), "c".into(), record.to_string().into());
    let value = Document::from_checked(format!("\"{}\"", "x".repeat(bytes))).into();
    let set = FieldOp { field: "f".into(), change: FieldChange::Set(value), expected_version: None };
    let update = RecordUpdate { key, operations: vec![set], expected_version: None, allow_missing: true };
    Pending::new(Box::new(UpdateRecords { updates: vec![update], list: None, request: None }), Actor::Server).0
}

#[tokio::test]
async fn second_lane_takes_any_operation_once_many_wait() {
    let queue = Arc::new(Queue::new(1_000, 64 << 20));
    let second = tokio::spawn({
        let queue = queue.clone();
        async move { queue.take_group(SECOND).await.map(|group| group.len()) }
    });
    (1..MIN_OVERLAPPING_OPERATIONS).for_each(|i| queue.push(update(i, 1)).expect("room"));
    tokio::task::yield_now().await;
    assert!(!second.is_finished() && queue.take(SECOND).is_empty() && queue.take(THIRD).is_empty());
    queue.push(update(0, 1)).expect("room");
    let taken = tokio::time::timeout(Duration::from_secs(10), second).await.expect("woken").expect("no panic");
    assert_eq!(taken, Some(MIN_OVERLAPPING_OPERATIONS), "of small operations");
    // Also when another lane has done with the roots that they waited for.
    (0..MIN_OVERLAPPING_OPERATIONS).for_each(|i| queue.push(update(i, 1)).expect("room"));
    assert!(queue.take(FIRST).is_empty() && queue.take(THIRD).is_empty());
    assert_eq!(queue.take(SECOND).len(), MIN_OVERLAPPING_OPERATIONS);
}

#[test]
fn second_lane_takes_operations_of_many_rows_once_a_few_wait() {
    let queue = Queue::new(1_000, 64 << 20);
    // Of 50 rows each, which is no batch.
    (0..7).for_each(|i| queue.push(update(i * 25, 25)).expect("room"));
    assert!(queue.take(SECOND).is_empty());
    queue.push(update(7 * 25, 25)).expect("room");
    assert!(queue.take(THIRD).is_empty());
    assert_eq!(queue.take(SECOND).len(), 8);
}

#[test]
fn server_with_one_core_has_one_lane_of_each_kind() {
    let of = |kind: LaneKind, cores: usize| {
        LaneId::ALL.into_iter().filter(|lane| lane.kind == kind && lane.runs_on(cores)).count()
    };
    assert!(LaneKind::ALL.into_iter().all(|kind| of(kind, 1) == 1));
    assert_eq!(LaneKind::ALL.into_iter().map(|kind| of(kind, 2)).sum::<usize>(), LaneId::ALL.len());
}

#[test]
fn large_operations_are_divided_among_two_lanes() {
    let queue = Queue::new(1_000, 64 << 20);
    (0..8).for_each(|i| queue.push(large(i, 2 << 20)).expect("room"));
    let lanes = LaneId::ALL.into_iter().filter(|lane| lane.kind == LaneKind::Bulk);
    let taken: Vec<usize> = lanes.map(|lane| queue.take(lane).len()).collect();
    assert!(taken.len() == 2 && taken.iter().all(|count| *count > 0), "{taken:?}");
}

#[test]
fn operations_wait_for_the_kind_of_lane_that_they_belong_to() {
    let queue = Queue::new(1_000, 64 << 20);
    for pending in [update(0, 1), update(0, 2_000), large(1, 2 << 20), renewal(1), urgent(1)] {
        queue.push(pending).expect("room");
    }
    assert_eq!(LaneKind::ALL.map(|kind| queue.len(kind)), [2, 2, 0, 1]);
    let large = queue.take(LaneId { kind: LaneKind::Bulk, place: 0 }).remove(0);
    queue.requeue(LaneKind::Locking, large);
    assert_eq!(LaneKind::ALL.map(|kind| queue.len(kind)), [2, 1, 1, 1]);
    queue.close(LaneKind::Main);
    let refused = queue.push_all(vec![update(0, 1), renewal(2)]);
    assert!(matches!(&refused[..], [Some(Error::Draining), None]), "other kinds are still open");
}

#[test]
fn bytes_of_all_kinds_have_one_bound_and_large_operations_leave_room_for_small_ones() {
    let most = 64 << 20;
    let queue = Queue::new(1_000, most);
    let bulk = (0..).take_while(|i| queue.push(large(*i, 2 << 20)).is_ok()).count();
    assert!((18..=22).contains(&bulk), "{bulk} operations of 2 MiB");
    let small = (0..).take_while(|i| queue.push(large(100 + i, 512 << 10)).is_ok()).count();
    let bytes = queue.bytes.waiting();
    assert!(small > 10 && bytes <= most - most / 10, "{small} operations, {bytes} bytes");
    queue.push(renewal(1)).expect("the last tenth is for urgent operations");
    // An operation leaves the bound when a lane takes it, and counts again while it waits for another lane.
    let bulk = queue.take(LaneId { kind: LaneKind::Bulk, place: 0 });
    let taken: usize = bulk.iter().map(|pending| pending.weight.bytes).sum();
    let left = queue.bytes.waiting();
    bulk.into_iter().for_each(|pending| queue.requeue(LaneKind::Locking, pending));
    assert_eq!(queue.bytes.waiting(), left + taken);
    for lane in LaneId::ALL {
        while !queue.take(lane).is_empty() {}
    }
    assert_eq!(queue.bytes.waiting(), 0);
}
