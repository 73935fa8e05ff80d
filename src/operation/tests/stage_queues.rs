//! The place of stages in the line of a resource: when it is taken, woken, idle, and gone.

use std::time::Duration;

use uuid::Uuid;

use super::bench::Bench;
use super::build::{BuildStage, NAMESPACE, key, secs, stage};
use crate::domain::id::StageNo;
use crate::domain::permit::wait_queue::{StageWaiters, StageWakeUp};
use crate::domain::permit::{PermitClaim, PermitOutcome, PermitToken, ResourceKey};
use crate::operation::control_job::Control;
use crate::operation::permits::PermitReply;
use crate::operation::permits::acquire::AcquirePermit;
use crate::operation::permits::release::ReleasePermit;
use crate::operation::permits::wake::{ClearStages, SyncStageHead, WakeResource};

fn lock() -> ResourceKey {
    ResourceKey::of(NAMESPACE, "lock")
}

/// A job of stages that each need the lock.
fn bench(stages: usize) -> Bench {
    let claim = PermitClaim { resource: "lock".into(), amount: 1, mode: None };
    let needs = |i: usize| stage(&format!("s{i}")).spec(|spec| spec.permits = vec![claim.clone()]);
    Bench::with((0..stages).map(needs).collect())
}

/// The permit of a caller; those of stages have low numbers.
fn permit(caller: u128) -> Uuid {
    Uuid::from_u128(1_000 + caller)
}

fn ask(bench: &mut Bench, caller: u128, wait: Duration) -> PermitReply {
    let acquire = AcquirePermit {
        namespace: NAMESPACE,
        id: permit(caller),
        claims: vec![PermitClaim { resource: "lock".into(), amount: 1, mode: None }],
        ttl: secs(600),
        wait,
        holder: "caller".into(),
        priority: 0,
        lease: None,
        request: None,
    };
    bench.run(&acquire).expect("never refused").permit.expect("an answer")
}

fn release(bench: &mut Bench, caller: u128) {
    let token = PermitToken { namespace: NAMESPACE, resource: lock().uid, id: permit(caller) };
    let release = ReleasePermit { namespace: NAMESPACE, token, outcome: PermitOutcome::default(), request: None };
    assert!(bench.run(&release).expect("held").applied);
}

fn place(bench: &Bench) -> Option<StageWaiters> {
    bench.resource(lock()).and_then(|resource| resource.state.stages)
}

fn wake_of(bench: &Bench) -> StageWakeUp {
    place(bench).expect("a place").wake
}

fn due(bench: &mut Bench, is_overdue: bool) -> bool {
    bench.run(&WakeResource { key: lock(), is_overdue }).expect("never refused").applied
}

fn is_leased(bench: &mut Bench, no: StageNo) -> bool {
    bench.poll(no, None).is_some()
}

#[test]
fn waiting_stages_write_nothing_until_there_is_headroom() {
    let mut bench = bench(2);
    ask(&mut bench, 1, Duration::ZERO);
    assert!(!is_leased(&mut bench, 0));
    let version = bench.resource(lock()).expect("there").version;
    assert_eq!(wake_of(&bench), StageWakeUp::None);
    // Another one that waits is no change, nor is the passing of time.
    assert!(!is_leased(&mut bench, 1));
    bench.pass(secs(4));
    assert!(!due(&mut bench, false));
    assert_eq!(bench.resource(lock()).expect("there").version, version);
    release(&mut bench, 1);
    assert_eq!(wake_of(&bench), StageWakeUp::Woken { until: bench.now.after(secs(2)) });
    // No other waiter is served before a worker had time to take one.
    assert!(matches!(ask(&mut bench, 2, Duration::ZERO), PermitReply::Denied(_)));
    assert!(is_leased(&mut bench, 0));
    assert_eq!(wake_of(&bench), StageWakeUp::None, "the next is woken when there is room again");
}

#[test]
fn woken_stages_without_workers_become_idle_and_block_no_waiter() {
    let mut bench = bench(1);
    ask(&mut bench, 1, Duration::ZERO);
    assert!(!is_leased(&mut bench, 0));
    assert_eq!(ask(&mut bench, 2, secs(60)), PermitReply::Waiting);
    release(&mut bench, 1);
    let until = bench.now.after(secs(2));
    assert_eq!(bench.resource(lock()).expect("there").wakes_at(bench.now), Some(until));
    bench.pass(secs(2));
    assert!(due(&mut bench, false));
    assert_eq!(wake_of(&bench), StageWakeUp::Idle);
    assert!(place(&bench).expect("a place").every_queue_until.is_some());
    assert_eq!(bench.resource(lock()).expect("there").held(), 1, "the caller behind has it");
    release(&mut bench, 2);
    assert_eq!(wake_of(&bench), StageWakeUp::Idle, "they can be picked already");
    assert_eq!(bench.resource(lock()).expect("there").wakes_at(bench.now), None, "nothing is to come");
    assert!(matches!(ask(&mut bench, 3, Duration::ZERO), PermitReply::Granted(_)));
    // A worker comes, and it waits again.
    assert!(!is_leased(&mut bench, 0));
    assert_eq!(wake_of(&bench), StageWakeUp::None);
    release(&mut bench, 3);
    assert!(is_leased(&mut bench, 0));
}

#[test]
fn an_entry_without_stages_is_removed() {
    let mut bench = bench(1);
    ask(&mut bench, 1, Duration::ZERO);
    assert!(!is_leased(&mut bench, 0));
    let seen = place(&bench).expect("a place");
    // Where others wait behind it, it is looked at after a while.
    assert_eq!(ask(&mut bench, 2, secs(60)), PermitReply::Waiting);
    bench.pass(secs(30));
    assert_eq!(bench.resource(lock()).expect("there").wakes_at(seen.seen), Some(seen.recheck_at()));
    assert!(due(&mut bench, false));
    assert_eq!(place(&bench).expect("a place"), StageWaiters { seen: bench.now, ..seen });
    let clear = |arrival| ClearStages { key: lock(), arrival };
    assert!(!bench.run(&clear(bench.now)).expect("never refused").applied, "that of another time stays");
    assert!(bench.run(&clear(seen.arrival)).expect("never refused").applied);
    assert_eq!(place(&bench), None);
}

#[test]
fn an_outdated_stored_timer_is_rewritten_once() {
    let mut bench = bench(1);
    ask(&mut bench, 1, Duration::ZERO);
    assert!(!is_leased(&mut bench, 0));
    assert!(due(&mut bench, true), "its timer is stored again");
    bench.pass(secs(700));
    // Now it is due: the holder is late, and somebody waits.
    assert!(due(&mut bench, false));
    assert!(matches!(wake_of(&bench), StageWakeUp::Woken { .. }));
}

#[test]
fn the_entry_of_stages_follows_the_stage_at_the_head() {
    let mut bench = bench(2);
    ask(&mut bench, 1, Duration::ZERO);
    assert!(!is_leased(&mut bench, 0));
    let lead = SyncStageHead { key: lock(), job: key(), stage_no: 1 };
    assert!(!bench.run(&lead).expect("never refused").applied, "it asks for the same");
    bench.control(Control::Update { priority: Some(7), labels: None, context: Vec::new() }).expect("it can be changed");
    assert!(bench.run(&lead).expect("never refused").applied);
    assert_eq!(place(&bench).expect("a place").priority, 7);
    bench.pause().expect("it can be paused");
    assert!(!bench.run(&lead).expect("never refused").applied, "it is no longer there");
}
