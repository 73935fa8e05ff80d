//! What the failure of a stage means for the others and for the job.

use super::bench::{Bench, is_transition};
use super::build::{BuildStage, secs, stage};
use crate::domain::failure::FailureClass::{ClientError, Network};
use crate::domain::job::JobState;
use crate::domain::stage::StagePhase::*;

#[test]
fn fail_job_skips_unstarted_stages_and_asks_holders_to_stop() {
    let mut bench = Bench::with(vec![
        stage("bad"),
        stage("held"),
        stage("backoff"),
        stage("ready"),
        stage("blocked").after(&["held"]),
        stage("last").after(&["bad"]).when_finished(),
    ]);
    let waiting = bench.lease("backoff");
    bench.fail(waiting, Network).expect("recorded");
    let held = bench.lease("held");
    bench.spoil("bad");
    assert_eq!(bench.phases(), [Failed, Running, Failed, Skipped, Skipped, Skipped]);
    assert_eq!(bench.state(), JobState::Failing { deadline: bench.now.after(secs(30)) });
    assert_eq!(bench.job().failure.as_deref(), bench.stage("bad").failure.as_deref());
    assert!(is_transition(&bench.add(held, vec![stage("new")])));
    assert!(is_transition(&bench.pause()));
    assert!(!bench.cancel(secs(5)).expect("it ends anyway").applied);
    bench.complete(held).expect("recorded");
    assert_eq!((bench.state(), bench.phase("held")), (JobState::Failed, Succeeded));
    assert_eq!(bench.phase("blocked"), Skipped, "a completion makes nothing ready any more");
}

#[test]
fn a_failing_job_retries_nothing() {
    for by_silence in [false, true] {
        let mut bench = Bench::with(vec![stage("bad"), stage("held")]);
        let held = bench.lease("held");
        bench.spoil("bad");
        if by_silence {
            bench.pass(secs(90));
            bench.reap("held").expect("taken");
        } else {
            bench.fail(held, Network).expect("recorded");
        }
        assert_eq!((bench.phase("held"), bench.state()), (Failed, JobState::Failed));
        assert_eq!(bench.stage("held").failure.as_ref().expect("recorded").retry_wait, None);
        assert_eq!(bench.job().failure.as_ref().expect("the first").stage_name, "bad");
    }
}

#[test]
fn a_failing_job_fails_stages_that_were_attempted() {
    let mut bench = Bench::with(vec![stage("bad"), stage("again"), stage("given-back")]);
    let token = bench.lease("again");
    bench.fail(token, Network).expect("recorded");
    bench.pass(secs(1));
    bench.wake(Some("again"));
    let token = bench.lease("given-back");
    bench.release(token).expect("given back");
    bench.spoil("bad");
    assert_eq!(bench.phases(), [Failed, Failed, Skipped], "SKIPPED is what has never started");
}

#[test]
fn a_failing_job_ends_with_its_grace() {
    let mut bench = Bench::with(vec![stage("bad"), stage("held")]);
    let held = bench.lease("held");
    bench.spoil("bad");
    bench.pass(secs(30));
    assert!(bench.wake(None));
    assert_eq!((bench.phase("held"), bench.state()), (Cancelled, JobState::Failed));
    assert!(bench.complete(held).is_err());
}

#[test]
fn after_a_continued_failure_all_finished_runs_and_all_succeeded_is_skipped() {
    let mut bench = Bench::with(vec![
        stage("bad").or_continue(),
        stage("cleanup").after(&["bad"]).when_finished(),
        stage("upload").after(&["bad"]).or_continue(),
        // Waits for a skipped stage, which has finished.
        stage("report").after(&["upload", "cleanup"]).when_finished(),
    ]);
    bench.spoil("bad");
    assert_eq!(bench.phases(), [Failed, Ready, Skipped, Blocked]);
    assert_eq!((bench.state(), bench.job().failure.is_none()), (JobState::Running, true));
    bench.finish("cleanup");
    assert_eq!(bench.phase("report"), Ready);
    bench.finish("report");
    assert_eq!(bench.state(), JobState::Succeeded, "with only CONTINUE failures the job is SUCCEEDED");
    let counts = |phase| bench.job().tally.count(phase);
    assert_eq!((counts(Failed), counts(Skipped), counts(Succeeded)), (1, 1, 2));
    assert_eq!(bench.job().progress, 1.0);
}

#[test]
fn a_skipped_stage_counts_by_its_own_on_failure() {
    let mut bench = Bench::with(vec![
        stage("voice").or_continue(),
        stage("mix").after(&["voice"]).or_continue(),
        stage("render").after(&["mix"]),
        stage("free"),
    ]);
    bench.spoil("voice");
    assert_eq!(bench.phases(), [Failed, Skipped, Skipped, Skipped]);
    assert_eq!(bench.state(), JobState::Failed);
    let failure = bench.job().failure.clone().expect("why");
    assert_eq!(failure.stage_name, "render");
    assert_eq!(failure.report.message, r#"stage "render" was SKIPPED because stage "mix" is SKIPPED"#);
}

#[test]
fn a_skip_does_not_wait_for_the_other_dependencies() {
    let mut bench = Bench::with(vec![
        stage("bad").or_continue(),
        stage("slow"),
        stage("both").after(&["bad", "slow"]).or_continue(),
    ]);
    let slow = bench.lease("slow");
    bench.spoil("bad");
    assert_eq!(bench.phase("both"), Skipped);
    bench.complete(slow).expect("completed");
    assert_eq!((bench.phase("both"), bench.state()), (Skipped, JobState::Succeeded));
}

#[test]
fn all_finished_waits_for_all() {
    let mut bench = Bench::with(vec![
        stage("bad").or_continue(),
        stage("slow"),
        stage("both").after(&["bad", "slow"]).when_finished(),
    ]);
    let slow = bench.lease("slow");
    bench.spoil("bad");
    assert_eq!(bench.phase("both"), Blocked);
    bench.complete(slow).expect("completed");
    assert_eq!(bench.phase("both"), Ready);
}

#[test]
fn a_failed_job_keeps_its_progress() {
    let mut bench = Bench::with(vec![stage("a"), stage("bad"), stage("c").after(&["bad"]), stage("d").after(&["c"])]);
    bench.finish("a");
    let token = bench.lease("bad");
    bench.progress(token, Some(0.5), None).expect("noted");
    bench.fail(token, ClientError).expect("recorded");
    assert_eq!((bench.state(), bench.job().progress), (JobState::Failed, 0.375));
}
