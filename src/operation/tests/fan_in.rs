//! Stages that come later: AddStages, `required_by`, and how they are wired.

use super::bench::{Bench, is_transition};
use super::build::{BuildStage, job, stage};
use crate::domain::event::EventKind;
use crate::domain::failure::FailureClass::Network;
use crate::domain::job::JobState;
use crate::domain::refusal::Refusal;
use crate::domain::stage::StagePhase::*;

fn field(outcome: super::bench::Outcome) -> String {
    match outcome {
        Err(Refusal::InvalidField { path, .. }) => path,
        other => panic!("{other:?}"),
    }
}

#[test]
fn required_by_makes_a_blocked_stage_wait_for_the_new_one_too() {
    let mut bench = Bench::with(vec![stage("split"), stage("join").after(&["split"])]);
    let token = bench.lease("split");
    let parts = vec![stage("p1").before(&["join"]), stage("p2").after(&["p1"]).before(&["join"])];
    let reply = bench.complete_adding(token, parts).expect("completed");
    assert_eq!(reply.jobs[0].revision, 3, "one revision for the completion and what it adds");
    assert_eq!(bench.phases(), [Succeeded, Blocked, Ready, Blocked], "join does not become ready in between");
    bench.finish("p1");
    assert_eq!(bench.phases(), [Succeeded, Blocked, Succeeded, Ready]);
    bench.finish("p2");
    assert_eq!(bench.phase("join"), Ready);
    bench.finish("join");
    assert_eq!(bench.state(), JobState::Succeeded);
}

#[test]
fn a_completion_that_adds_stages_is_one_completion_event() {
    let mut bench = Bench::with(vec![stage("a")]);
    let token = bench.lease("a");
    bench.complete_adding(token, vec![stage("b")]).expect("completed");
    let last = bench.events.last().expect("history");
    assert_eq!((last.kind, last.worker_id.as_deref()), (EventKind::StageCompleted, Some("worker")));
}

#[test]
fn add_stages_leaves_the_running_stage_running() {
    let mut bench = Bench::with(vec![stage("split"), stage("join").after(&["split"])]);
    let token = bench.lease("split");
    let reply = bench.add(token, vec![stage("p1"), stage("p2").after(&["split"])]).expect("added");
    assert_eq!(reply.stages, [2, 3]);
    assert_eq!(bench.phases(), [Running, Blocked, Ready, Blocked]);
}

#[test]
fn a_stage_can_be_required_within_its_own_batch() {
    let bench = Bench::with(vec![stage("a").before(&["b"]), stage("b")]);
    assert_eq!(bench.phases(), [Ready, Blocked]);
}

#[test]
fn only_a_blocked_stage_can_be_required_by() {
    let mut bench = Bench::with(vec![stage("a"), stage("ready"), stage("done")]);
    let token = bench.lease("a");
    bench.finish("done");
    for name in ["a", "ready", "done"] {
        let outcome = bench.add(token, vec![stage("new").before(&[name])]);
        assert!(is_transition(&outcome), "{name} does not wait any more");
    }
}

#[test]
fn unknown_names_cycles_and_names_that_are_taken_are_refused() {
    let mut bench = Bench::with(vec![stage("a"), stage("b").after(&["a"]), stage("c").after(&["b"])]);
    let token = bench.lease("a");
    assert_eq!(field(bench.add(token, vec![stage("x").after(&["y"])])), "stages[0].depends_on[0]");
    assert_eq!(field(bench.add(token, vec![stage("x").before(&["y"])])), "stages[0].required_by[0]");
    assert_eq!(field(bench.add(token, vec![stage("x"), stage("x")])), "stages[1].name");
    assert_eq!(field(bench.add(token, vec![stage("x").after(&["x"])])), "stages[0].depends_on");
    assert_eq!(field(bench.add(token, vec![stage("x").after(&["c"]).before(&["b"])])), "stages[0].depends_on");
    let taken = bench.add(token, vec![stage("b")]).expect_err("the name is taken");
    assert_eq!(taken, Refusal::StageAlreadyExists { stage_name: "b".into() });
    let empty = &mut Bench::empty();
    assert_eq!(
        field(empty.submit(job(vec![stage("a").after(&["b"]), stage("b").after(&["a"])]))),
        "stages[0].depends_on"
    );
    assert!(empty.find().is_none());
}

#[test]
fn a_new_stage_that_can_never_run_is_skipped_at_once() {
    let mut bench =
        Bench::with(vec![stage("bad").or_continue(), stage("a"), stage("join").after(&["a"]).when_finished()]);
    bench.spoil("bad");
    let token = bench.lease("a");
    let hopeless = stage("h").after(&["bad"]).or_continue();
    let behind = stage("i").after(&["h"]).before(&["join"]).or_continue();
    bench.add(token, vec![behind, hopeless, stage("w").after(&["bad"]).when_finished()]).expect("added");
    assert_eq!(bench.phases(), [Failed, Running, Blocked, Skipped, Skipped, Ready]);
    bench.complete(token).expect("done");
    assert_eq!(bench.phase("join"), Ready);
}

#[test]
fn a_new_stage_that_can_never_run_fails_the_job_if_it_matters() {
    let mut bench = Bench::with(vec![stage("bad").or_continue(), stage("a"), stage("b").after(&["a"])]);
    bench.spoil("bad");
    let token = bench.lease("a");
    bench.complete_adding(token, vec![stage("h").after(&["bad"])]).expect("recorded");
    assert_eq!(bench.phases(), [Failed, Succeeded, Skipped, Skipped]);
    assert_eq!(bench.state(), JobState::Failed);
}

#[test]
fn a_job_that_has_ended_or_fails_takes_no_stages() {
    let mut bench = Bench::with(vec![stage("a"), stage("bad")]);
    let token = bench.lease("a");
    bench.spoil("bad");
    assert!(is_transition(&bench.add(token, vec![stage("new")])));
    bench.fail(token, Network).expect("recorded");
    assert!(is_transition(&bench.add(token, vec![stage("new")])));
    assert_eq!(bench.job().stages.len(), 2);
}
