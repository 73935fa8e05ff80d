//! The states of a job from its submission to its deletion: start, pause, delay, timeout, retention.

use super::bench::{Bench, is_transition};
use super::build::{BuildStage, job, secs, stage};
use crate::domain::failure::FailureClass::{ClientError, Network, Timeout};
use crate::domain::job::{DEFAULT_RETENTION, JobState, JobTx};
use crate::domain::refusal::Refusal;
use crate::domain::stage::StagePhase::*;
use crate::domain::time::Timestamp;
use crate::operation::control_job::Control;

#[test]
fn a_job_is_pending_until_its_first_stage_starts() {
    let mut bench = Bench::with(vec![stage("a"), stage("b").after(&["a"])]);
    assert_eq!(
        (bench.state(), bench.phases(), bench.job().start_time),
        (JobState::Pending, vec![Ready, Blocked], None)
    );
    bench.pass(secs(5));
    let token = bench.lease("a");
    assert_eq!((bench.state(), bench.job().start_time), (JobState::Running, Some(bench.now)));
    bench.release(token).expect("given back");
    assert_eq!(bench.state(), JobState::Running, "there is no way back to PENDING");
}

#[test]
fn a_paused_job_leases_nothing_and_lets_holders_finish() {
    let mut bench = Bench::with(vec![stage("a"), stage("b").after(&["a"]), stage("c")]);
    let token = bench.lease("a");
    bench.pause().expect("paused");
    assert!(!bench.pause().expect("a repeat").applied);
    assert_eq!(bench.poll(2, None), None);
    assert!(is_transition(&bench.start("c", None)));
    assert!(is_transition(&bench.complete("c")), "a write by name would start it");
    bench.heartbeat(token).expect("the pause is advice");
    bench.progress(token, Some(0.5), None).expect("noted");
    bench.complete(token).expect("recorded");
    assert_eq!((bench.phase("b"), bench.state()), (Ready, JobState::Paused { timeout_left: None }));
    assert_eq!(bench.poll(1, None), None);
    bench.resume().expect("resumed");
    assert_eq!(bench.state(), JobState::Running);
    assert!(!bench.resume().expect("a repeat").applied);
    assert!(bench.poll(1, None).is_some());
}

#[test]
fn resume_goes_back_to_pending_if_nothing_had_started() {
    let mut bench = Bench::with(vec![stage("a")]);
    bench.pause().expect("paused");
    bench.resume().expect("resumed");
    assert_eq!(bench.state(), JobState::Pending);
}

#[test]
fn a_pause_stops_the_job_timeout_and_not_the_timers_of_stages() {
    let mut film = job(vec![stage("a"), stage("b").spec(|spec| spec.timeout = Some(secs(10)))]);
    film.meta.timeout = Some(secs(60));
    let mut bench = Bench::of(film);
    let token = bench.lease("a");
    bench.fail(token, Network).expect("recorded");
    bench.lease("b");
    bench.pass(secs(5));
    for of_b in [Backoff, Ready] {
        bench.pause().expect("paused");
        bench.pass(secs(3_600));
        bench.wake(Some("a"));
        bench.wake(Some("b"));
        assert_eq!((bench.phases(), bench.job().wakes_at()), (vec![Ready, of_b], None));
        assert!(!bench.wake(None), "nothing is due");
        bench.resume().expect("resumed");
        assert_eq!(bench.job().wakes_at(), Some(bench.now.after(secs(55))), "what was left");
    }
    bench.pass(secs(54));
    assert!(!bench.wake(None));
    bench.pass(secs(1));
    assert!(bench.wake(None));
    assert_eq!(bench.state(), JobState::Failed);
}

#[test]
fn a_pause_before_the_start_time_uses_no_timeout() {
    for (paused_for, starts_in) in [(10, 50), (100, 0)] {
        let mut film = job(vec![stage("a")]);
        film.meta.delayed_until = Some(Bench::empty().now.after(secs(60)));
        film.meta.timeout = Some(secs(30));
        let mut bench = Bench::of(film);
        bench.pause().expect("paused");
        assert_eq!(bench.job().wakes_at(), Some(bench.now.after(secs(60))), "the start time stays");
        bench.pass(secs(paused_for));
        bench.wake(None);
        bench.resume().expect("resumed");
        bench.pass(secs(starts_in));
        bench.wake(None);
        assert_eq!((bench.phase("a"), bench.job().wakes_at()), (Ready, Some(bench.now.after(secs(30)))));
    }
}

#[test]
fn a_new_run_has_its_whole_timeout_though_the_last_one_ended_paused() {
    let mut film = job(vec![stage("a")]);
    film.meta.timeout = Some(secs(60));
    let mut bench = Bench::of(film);
    bench.pass(secs(50));
    bench.pause().expect("paused");
    bench.cancel(secs(0)).expect("cancelled");
    bench.retry(None).expect("another run");
    assert_eq!(bench.job().wakes_at(), Some(bench.now.after(secs(60))));
}

#[test]
fn a_paused_job_ends_with_its_last_stage() {
    for spoil in [false, true] {
        let mut bench = Bench::with(vec![stage("a")]);
        let token = bench.lease("a");
        bench.pause().expect("paused");
        if spoil { bench.fail(token, ClientError) } else { bench.complete(token) }.expect("recorded");
        assert_eq!(bench.state(), if spoil { JobState::Failed } else { JobState::Succeeded });
        assert!(is_transition(&bench.pause()) && is_transition(&bench.resume()));
    }
}

#[test]
fn delayed_roots_are_blocked_until_the_start_time() {
    let mut film = job(vec![stage("a"), stage("b").after(&["a"]), stage("direct").direct()]);
    film.meta.delayed_until = Some(Bench::empty().now.after(secs(60)));
    film.meta.timeout = Some(secs(10));
    let mut bench = Bench::of(film);
    assert_eq!(bench.phases(), [Blocked, Blocked, Blocked]);
    assert!(bench.poll(0, None).is_none());
    assert!(is_transition(&bench.start("a", None)) && is_transition(&bench.complete("direct")));
    assert_eq!(bench.job().wakes_at(), Some(bench.now.after(secs(60))));
    bench.pass(secs(59));
    assert!(!bench.wake(None));
    bench.pass(secs(1));
    assert!(bench.wake(None));
    assert_eq!((bench.phases(), bench.state()), (vec![Ready, Blocked, Ready], JobState::Pending));
    bench.pass(secs(9));
    assert!(!bench.wake(None), "the timeout counts from the start time");
    bench.pass(secs(1));
    assert!(bench.wake(None));
    assert_eq!(bench.state(), JobState::Failed);
}

#[test]
fn a_start_time_in_the_past_starts_at_once() {
    let mut film = job(vec![stage("a")]);
    film.meta.delayed_until = Some(Bench::empty().now);
    assert_eq!(Bench::of(film).phases(), [Ready]);
}

#[test]
fn a_new_run_before_the_start_time_waits_for_it_too() {
    let mut film = job(vec![stage("a")]);
    film.meta.delayed_until = Some(Bench::empty().now.after(secs(60)));
    film.meta.timeout = Some(secs(10));
    let mut bench = Bench::of(film);
    bench.cancel(secs(0)).expect("cancelled");
    bench.pass(secs(30));
    bench.retry(None).expect("another run");
    assert_eq!(bench.phases(), [Blocked]);
    bench.pass(secs(30));
    assert!(bench.wake(None));
    assert_eq!((bench.phases(), bench.state()), (vec![Ready], JobState::Pending));
}

#[test]
fn the_jobs_timeout_fails_it_with_the_grace() {
    let mut film = job(vec![stage("a"), stage("b").after(&["a"])]);
    film.meta.timeout = Some(secs(60));
    let mut bench = Bench::of(film);
    let token = bench.lease("a");
    bench.pass(secs(60));
    assert!(bench.wake(None));
    assert_eq!(bench.state(), JobState::Failing { deadline: bench.now.after(secs(30)) });
    assert_eq!(bench.job().failure.as_ref().expect("why").report.class, Timeout);
    assert_eq!(bench.phases(), [Running, Skipped]);
    bench.complete(token).expect("recorded");
    assert_eq!(bench.state(), JobState::Failed);
}

#[test]
fn retention_counts_from_the_end() {
    for retention in [secs(0), secs(3_600), DEFAULT_RETENTION] {
        let mut film = job(vec![stage("a")]);
        film.meta.retention = retention;
        let mut bench = Bench::of(film);
        bench.pass(secs(1_000));
        bench.finish("a");
        assert_eq!(bench.job().expire_time, Some(bench.now.after(retention)));
        if !retention.is_zero() {
            bench.pass(retention - secs(1));
            assert!(!bench.wake(None));
            bench.pass(secs(1));
        }
        assert!(bench.wake(None));
        assert!(bench.find().is_none());
        assert!(!bench.wake_absent());
    }
}

#[test]
fn only_an_ended_job_can_be_deleted() {
    let mut bench = Bench::with(vec![stage("a")]);
    assert!(is_transition(&bench.delete()));
    let token = bench.lease("a");
    assert!(is_transition(&bench.delete()));
    bench.complete(token).expect("completed");
    bench.delete().expect("deleted");
    assert_eq!(bench.delete().expect_err("gone"), Refusal::JobNotFound { job_id: "film".into() });
    assert_eq!(bench.complete(token).expect_err("gone"), Refusal::LeaseLost, "never NOT_FOUND");
    assert!(matches!(bench.complete("a"), Err(Refusal::JobNotFound { .. })));
}

#[test]
fn a_reused_job_id_continues_its_fencing_tokens() {
    let mut bench = Bench::with(vec![stage("a"), stage("b")]);
    for _ in 0..3 {
        let token = bench.lease("b");
        bench.release(token).expect("given back");
    }
    bench.cancel(secs(0)).expect("cancelled");
    bench.delete().expect("deleted");
    assert_eq!(bench.submit(job(vec![stage("a")])).expect("submitted").jobs[0].revision, 1);
    let token = bench.lease("a");
    assert_eq!(token.fencing_token, 4);
    // A stage that comes later may have had a predecessor of its name as well.
    bench.add(token, vec![stage("b")]).expect("added");
    assert!(bench.lease("b").fencing_token > 3);
    assert!(matches!(bench.submit(job(vec![stage("a")])), Err(Refusal::JobAlreadyExists { .. })));
}

#[test]
fn an_update_with_equal_values_changes_nothing() {
    let mut bench = Bench::with(vec![stage("a")]);
    let update = |priority| Control::Update { labels: Some(std::sync::Arc::default()), priority, context: Vec::new() };
    assert!(!bench.control(update(Some(0))).expect("the same").applied);
    assert!(bench.control(update(Some(7))).expect("another").applied);
    assert!(!bench.control(update(None)).expect("the same").applied);
    assert_eq!((bench.job().priority, bench.job().revision), (7, 2));
}

#[test]
fn times_of_a_job_are_never_before_its_creation() {
    let job = Bench::with(vec![stage("a")]).job();
    let created = job.meta.create_time;
    for (now, expected) in
        [(created.0 - 5_000, created), (created.0, created), (created.0 + 5, Timestamp(created.0 + 5))]
    {
        let mut edit = JobTx::begin(job.clone(), Timestamp(now));
        edit.pause().expect("paused");
        let (_, changes) = edit.finish().expect("a change");
        assert_eq!(changes.events[0].event_time, expected);
    }
}
