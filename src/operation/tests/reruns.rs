//! RetryJob: from where, what is done again, and what goes on across runs.

use super::bench::{Bench, is_transition};
use super::build::{BuildStage, job, secs, stage};
use crate::domain::failure::FailureClass::{ClientError, Network};
use crate::domain::job::JobState;
use crate::domain::json::Document;
use crate::domain::refusal::Refusal;
use crate::domain::stage::StagePhase::*;
use crate::operation::end_stage::End;

#[test]
fn retry_of_a_failed_job_runs_stages_that_have_not_succeeded() {
    let mut bench = Bench::with(vec![
        stage("done"),
        stage("bad").after(&["done"]),
        stage("skipped").after(&["bad"]),
        stage("continued").or_continue(),
    ]);
    bench.finish("done");
    bench.spoil("continued");
    let token = bench.lease("bad");
    bench.progress(token, Some(0.5), Some("half")).expect("noted");
    bench.fail(token, ClientError).expect("recorded");
    let before = bench.job();
    bench.pass(secs(10));
    bench.retry(None).expect("another run");
    assert_eq!(bench.phases(), [Succeeded, Ready, Blocked, Ready]);
    let (job, stage) = (bench.job(), bench.stage("bad"));
    assert_eq!((job.run, job.state, job.progress, &job.failure), (2, JobState::Pending, 0.25, &None));
    assert_eq!((job.start_time, job.end_time, job.expire_time), (None, None, None));
    assert_eq!((stage.attempt, stage.progress, &stage.message, &stage.failure), (0, 0.0, &None, &None));
    assert_eq!((stage.fencing_token, stage.token_secret), (token.fencing_token, None));
    assert_eq!(bench.stage("done").version, before.stage_named("done").expect("there").version);
    for name in ["bad", "skipped", "continued"] {
        bench.finish(name);
    }
    assert_eq!(bench.state(), JobState::Succeeded);
}

#[test]
fn attempts_restart_and_fencing_tokens_never_do() {
    let mut bench = Bench::with(vec![stage("a").attempts(2)]);
    for run in 1..=3 {
        for attempt in 1..=2 {
            let token = bench.lease("a");
            assert_eq!(token.fencing_token, 2 * (run - 1) + i64::from(attempt));
            assert_eq!(bench.stage("a").attempt, attempt);
            bench.fail(token, Network).expect("recorded");
            bench.pass(secs(10));
            bench.wake(Some("a"));
        }
        assert_eq!((bench.state(), i64::from(bench.job().run)), (JobState::Failed, run));
        bench.retry(None).expect("another run");
    }
}

#[test]
fn tokens_of_an_earlier_run_are_lost() {
    let mut bench = Bench::with(vec![stage("a")]);
    let token = bench.lease("a");
    bench.cancel(secs(0)).expect("cancelled");
    bench.retry(None).expect("another run");
    assert_eq!(bench.complete(token).expect_err("of another run"), Refusal::LeaseLost);
    assert_eq!(bench.phase("a"), Ready);
}

#[test]
fn retry_of_a_cancelled_job_runs_stages_that_have_not_succeeded() {
    let mut bench = Bench::with(vec![stage("a"), stage("b").after(&["a"])]);
    bench.finish("a");
    bench.cancel(secs(30)).expect("cancelled");
    bench.retry(None).expect("another run");
    assert_eq!((bench.phases(), bench.job().cancel_reason.clone()), (vec![Succeeded, Ready], None));
    bench.finish("b");
    assert_eq!(bench.state(), JobState::Succeeded);
}

#[test]
fn retry_of_a_succeeded_job_needs_a_stage_and_runs_its_dependents() {
    let mut bench = Bench::with(vec![
        stage("a"),
        stage("b").after(&["a"]),
        stage("c").after(&["b"]),
        stage("apart"),
        stage("both").after(&["apart", "c"]),
    ]);
    for name in ["a", "b", "c", "apart", "both"] {
        bench.finish(name);
    }
    assert!(is_transition(&bench.retry(None)));
    assert!(matches!(bench.retry(Some("missing")), Err(Refusal::StageNotFound { .. })));
    bench.retry(Some("b")).expect("another run");
    assert_eq!(bench.phases(), [Succeeded, Ready, Blocked, Succeeded, Blocked]);
    assert_eq!(bench.job().progress, 0.4);
    for name in ["b", "c", "both"] {
        bench.finish(name);
    }
    assert_eq!(bench.state(), JobState::Succeeded);
}

#[test]
fn retry_of_a_failed_job_from_a_stage_runs_both() {
    let mut bench = Bench::with(vec![stage("a"), stage("b").after(&["a"]), stage("bad")]);
    bench.finish("a");
    bench.finish("b");
    bench.spoil("bad");
    bench.retry(Some("a")).expect("another run");
    assert_eq!(bench.phases(), [Ready, Blocked, Ready]);
}

#[test]
fn retry_needs_an_ended_job() {
    let mut bench = Bench::with(vec![stage("a"), stage("bad")]);
    assert!(is_transition(&bench.retry(Some("a"))));
    let token = bench.lease("a");
    assert!(is_transition(&bench.retry(None)));
    bench.spoil("bad");
    assert!(is_transition(&bench.retry(None)), "it has failed but not ended");
    bench.complete(token).expect("recorded");
    bench.retry(None).expect("now it has ended");
}

#[test]
fn retry_restarts_the_timeout() {
    let mut film = job(vec![stage("a")]);
    film.meta.timeout = Some(secs(60));
    let mut bench = Bench::of(film);
    bench.pass(secs(60));
    bench.wake(None);
    assert_eq!(bench.state(), JobState::Failed);
    bench.retry(None).expect("another run");
    bench.pass(secs(59));
    assert!(!bench.wake(None));
    bench.pass(secs(1));
    assert!(bench.wake(None));
    assert_eq!(bench.state(), JobState::Failed);
}

#[test]
fn stages_that_were_added_stay_for_the_next_run() {
    let mut bench = Bench::with(vec![stage("plan"), stage("sum").after(&["plan"])]);
    let token = bench.lease("plan");
    bench.complete_adding(token, vec![stage("part").before(&["sum"])]).expect("completed");
    bench.spoil("part");
    assert_eq!((bench.state(), bench.phase("sum")), (JobState::Failed, Skipped));
    bench.retry(None).expect("another run");
    assert_eq!(bench.phases(), [Succeeded, Blocked, Ready]);
    bench.finish("part");
    bench.finish("sum");
    assert_eq!(bench.state(), JobState::Succeeded);
}

#[test]
fn a_run_without_open_stages_ends_at_once() {
    let mut bench = Bench::with(vec![stage("a")]);
    let token = bench.lease("a");
    bench.cancel(secs(30)).expect("asked");
    bench.complete(token).expect("recorded");
    assert_eq!((bench.state(), bench.phase("a")), (JobState::Cancelled, Succeeded));
    bench.retry(None).expect("another run");
    assert_eq!((bench.state(), bench.job().run, bench.job().progress), (JobState::Succeeded, 2, 1.0));
    assert_eq!(bench.job().end_time, Some(bench.now));
}

#[test]
fn retry_keeps_the_result_while_all_completed_stages_keep_their_success() {
    for (from_stage, stays) in [(None, true), (Some("bad"), true), (Some("a"), false)] {
        let mut bench = Bench::with(vec![stage("a"), stage("bad").after(&["a"])]);
        let token = bench.lease("a");
        let result = Some(Document::from_checked("{}"));
        let end = End::Complete { artifacts: None, job_result: result, message: None, add_stages: vec![] };
        bench.end(token, end, 1).expect("completed");
        bench.spoil("bad");
        bench.retry(from_stage).expect("another run");
        assert_eq!(bench.has_result(), stays, "{from_stage:?}");
    }
}
