//! A stage that runs again plans again: the stages that it added belong to it.

use super::bench::{Bench, is_transition};
use super::build::{BuildStage, secs, stage};
use crate::domain::failure::FailureClass::{ClientError, Network};
use crate::domain::id::LeaseToken;
use crate::domain::job::{JobState, StageCredential};
use crate::domain::json::Document;
use crate::domain::refusal::Refusal;
use crate::domain::stage::StagePhase::*;
use crate::domain::stage::{NewStage, StagePhase};

fn with_input(stage: NewStage, input: &str) -> NewStage {
    NewStage { input: Some(Document::from_checked(input)), ..stage }
}

/// A part of the plan, which `join` waits for.
fn part(name: &str) -> NewStage {
    stage(name).before(&["join"])
}

/// `plan` runs and has added these; `join` waits for it.
fn planning(parts: Vec<NewStage>) -> (Bench, LeaseToken) {
    let mut bench = Bench::with(vec![stage("plan"), stage("join").after(&["plan"])]);
    let token = bench.lease("plan");
    bench.add(token, parts).expect("added");
    (bench, token)
}

/// Fails the attempt of `plan`, and begins its next one.
fn plan_again(bench: &mut Bench, token: LeaseToken) -> LeaseToken {
    bench.fail(token, Network).expect("recorded");
    bench.pass(secs(10));
    bench.wake(Some("plan"));
    bench.lease("plan")
}

fn phases<const N: usize>(bench: &Bench, names: [&str; N]) -> [StagePhase; N] {
    names.map(|name| bench.phase(name))
}

fn taken(name: &str) -> Refusal {
    Refusal::StageAlreadyExists { stage_name: name.into() }
}

#[test]
fn the_next_attempt_adds_its_own_stages_again() {
    let (mut bench, token) = planning(vec![part("a"), part("b").after(&["a"])]);
    let token = plan_again(&mut bench, token);
    let reply = bench.add(token, vec![part("a").spec(|spec| spec.queue = "other".into()), part("c")]).expect("added");
    assert_eq!(reply.stages, [2, 4], "a keeps its number");
    assert_eq!(&*bench.stage("a").spec.queue, "other");
    assert_eq!((bench.stage("a").version, bench.stage("b").version), (2, 1));
    bench.complete(token).expect("completed");
    assert_eq!(phases(&bench, ["a", "b", "c", "join"]), [Ready, Skipped, Ready, Blocked]);
    bench.finish("a");
    bench.finish("c");
    bench.finish("join");
    assert_eq!(bench.state(), JobState::Succeeded, "a withdrawn stage fails nothing");
}

#[test]
fn a_name_is_taken_within_an_attempt_and_by_other_stages() {
    let (mut bench, token) = planning(vec![part("a")]);
    assert_eq!(bench.add(token, vec![part("a")]).expect_err("this attempt has added it"), taken("a"));
    assert_eq!(bench.complete_adding(token, vec![part("a")]).expect_err("the same attempt"), taken("a"));
    assert_eq!(bench.add(token, vec![stage("plan")]).expect_err("itself"), taken("plan"));
    assert_eq!(bench.add(token, vec![stage("join")]).expect_err("a stage of the submission"), taken("join"));
    let child = bench.lease("a");
    bench.add(child, vec![stage("a1")]).expect("added");
    assert_eq!(bench.add(token, vec![stage("a1")]).expect_err("a stage of a"), taken("a1"));
    let token = plan_again(&mut bench, token);
    assert_eq!(bench.add(token, vec![stage("a1")]).expect_err("of a still"), taken("a1"));
    bench.add(token, vec![part("a")]).expect("its own");
    assert_eq!(bench.add(token, vec![part("a")]).expect_err("this attempt has, too"), taken("a"));
}

#[test]
fn replan_keeps_succeeded_and_unchanged_stages() {
    let parts = || vec![part("done"), with_input(part("held"), "{\"n\":1}"), part("tried"), part("ready")];
    let (mut bench, token) = planning(parts());
    bench.finish("done");
    let held = bench.lease("held");
    let tried = bench.lease("tried");
    bench.fail(tried, Network).expect("recorded");
    let token = plan_again(&mut bench, token);
    let before = bench.job();
    bench.add(token, parts()).expect("added");
    let names = ["done", "held", "tried", "ready", "join"];
    assert_eq!(phases(&bench, names), [Succeeded, Running, Backoff, Ready, Blocked]);
    assert_eq!((bench.stage("tried").attempt, bench.stage("held").token_secret), (1, Some(held.secret)));
    assert_eq!(bench.stage("join").depends_on, before.stage_named("join").expect("there").depends_on);
    bench.complete(token).expect("completed");
    bench.complete(held).expect("it was left alone");
    assert_eq!(phases(&bench, names), [Succeeded, Succeeded, Backoff, Ready, Blocked]);
}

#[test]
fn replan_revokes_the_lease_of_a_changed_stage() {
    for other in [with_input(part("a"), "{\"n\":2}"), with_input(part("a").weighs(2.0), "{\"n\":1}"), part("a")] {
        let (mut bench, token) = planning(vec![with_input(part("a"), "{\"n\":1}")]);
        let held = bench.lease("a");
        bench.progress(held, Some(0.5), Some("half")).expect("noted");
        let token = plan_again(&mut bench, token);
        bench.add(token, vec![other]).expect("added");
        let a = bench.stage("a");
        assert_eq!((a.phase(), a.attempt, a.progress, a.fencing_token), (Ready, 0, 0.0, held.fencing_token));
        assert_eq!(bench.heartbeat(held).expect_err("revoked"), Refusal::LeaseLost);
        assert_eq!(bench.complete(held).expect_err("revoked"), Refusal::LeaseLost);
        assert_eq!(bench.lease("a").fencing_token, held.fencing_token + 1);
    }
}

#[test]
fn dependencies_change_with_the_plan_and_form_no_cycle() {
    let (mut bench, token) = planning(vec![part("a"), part("b").after(&["a"]), part("c").after(&["b"])]);
    let token = plan_again(&mut bench, token);
    let cycle = bench.add(token, vec![part("a").after(&["c"])]).expect_err("a waits for itself");
    assert!(matches!(cycle, Refusal::InvalidField { path, .. } if path == "stages[0].depends_on"));
    let turned = vec![part("c"), stage("b").after(&["c"]), part("a").after(&["b"])];
    bench.add(token, turned).expect("added");
    assert_eq!(phases(&bench, ["a", "b", "c"]), [Blocked, Blocked, Ready]);
    // b no longer asks join to wait for it.
    let [plan, a, b, c] = ["plan", "a", "b", "c"].map(|name| bench.stage(name).no);
    let mut waits_for = bench.stage("join").depends_on.to_vec();
    waits_for.sort_unstable();
    assert!(waits_for == [plan, a, c] && !waits_for.contains(&b));
    bench.complete(token).expect("completed");
    for name in ["c", "b", "a", "join"] {
        bench.finish(name);
    }
    assert_eq!(bench.state(), JobState::Succeeded);
}

#[test]
fn replan_keeps_dependencies_that_other_stages_required() {
    let (mut bench, token) = planning(vec![stage("sum"), stage("a").before(&["sum"]), stage("b").before(&["sum"])]);
    bench.finish("a");
    let token = plan_again(&mut bench, token);
    bench.add(token, vec![stage("sum").weighs(2.0)]).expect("added");
    bench.add(token, vec![stage("a").before(&["sum"]), stage("b").weighs(2.0).before(&["sum"])]).expect("added");
    let mut waits_for = bench.stage("sum").depends_on.to_vec();
    waits_for.sort_unstable();
    assert_eq!(waits_for, ["a", "b"].map(|name| bench.stage(name).no));
    assert_eq!((bench.phase("sum"), bench.phase("a")), (Blocked, Succeeded));
}

#[test]
fn replan_restarts_a_failed_stage_and_those_skipped_for_it() {
    let (mut bench, token) = planning(vec![part("a").or_continue(), stage("after").after(&["a"]).or_continue()]);
    let mut late = Bench::with(vec![stage("plan"), stage("join").after(&["plan"]).when_finished()]);
    bench.spoil("a");
    assert_eq!(bench.phase("after"), Skipped);
    // join fails the job, as it waits for all to succeed.
    assert!(matches!(bench.state(), JobState::Failing { .. }));
    assert!(is_transition(&bench.add(token, vec![part("a")])));

    let token = late.lease("plan");
    let parts = || vec![stage("a").or_continue(), stage("after").after(&["a"]).or_continue()];
    late.add(token, parts()).expect("added");
    late.spoil("a");
    assert_eq!(phases(&late, ["a", "after"]), [Failed, Skipped]);
    let token = plan_again(&mut late, token);
    late.add(token, vec![stage("a").or_continue()]).expect("added");
    assert_eq!(phases(&late, ["a", "after"]), [Ready, Blocked]);
    assert_eq!(late.stage("a").attempt, 0);
    late.finish("a");
    assert_eq!(late.phase("after"), Ready);
}

#[test]
fn replan_refuses_a_failed_stage_with_a_started_dependent() {
    let (mut bench, token) = planning(vec![stage("a").or_continue(), stage("after").after(&["a"]).when_finished()]);
    bench.spoil("a");
    let held = bench.lease("after");
    let token = plan_again(&mut bench, token);
    assert!(is_transition(&bench.add(token, vec![stage("a").or_continue()])));
    // Named together they both begin again.
    let both = vec![stage("a"), stage("after").after(&["a"])];
    bench.add(token, both).expect("added");
    assert_eq!(phases(&bench, ["a", "after"]), [Ready, Blocked]);
    assert_eq!(bench.heartbeat(held).expect_err("revoked"), Refusal::LeaseLost);
}

#[test]
fn a_completion_withdraws_unnamed_stages_that_have_not_started() {
    let (mut bench, token) =
        planning(vec![part("fresh"), part("held"), part("tried"), part("released"), part("later").after(&["held"])]);
    let held = bench.lease("held");
    let tried = bench.lease("tried");
    bench.fail(tried, Network).expect("recorded");
    let released = bench.lease("released");
    bench.release(released).expect("given back, as if it had not been");
    let token = plan_again(&mut bench, token);
    bench.complete_adding(token, vec![part("new")]).expect("completed");
    let names = ["fresh", "held", "tried", "released", "later", "new", "join"];
    assert_eq!(phases(&bench, names), [Skipped, Running, Backoff, Skipped, Skipped, Ready, Blocked]);
    bench.complete(held).expect("it goes on");
    bench.pass(secs(10));
    bench.wake(Some("tried"));
    bench.finish("tried");
    bench.finish("new");
    bench.finish("join");
    assert_eq!(bench.state(), JobState::Succeeded);
    assert!(
        bench
            .events
            .iter()
            .any(|event| event.stages.iter().any(|stage| &*stage.stage_name == "fresh" && stage.phase == Skipped))
    );
}

#[test]
fn withdrawing_a_stage_withdraws_its_children() {
    let (mut bench, token) = planning(vec![stage("a").attempts(3)]);
    let child = bench.lease("a");
    bench.add(child, vec![stage("a1"), stage("a2"), stage("a3").after(&["a1"])]).expect("added");
    bench.fail(child, Network).expect("recorded");
    let held = bench.lease("a2");
    let token = plan_again(&mut bench, token);
    bench.add(token, vec![stage("a").weighs(2.0)]).expect("a starts again");
    let token = plan_again(&mut bench, token);
    bench.complete(token).expect("completed without a");
    assert_eq!(phases(&bench, ["a", "a1", "a2", "a3"]), [Skipped, Skipped, Running, Skipped]);
    bench.complete(held).expect("what has started goes on");
    bench.finish("join");
    assert_eq!(bench.state(), JobState::Succeeded);
}

#[test]
fn a_new_run_blocks_children_until_the_new_plan_names_them() {
    let (mut bench, token) = planning(vec![part("a"), part("b"), part("c")]);
    bench.complete(token).expect("completed");
    for name in ["a", "b", "c", "join"] {
        bench.finish(name);
    }
    assert_eq!(bench.state(), JobState::Succeeded);
    bench.retry(Some("plan")).expect("another run");
    let names = ["plan", "a", "b", "c", "join"];
    assert_eq!(phases(&bench, names), [Ready, Blocked, Blocked, Blocked, Blocked], "nothing runs by the old plan");
    let token = bench.lease("plan");
    bench.add(token, vec![part("a")]).expect("added");
    assert_eq!(phases(&bench, names), [Running, Ready, Blocked, Blocked, Blocked]);
    bench.complete_adding(token, vec![part("b").after(&["a"])]).expect("completed");
    assert_eq!(phases(&bench, names), [Succeeded, Ready, Blocked, Skipped, Blocked]);
    for name in ["a", "b", "join"] {
        bench.finish(name);
    }
    assert_eq!((bench.state(), bench.job().progress), (JobState::Succeeded, 1.0));
    // c stays out of it as long as the plan stands.
    bench.retry(Some("join")).expect("another run");
    assert_eq!(phases(&bench, names), [Succeeded, Succeeded, Succeeded, Skipped, Ready]);
    bench.finish("join");
    bench.retry(Some("plan")).expect("another run");
    let token = bench.lease("plan");
    bench.complete_adding(token, vec![part("c")]).expect("completed");
    assert_eq!(phases(&bench, names), [Succeeded, Skipped, Skipped, Ready, Blocked]);
}

#[test]
fn a_planner_of_a_new_run_keeps_succeeded_stages() {
    let (mut bench, token) = planning(vec![part("a"), part("b")]);
    bench.finish("a");
    bench.fail(token, ClientError).expect("recorded");
    assert_eq!((bench.state(), bench.phase("b")), (JobState::Failed, Skipped));
    bench.retry(None).expect("another run");
    assert_eq!(phases(&bench, ["plan", "a", "b", "join"]), [Ready, Succeeded, Blocked, Blocked]);
    let token = bench.lease("plan");
    bench.complete_adding(token, vec![part("a"), part("b")]).expect("completed");
    assert_eq!(phases(&bench, ["a", "b", "join"]), [Succeeded, Ready, Blocked]);
    bench.finish("b");
    bench.finish("join");
    assert_eq!(bench.state(), JobState::Succeeded);
}

#[test]
fn a_failed_planner_withdraws_stages_it_did_not_name() {
    let mut bench = Bench::with(vec![stage("plan").or_continue(), stage("bad")]);
    let token = bench.lease("plan");
    bench.complete_adding(token, vec![stage("a"), stage("b")]).expect("completed");
    bench.finish("a");
    bench.spoil("bad");
    bench.retry(Some("plan")).expect("another run");
    let token = bench.lease("plan");
    bench.add(token, vec![stage("a")]).expect("added");
    bench.fail(token, ClientError).expect("recorded");
    assert_eq!(phases(&bench, ["plan", "a", "b"]), [Failed, Ready, Skipped]);
    bench.finish("a");
    bench.finish("bad");
    assert_eq!(bench.state(), JobState::Succeeded);
}

#[test]
fn a_late_completion_counts_for_the_attempt_that_added_the_stages() {
    let (mut bench, token) = planning(vec![part("a")]);
    bench.pass(secs(100));
    bench.reap("plan").expect("silent");
    assert_eq!(bench.complete_adding(token, vec![part("a")]).expect_err("the same attempt"), taken("a"));
    bench.complete_adding(token, vec![part("b")]).expect("late");
    assert_eq!(phases(&bench, ["a", "b"]), [Ready, Ready]);
}

#[test]
fn a_stage_cannot_depend_on_what_its_dependent_adds() {
    let mut bench = Bench::with(vec![stage("top").or_continue(), stage("mid"), stage("end")]);
    let top = bench.lease("top");
    bench.add(top, vec![stage("x").before(&[])]).expect("added");
    let mid = bench.lease("mid");
    bench.add(mid, vec![stage("y").after(&["x"])]).expect("added");
    bench.fail(top, Network).expect("recorded");
    bench.pass(secs(10));
    bench.wake(Some("top"));
    let top = bench.lease("top");
    let cycle = bench.add(top, vec![stage("x").after(&["y"])]).expect_err("y waits for x");
    assert!(matches!(cycle, Refusal::InvalidField { .. }));
}

#[test]
fn a_stage_replans_by_name() {
    let mut bench = Bench::with(vec![stage("plan").direct()]);
    bench.start("plan", None).expect("started");
    bench.add("plan", vec![stage("a")]).expect("added");
    bench.release(StageCredential::Name("plan".into())).expect("given back");
    bench.start("plan", None).expect("started");
    bench.add("plan", vec![stage("a").weighs(3.0)]).expect("added again");
    bench.complete("plan").expect("completed");
    assert_eq!(bench.phase("a"), Ready);
}
