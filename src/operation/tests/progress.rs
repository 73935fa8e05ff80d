//! Progress of stages and of the job.

use super::bench::Bench;
use super::build::{BuildStage, key, secs, stage};
use crate::domain::failure::FailureClass::Network;
use crate::domain::job::JobState;
use crate::operation::heartbeat::{Note, NoteProgress};

#[test]
fn lower_or_equal_progress_without_a_new_message_is_no_change() {
    let mut bench = Bench::with(vec![stage("a")]);
    let token = bench.lease("a");
    let table = [
        (Some(0.5), None, true, 0.5, None),
        (Some(0.5), None, false, 0.5, None),
        (Some(0.25), None, false, 0.5, None),
        (None, None, false, 0.5, None),
        (None, Some("x"), true, 0.5, Some("x")),
        (Some(0.25), Some("x"), false, 0.5, Some("x")),
        (Some(0.25), Some("y"), true, 0.5, Some("y")),
        (Some(0.75), None, true, 0.75, Some("y")),
    ];
    for (progress, message, applied, is, says) in table {
        let reply = bench.progress(token, progress, message).expect("running");
        let stage = bench.stage("a");
        assert_eq!(reply.applied, applied, "{progress:?} {message:?}");
        assert_eq!((stage.progress, stage.message.as_deref()), (is, says));
    }
}

#[test]
fn job_progress_is_the_weighted_mean_of_its_stages() {
    let mut bench = Bench::with(vec![stage("a").weighs(3.0), stage("b"), stage("free").weighs(0.0)]);
    let (a, free) = (bench.lease("a"), bench.lease("free"));
    bench.progress(a, Some(0.5), None).expect("noted");
    assert_eq!(bench.job().progress, 0.375);
    bench.progress(free, Some(0.5), None).expect("noted");
    bench.complete(free).expect("done");
    assert_eq!(bench.job().progress, 0.375);
    bench.complete(a).expect("done");
    assert_eq!(bench.job().progress, 0.75);
    bench.finish("b");
    assert_eq!(bench.job().progress, 1.0);
}

#[test]
fn progress_without_weights_is_zero_until_the_job_succeeds() {
    let mut bench = Bench::with(vec![stage("a").weighs(0.0), stage("b").weighs(0.0)]);
    bench.finish("a");
    assert_eq!(bench.job().progress, 0.0);
    bench.finish("b");
    assert_eq!((bench.state(), bench.job().progress), (JobState::Succeeded, 1.0));
}

#[test]
fn terminal_stages_count_as_done() {
    let mut bench =
        Bench::with(vec![stage("a").or_continue(), stage("b").after(&["a"]).or_continue(), stage("c"), stage("d")]);
    bench.spoil("a");
    assert_eq!(bench.job().progress, 0.5, "one failed, one skipped");
}

#[test]
fn job_progress_never_decreases_within_a_run() {
    let mut bench = Bench::with(vec![stage("a"), stage("b")]);
    let token = bench.lease("a");
    bench.progress(token, Some(0.75), None).expect("noted");
    assert_eq!(bench.job().progress, 0.375);
    // A new attempt begins at 0, a new stage makes the job longer: neither sets it back.
    bench.fail(token, Network).expect("recorded");
    bench.pass(secs(1));
    bench.wake(Some("a"));
    let token = bench.lease("a");
    assert_eq!((bench.stage("a").progress, bench.job().progress), (0.0, 0.375));
    bench.add(token, vec![stage("c"), stage("d")]).expect("added");
    assert_eq!(bench.job().progress, 0.375);
    bench.complete(token).expect("done");
    assert_eq!(bench.job().progress, 0.375, "a quarter is less than what was said before");
    bench.finish("b");
    assert_eq!(bench.job().progress, 0.5);
}

#[test]
fn a_cancelled_job_keeps_its_last_progress() {
    let mut bench = Bench::with(vec![stage("a"), stage("b"), stage("c"), stage("d")]);
    bench.finish("a");
    bench.lease("b");
    bench.cancel(secs(0)).expect("cancelled");
    assert_eq!((bench.state(), bench.job().progress), (JobState::Cancelled, 0.25));
}

#[test]
fn a_heartbeat_carries_progress() {
    let mut bench = Bench::with(vec![stage("a")]);
    let token = bench.lease("a");
    let mut heartbeat = |progress| {
        let notes = vec![Note { token, progress: Some(progress), message: None }];
        bench.run(&NoteProgress { key: key(), notes }).expect("alive").applied
    };
    assert_eq!((heartbeat(0.5), heartbeat(0.5), heartbeat(0.25), heartbeat(0.75)), (true, false, false, true));
}
