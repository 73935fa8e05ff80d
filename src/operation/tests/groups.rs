//! Several operations in one group: each on what the ones before it left, and one net effect in the database.

use super::bench::Bench;
use super::build::{BuildStage, JOB_ID, job, key, secs, stage};
use crate::domain::refusal::Refusal;
use crate::domain::stage::StagePhase::*;
use crate::operation::control_job::{Control, ControlJob};
use crate::operation::delete_job::DeleteJob;
use crate::operation::reap::Reap;
use crate::operation::redeliver_leases::RedeliverLeases;
use crate::operation::submit_jobs::SubmitJobs;

#[test]
fn a_job_that_is_deleted_and_created_in_one_group_keeps_nothing_of_the_old_one() {
    let mut bench = Bench::empty();
    let mut first = job(vec![stage("a"), stage("b"), stage("c")]);
    first.payload = Some(crate::domain::json::Document::from_checked(r#"{"old":true}"#));
    let first = SubmitJobs { jobs: vec![(first, "stages".into())], request: None };
    let cancel = ControlJob {
        key: key(),
        job_id: JOB_ID.into(),
        control: Control::Cancel { grace: secs(0), reason: None },
        expected_revision: None,
        request: None,
    };
    let delete = DeleteJob { key: key(), job_id: JOB_ID.into(), expected_revision: None, request: None };
    let second = SubmitJobs { jobs: vec![(job(vec![stage("a")]), "stages".into())], request: None };
    let answers = bench.group(&[&first, &cancel, &delete, &second]);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!((bench.phases(), bench.job().revision), (vec![Ready], 1));
}

#[test]
fn fencing_tokens_grow_when_a_job_is_deleted_and_created_in_one_group() {
    let mut bench = Bench::with(vec![stage("a")]);
    let token = bench.lease("a");
    bench.complete(token).expect("completed");
    let delete = DeleteJob { key: key(), job_id: JOB_ID.into(), expected_revision: None, request: None };
    let second = SubmitJobs { jobs: vec![(job(vec![stage("a")]), "stages".into())], request: None };
    let answers = bench.group(&[&delete, &second]);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(bench.lease("a").fencing_token > token.fencing_token);
}

#[test]
fn a_lease_that_was_renewed_in_the_same_group_is_not_taken() {
    let mut bench = Bench::with(vec![stage("a").spec(|spec| spec.lease_duration = Some(secs(10)))]);
    let token = bench.lease("a");
    bench.pass(secs(10));
    let again = RedeliverLeases { key: key(), leases: vec![(0, token.fencing_token)] };
    let reap = Reap { key: key(), stage_no: 0, token_secret: token.secret, jitter: 0.0 };
    let answers = bench.group(&[&again, &reap]);
    assert!(answers[0].as_ref().is_ok_and(|reply| reply.applied), "the holder got its renewal");
    assert_eq!(bench.phase("a"), Running);
    // In the other order the holder got no answer.
    bench.pass(secs(10));
    let answers = bench.group(&[&reap, &again]);
    assert!(answers[0].is_ok() && answers[1].as_ref().is_ok_and(|reply| reply.stages.is_empty()));
    assert_eq!(bench.phase("a"), Ready);
}

#[test]
fn a_batch_is_submitted_whole_or_not_at_all() {
    let mut bench = Bench::empty();
    let one = || (job(vec![stage("a")]), "stages".to_owned());
    let twice = SubmitJobs { jobs: vec![one(), one()], request: None };
    let refused = bench.run(&twice).expect_err("the second one has the id of the first");
    assert_eq!(refused, Refusal::JobAlreadyExists { job_id: JOB_ID.into() });
    assert!(bench.find().is_none());
}
