//! Tokens: who may still say what, late completions, and repeats.

use uuid::Uuid;

use super::bench::{Bench, Outcome, complete, is_transition, target};
use super::build::{BuildStage, NAMESPACE, key, report, secs, stage};
use crate::domain::failure::FailureClass::{ClientError, Network};
use crate::domain::id::LeaseToken;
use crate::domain::job::{JobPhase, JobState};
use crate::domain::refusal::Refusal;
use crate::domain::request::{RequestIdentity, RequestKey};
use crate::domain::stage::StagePhase::*;
use crate::operation::end_stage::{End, EndStage};
use crate::operation::lease_stages::LeaseStages;
use crate::operation::redeliver_leases::RedeliverLeases;

/// Everything that the bearer of a token can say.
fn all_words(bench: &mut Bench, token: LeaseToken) -> Vec<Result<crate::operation::Reply, Refusal>> {
    vec![
        bench.heartbeat(token),
        bench.progress(token, Some(0.9), None),
        bench.fail(token, Network),
        bench.release(token),
        bench.add(token, vec![stage("never")]),
        bench.complete_adding(token, vec![stage("never")]),
        bench.complete(token),
    ]
}

fn reaped() -> (Bench, LeaseToken) {
    let mut bench = Bench::with(vec![stage("a"), stage("b").after(&["a"])]);
    let token = bench.lease("a");
    bench.pass(secs(90));
    bench.reap("a").expect("taken");
    (bench, token)
}

#[test]
fn an_expired_lease_accepts_a_completion_only() {
    let (mut bench, token) = reaped();
    for word in all_words(&mut bench, token).into_iter().take(5) {
        assert_eq!(word.expect_err("lost"), Refusal::LeaseLost);
    }
    let (mut bench, token) = reaped();
    bench.complete(token).expect("late, but no other worker has it");
    assert_eq!((bench.phases(), bench.stage("a").failure.is_none()), (vec![Succeeded, Ready], true));
}

#[test]
fn an_expired_lease_that_was_not_reaped_can_be_renewed() {
    let mut bench = Bench::with(vec![stage("a")]);
    let token = bench.lease("a");
    bench.pass(secs(900));
    bench.heartbeat(token).expect("no other worker has it");
    assert!(!bench.reap("a").expect("decided").applied, "it was renewed");
    bench.pass(secs(900));
    bench.complete(token).expect("no other worker has it");
    assert_eq!(bench.state(), JobState::Succeeded);
}

#[test]
fn a_late_completion_works_in_a_paused_job_too() {
    let (mut bench, token) = reaped();
    bench.pause().expect("paused");
    bench.complete(token).expect("holders may finish");
    assert_eq!((bench.state().phase(), bench.phase("b")), (JobPhase::Paused, Ready));
}

#[test]
fn a_new_lease_invalidates_the_old_token() {
    let (mut bench, old) = reaped();
    let new = bench.lease("a");
    assert_eq!(new.fencing_token, old.fencing_token + 1);
    let before = bench.job().revision;
    for word in all_words(&mut bench, old) {
        assert_eq!(word.expect_err("lost"), Refusal::LeaseLost);
    }
    assert_eq!(bench.job().revision, before);
    bench.complete(new).expect("the newest");
    for word in all_words(&mut bench, old) {
        assert_eq!(word.expect_err("lost"), Refusal::LeaseLost);
    }
}

#[test]
fn a_forged_token_is_a_lost_lease() {
    let mut bench = Bench::with(vec![stage("a")]);
    let token = bench.lease("a");
    let forged = [
        LeaseToken { secret: uuid::Uuid::from_u128(99), ..token },
        LeaseToken { fencing_token: token.fencing_token + 1, ..token },
        LeaseToken { stage_no: 7, ..token },
    ];
    for forged in forged {
        for word in all_words(&mut bench, forged) {
            assert_eq!(word.expect_err("lost"), Refusal::LeaseLost);
        }
    }
}

#[test]
fn a_token_is_lost_after_fail_or_release() {
    for release in [false, true] {
        let mut bench = Bench::with(vec![stage("a")]);
        let token = bench.lease("a");
        if release { bench.release(token) } else { bench.fail(token, Network) }.expect("recorded");
        for word in all_words(&mut bench, token) {
            assert_eq!(word.expect_err("lost"), Refusal::LeaseLost);
        }
    }
}

#[test]
fn an_ended_stage_accepts_only_a_repeat() {
    let mut bench = Bench::with(vec![stage("a"), stage("b")]);
    let token = bench.lease("a");
    bench.end(token, complete(vec![stage("added")]), 1).expect("completed");
    let again = bench.end(token, complete(vec![stage("added")]), 1).expect("a repeat");
    assert!(!again.applied);
    // Other content, even where its stages exist by now: what is wrong is the state, not a field.
    assert!(is_transition(&bench.end(token, complete(vec![stage("added")]), 7)));
    for word in [bench.fail(token, Network), bench.release(token), bench.progress(token, Some(1.0), None)] {
        assert!(is_transition(&word));
    }
    assert!(is_transition(&bench.add(token, vec![stage("never")])));
    assert_eq!(bench.heartbeat(token).expect_err("lost"), Refusal::LeaseLost);
}

#[test]
fn a_final_failure_can_be_repeated() {
    let mut bench = Bench::with(vec![stage("a").or_continue(), stage("b")]);
    let token = bench.lease("a");
    bench.fail(token, ClientError).expect("recorded");
    assert!(!bench.fail(token, ClientError).expect("a repeat").applied);
    assert!(is_transition(&bench.end(token, End::Fail { report: report(Network), jitter: 0.0 }, 8)));
    assert!(is_transition(&bench.complete(token)));
}

#[test]
fn a_lease_that_used_up_the_attempts_cannot_be_completed_late() {
    let mut bench = Bench::with(vec![stage("a").attempts(1)]);
    let token = bench.lease("a");
    bench.pass(secs(90));
    bench.reap("a").expect("taken");
    assert_eq!((bench.phase("a"), bench.state()), (Failed, JobState::Failed));
    assert!(is_transition(&bench.complete(token)));
}

#[test]
fn the_lease_duration_of_the_stage_takes_precedence() {
    let own = stage("own").spec(|spec| spec.lease_duration = Some(secs(10)));
    let mut bench = Bench::with(vec![own, stage("asks"), stage("default")]);
    for (no, asked, expected) in [(0, Some(secs(60)), 10), (1, Some(secs(60)), 60), (2, None, 90)] {
        bench.poll(no, asked).expect("leased");
        let lease = bench.job().stages[no].lease().cloned().expect("a lease");
        assert_eq!((lease.duration, lease.expires_at), (secs(expected), bench.now.after(secs(expected))));
    }
}

#[test]
fn a_renewal_makes_no_revision_and_is_written_after_a_third_of_the_lease() {
    let mut bench = Bench::with(vec![stage("a")]);
    let token = bench.lease("a");
    let (revision, granted) = (bench.job().revision, bench.stage("a").lease().cloned().expect("a lease").expires_at);
    bench.pass(secs(29));
    assert!(!bench.heartbeat(token).expect("alive").applied);
    assert_eq!(bench.stage("a").lease().expect("a lease").expires_at, granted, "not written yet");
    bench.pass(secs(2));
    assert!(!bench.heartbeat(token).expect("alive").applied);
    assert_eq!(bench.stage("a").lease().expect("a lease").expires_at, bench.now.after(secs(90)));
    assert_eq!(bench.job().revision, revision);
}

#[test]
fn a_reap_ends_only_the_lease_it_names() {
    let mut bench = Bench::with(vec![stage("a")]);
    bench.lease("a");
    let old = crate::operation::reap::Reap {
        key: super::build::key(),
        stage_no: 0,
        token_secret: bench.stage("a").token_secret.expect("held"),
        jitter: 0.0,
    };
    bench.pass(secs(90));
    bench.run(&old).expect("taken");
    bench.lease("a");
    bench.pass(secs(90));
    assert_eq!(bench.run(&old).expect_err("another lease"), Refusal::LeaseLost);
    assert_eq!(bench.phase("a"), Running);
}

fn slot(digest: u128) -> RequestIdentity {
    let key = RequestKey { namespace: NAMESPACE, request_id: Uuid::from_u128(1) };
    RequestIdentity { key: key.slot(0, 0), digest: Uuid::from_u128(digest) }
}

fn poll_with(bench: &mut Bench, stages: &[u32], slots: Vec<RequestIdentity>) -> Outcome {
    let stages = stages.iter().map(|no| (*no, bench.grant(None))).collect();
    bench.run(&LeaseStages { key: key(), stages, group: None, slots })
}

#[test]
fn a_request_slot_is_used_for_one_lease() {
    let mut bench = Bench::with(vec![stage("a"), stage("b")]);
    let first = poll_with(&mut bench, &[0], vec![slot(1)]).expect("leased");
    assert!(first.replayed.is_none() && first.stages == [0]);
    let again = poll_with(&mut bench, &[1], vec![slot(1)]).expect("answered");
    let record = again.replayed.expect("another call has the slot");
    assert_eq!((&*record.jobs, record.stage_no, &*record.versions), (&[key().uid][..], Some(0), &[1][..]));
    assert!(again.stages.is_empty());
    assert_eq!(bench.phases(), [Running, Ready]);
    let refused = poll_with(&mut bench, &[1], vec![slot(2)]).expect_err("another content");
    assert_eq!(refused, Refusal::RequestIdReused);
}

#[test]
fn a_redelivered_lease_is_not_released_for_its_first_delivery() {
    let mut bench = Bench::with(vec![stage("a"), stage("b")]);
    let token = bench.lease("a");
    let first = bench.stage("a");
    bench.pass(secs(80));
    let leases = vec![(0, token.fencing_token), (1, 1)];
    let redeliver = RedeliverLeases { key: key(), leases };
    let reply = bench.run(&redeliver).expect("delivered");
    assert_eq!(reply.stages, [0], "b is not leased");
    let second = bench.stage("a");
    assert_eq!((second.token_secret, second.fencing_token), (first.token_secret, first.fencing_token));
    assert_eq!(second.lease().map(|lease| lease.expires_at), Some(bench.now.after(secs(90))), "it is renewed");
    let give_back = |version| EndStage {
        target: target(token),
        end: End::Release,
        digest: Uuid::nil(),
        expected_version: Some(version),
        request: None,
    };
    let refused = bench.run(&give_back(first.version)).expect_err("it was delivered again");
    assert!(matches!(refused, Refusal::VersionMismatch { .. }), "{refused:?}");
    bench.run(&give_back(second.version)).expect("the second delivery failed too");
    assert_eq!(bench.phase("a"), Ready);
    assert!(bench.run(&redeliver).expect("answered").stages.is_empty(), "it is given back");
    bench.lease("a");
    assert!(bench.run(&redeliver).expect("answered").stages.is_empty(), "that is another lease");
}
