//! Repeated requests: answered from memory, changing nothing.

use uuid::Uuid;

use super::bench::{Bench, complete, target};
use super::build::{JOB_ID, NAMESPACE, job, key, secs, stage};
use crate::domain::refusal::Refusal;
use crate::domain::request::{RequestIdentity, RequestKey};
use crate::operation::Operation;
use crate::operation::control_job::{Control, ControlJob};
use crate::operation::end_stage::EndStage;
use crate::operation::submit_jobs::SubmitJobs;

pub fn identity(id: u128, digest: u128) -> Option<RequestIdentity> {
    let key = RequestKey { namespace: NAMESPACE, request_id: Uuid::from_u128(id) };
    Some(RequestIdentity { key, digest: Uuid::from_u128(digest) })
}

fn control(control: Control, request: Option<RequestIdentity>) -> ControlJob {
    ControlJob { key: key(), job_id: JOB_ID.into(), control, expected_revision: None, request }
}

#[test]
fn a_repeat_changes_nothing_and_is_replayed() {
    let mut bench = Bench::empty();
    let submit = SubmitJobs { jobs: vec![(job(vec![stage("a")]), "stages".into())], request: identity(1, 1) };
    assert!(bench.run(&submit).expect("submitted").replayed.is_none());
    let token = bench.lease("a");
    let end = EndStage {
        target: target(token),
        end: complete(vec![]),
        digest: Uuid::from_u128(1),
        expected_version: Some(2),
        request: identity(2, 2),
    };
    let first = bench.run(&end).expect("completed");
    for operation in [&submit as &dyn Operation, &end] {
        let revision = bench.job().revision;
        let again = bench.run(operation).expect("answered");
        let record = again.replayed.expect("from memory");
        assert!(again.jobs.is_empty() && record.applied && record.jobs == [key().uid]);
        assert_eq!(bench.job().revision, revision);
    }
    let record = bench.run(&end).expect("answered").replayed.expect("from memory");
    assert_eq!((record.stage_no, record.revision), (Some(0), first.jobs[0].revision));
}

#[test]
fn a_request_is_remembered_after_its_job_was_deleted() {
    let mut bench = Bench::with(vec![stage("a")]);
    let cancel = control(Control::Cancel { grace: secs(0), reason: None }, identity(1, 1));
    bench.run(&cancel).expect("cancelled");
    bench.delete().expect("deleted");
    assert!(bench.run(&cancel).expect("answered").replayed.is_some());
}

#[test]
fn the_same_id_with_other_content_is_refused() {
    let mut bench = Bench::with(vec![stage("a")]);
    bench.run(&control(Control::Pause, identity(1, 1))).expect("paused");
    let refused = bench.run(&control(Control::Resume, identity(1, 2))).expect_err("another content");
    assert_eq!(refused, Refusal::RequestIdReused);
}

#[test]
fn a_refusal_is_not_remembered() {
    let mut bench = Bench::with(vec![stage("a")]);
    let retry = control(Control::Retry { from_stage: None }, identity(1, 1));
    assert!(bench.run(&retry).is_err());
    bench.cancel(secs(0)).expect("cancelled");
    assert!(bench.run(&retry).expect("now it can").applied);
    assert!(bench.run(&retry).expect("answered").replayed.is_some());
}

#[test]
fn a_request_that_changed_nothing_is_remembered() {
    let mut bench = Bench::with(vec![stage("a")]);
    let resume = control(Control::Resume, identity(1, 1));
    assert!(!bench.run(&resume).expect("nothing to do").applied);
    let again = bench.run(&resume).expect("answered");
    assert!(again.replayed.is_some() && !again.applied);
}

#[test]
fn a_repeat_in_the_same_group_is_replayed() {
    let mut bench = Bench::with(vec![stage("a")]);
    let pause = control(Control::Pause, identity(1, 1));
    let answers = bench.group(&[&pause, &pause]);
    assert!(answers[0].as_ref().is_ok_and(|reply| reply.replayed.is_none()));
    assert!(answers[1].as_ref().is_ok_and(|reply| reply.replayed.is_some()));
    assert_eq!(bench.job().revision, 2);
}

#[test]
fn an_expected_revision_is_that_of_the_job() {
    let mut bench = Bench::with(vec![stage("a")]);
    bench.pause().expect("paused");
    let resume = |expected_revision| ControlJob { expected_revision, ..control(Control::Resume, None) };
    let refused = bench.run(&resume(Some(1))).expect_err("another revision");
    assert_eq!(refused, Refusal::VersionMismatch { expected: 1, actual: 2 });
    assert!(bench.run(&resume(Some(2))).expect("resumed").applied);
}
