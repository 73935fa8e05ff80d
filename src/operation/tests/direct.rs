//! Work by name: an orchestrator that runs its own stages.

use super::bench::{Bench, is_transition};
use super::build::{BuildStage, secs, stage};
use crate::domain::failure::FailureClass::Network;
use crate::domain::id::LeaseToken;
use crate::domain::job::JobState;
use crate::domain::refusal::Refusal;
use crate::domain::stage::StagePhase::*;
use crate::operation::update_progress::UpdateProgress;

#[test]
fn start_stage_takes_a_ready_stage_by_name() {
    let mut bench = Bench::with(vec![stage("a").direct(), stage("b").after(&["a"])]);
    bench.start("a", None).expect("started");
    assert_eq!((bench.phase("a"), bench.state()), (Running, JobState::Running));
    assert_eq!(bench.stage("a").lease(), None);
    assert!(is_transition(&bench.start("a", None)) && is_transition(&bench.start("b", None)));
    assert!(matches!(bench.start("missing", None), Err(Refusal::StageNotFound { .. })));
    bench.complete("a").expect("completed");
    assert!(is_transition(&bench.complete("a")), "by name a repeat is none");
    assert_eq!(bench.phases(), [Succeeded, Ready]);
}

#[test]
fn start_stage_with_a_lease_duration_returns_a_lease() {
    let mut bench = Bench::with(vec![stage("a")]);
    let grant = bench.grant(Some(secs(20)));
    let secret = grant.secret;
    bench.start("a", Some(grant)).expect("started");
    assert_eq!(bench.stage("a").lease().expect("a lease").expires_at, bench.now.after(secs(20)));
    assert!(is_transition(&bench.complete("a")), "a live lease is in the way of names");
    bench
        .complete(LeaseToken { job_uid: super::build::key().uid, stage_no: 0, fencing_token: 1, secret })
        .expect("done");
}

#[test]
fn a_write_to_a_ready_stage_starts_it() {
    for word in ["progress", "complete", "fail"] {
        let mut bench = Bench::with(vec![stage("a"), stage("b").after(&["a"])]);
        let reply = match word {
            "progress" => bench.progress("a", Some(0.25), None),
            "complete" => bench.complete("a"),
            _ => bench.fail("a", Network),
        };
        assert_eq!(reply.expect("applied").jobs[0].revision, 2, "one operation, one revision");
        let stage = bench.stage("a");
        assert_eq!((stage.attempt, stage.fencing_token, stage.version), (1, 1, 2), "{word}");
        let phase = if word == "progress" {
            Running
        } else if word == "complete" {
            Succeeded
        } else {
            Backoff
        };
        assert_eq!((stage.phase(), bench.state()), (phase, JobState::Running), "{word}");
        assert!(word == "complete" || is_transition(&bench.complete("b")), "a blocked stage cannot be written");
    }
}

#[test]
fn a_leased_stage_cannot_be_written_by_name() {
    let mut bench = Bench::with(vec![stage("a")]);
    let token = bench.lease("a");
    for word in [
        bench.start("a", None),
        bench.progress("a", Some(0.5), None),
        bench.complete("a"),
        bench.fail("a", Network),
        bench.release("a"),
        bench.add("a", vec![stage("b")]),
    ] {
        assert!(is_transition(&word));
    }
    // Reaped, the stage is anybody's; who takes it by name makes the token stale like a lease would.
    bench.pass(secs(90));
    bench.reap("a").expect("taken");
    bench.start("a", None).expect("started");
    assert_eq!(bench.stage("a").fencing_token, 2);
    assert_eq!(bench.complete(token).expect_err("stale"), Refusal::LeaseLost);
    bench.complete("a").expect("done");
}

#[test]
fn a_direct_stage_is_never_leased() {
    let mut bench = Bench::with(vec![stage("a").direct()]);
    assert!(bench.poll(0, None).is_none());
    assert!(!bench.job().is_leasable(&bench.stage("a")));
    for attempt in 1..=3 {
        bench.fail("a", Network).expect("recorded");
        assert_eq!(bench.stage("a").attempt, attempt);
        bench.pass(secs(2));
        bench.wake(Some("a"));
    }
    assert_eq!(bench.state(), JobState::Failed);
}

#[test]
fn a_stage_can_release_and_fan_out_by_name() {
    let mut bench = Bench::with(vec![stage("a").direct()]);
    assert!(is_transition(&bench.release("a")) && is_transition(&bench.add("a", vec![stage("b")])));
    bench.start("a", None).expect("started");
    bench.add("a", vec![stage("b")]).expect("added");
    bench.release("a").expect("given back");
    assert_eq!((bench.phases(), bench.stage("a").attempt), (vec![Ready, Ready], 0));
}

#[test]
fn an_attempt_timeout_holds_without_a_lease() {
    let mut bench = Bench::with(vec![stage("a").direct().spec(|spec| spec.timeout = Some(secs(5)))]);
    bench.start("a", None).expect("started");
    bench.pass(secs(5));
    assert!(bench.wake(Some("a")));
    assert_eq!(bench.phase("a"), Backoff);
}

#[test]
fn an_expected_version_is_that_of_the_stage() {
    let mut bench = Bench::with(vec![stage("a"), stage("b")]);
    bench.finish("b");
    let update = |version| UpdateProgress {
        target: super::bench::target("a"),
        progress: Some(0.5),
        message: None,
        expected_version: Some(version),
        request: None,
    };
    let actual = bench.stage("a").version;
    assert_eq!(actual, 1, "the job's revision is another number");
    let refused = bench.run(&update(3)).expect_err("another version");
    assert_eq!(refused, Refusal::VersionMismatch { expected: 3, actual });
    bench.run(&update(1)).expect("applied");
    assert_eq!(bench.stage("a").version, 2);
}
