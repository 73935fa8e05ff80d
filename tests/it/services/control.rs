//! UpdateJob, CancelJob, PauseJob, ResumeJob.

use interlock::proto::{self, FailureClass, JobState, LeaseDirective, StageState};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn cancel(job_id: &str, grace_ms: i64) -> proto::CancelJobRequest {
    proto::CancelJobRequest {
        job_id: job_id.to_owned(),
        grace_period: millis(grace_ms),
        reason: "wrong film".to_owned(),
        ..Default::default()
    }
}

fn about<T: Default>(set: impl FnOnce(&mut T)) -> T {
    let mut request = T::default();
    set(&mut request);
    request
}

#[tokio::test]
async fn labels_and_priority_change_by_mask() {
    let server = Server::start().await;
    let first = proto::SubmitJobRequest { labels: labels(&[("a", "1"), ("b", "2")]), ..new_job("film", Vec::new()) };
    server.api.submit(first).await;
    let mask = |paths: &[&str]| Some(prost_types::FieldMask { paths: texts(paths) });
    let base = || proto::UpdateJobRequest { job_id: "film".into(), ..Default::default() };
    let update = async |request| ok(server.api.jobs().update_job(request).await);

    let response = update(proto::UpdateJobRequest { labels: labels(&[("c", "3")]), ..base() }).await;
    let job = response.job.expect("a job");
    assert_eq!((job.labels, response.applied, response.applied_version), (labels(&[("c", "3")]), true, 2));
    let same = update(proto::UpdateJobRequest { labels: labels(&[("c", "3")]), ..base() }).await;
    assert_eq!((same.applied, same.applied_version, same.job.expect("a job").version), (false, 0, 2));
    assert!(!update(base()).await.applied);
    let priority = update(proto::UpdateJobRequest {
        priority: Some(9),
        labels: labels(&[("ignored", "")]),
        update_mask: mask(&["priority"]),
        ..base()
    });
    let job = priority.await.job.expect("a job");
    assert_eq!((job.priority, job.labels), (9, labels(&[("c", "3")])));
    let job = update(proto::UpdateJobRequest { update_mask: mask(&["*"]), ..base() }).await.job.expect("a job");
    assert_eq!((job.priority, job.labels.len(), job.version), (0, 0, 4));
}

#[tokio::test]
async fn a_new_priority_counts_from_then_on() {
    let server = Server::start().await;
    for (job_id, priority) in [("low", -5), ("middle", 0), ("high", 5)] {
        server.api.submit(proto::SubmitJobRequest { priority, ..new_job(job_id, Vec::new()) }).await;
    }
    let update = proto::UpdateJobRequest { job_id: "low".into(), priority: Some(100), ..Default::default() };
    ok(server.api.jobs().update_job(update).await);
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(server.api.lease("default").await.job_id);
    }
    assert_eq!(order, ["low", "high", "middle"]);
}

#[tokio::test]
async fn cancel_ends_unstarted_stages_at_once() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("a"), new_stage_after("b", &["a"])])).await;
    let response = ok(server.api.jobs().cancel_job(cancel("film", 30_000)).await);
    let job = response.job.expect("a job");
    assert_eq!((job.state(), response.applied, response.applied_version), (JobState::Cancelled, true, 2));
    assert_eq!((state_of(&job, "a"), state_of(&job, "b")), (StageState::Cancelled, StageState::Cancelled));
    assert_eq!(job.cancel_reason, "wrong film");
    assert!(job.end_time.is_some() && job.expire_time.is_some());
    assert_eq!(server.api.lease_now("default", 10).await, []);
    let again = ok(server.api.jobs().cancel_job(cancel("film", 0)).await);
    assert_eq!((again.applied, again.job.expect("a job").version), (false, 2));
}

#[tokio::test]
async fn cancel_reaches_holders_and_their_completion_counts() {
    let server = Server::start().await;
    let names = ["completes", "fails", "releases", "waits"];
    server.api.submit(new_job("film", names.map(new_stage).to_vec())).await;
    let leases = server.api.lease_now("default", 3).await;
    let lease = |name: &str| leases.iter().find(|lease| lease.stage_name == name).expect("leased");
    let job = ok(server.api.jobs().cancel_job(cancel("film", 20_000)).await).job.expect("a job");
    assert_eq!((job.state(), state_of(&job, "waits")), (JobState::Cancelling, StageState::Cancelled));
    let deadline = job.cancel_deadline_time.expect("a deadline");
    // The first grace stands.
    let again = ok(server.api.jobs().cancel_job(cancel("film", 0)).await);
    assert!(!again.applied);
    assert_eq!(again.job.expect("a job").cancel_deadline_time, Some(deadline));

    let status = server.api.renew_lease(lease("completes"), Some(0.5)).await;
    assert_eq!(status.directive(), LeaseDirective::Cancel);
    let expire = status.expire_time.expect("an end");
    assert!((expire.seconds, expire.nanos) <= (deadline.seconds, deadline.nanos), "not beyond the grace");
    let illegal = (Code::FailedPrecondition, "INVALID_TRANSITION");
    let pause = about(|it: &mut proto::PauseJobRequest| it.job_id = "film".into());
    refused(server.api.jobs().pause_job(pause).await, illegal.0, illegal.1);
    let resume = about(|it: &mut proto::ResumeJobRequest| it.job_id = "film".into());
    refused(server.api.jobs().resume_job(resume).await, illegal.0, illegal.1);
    let add = proto::AddStagesRequest {
        target: token(lease("completes")),
        stages: vec![new_stage("x")],
        ..Default::default()
    };
    refused(server.api.workers().add_stages(add).await, illegal.0, illegal.1);
    let with_more = proto::CompleteStageRequest {
        target: token(lease("completes")),
        add_stages: vec![new_stage("x")],
        ..Default::default()
    };
    refused(server.api.workers().complete_stage(with_more).await, illegal.0, illegal.1);

    let failed = server.api.fail(lease("fails"), failure(FailureClass::Network)).await.stage.expect("a stage");
    assert_eq!(failed.state(), StageState::Cancelled);
    let release = proto::ReleaseStageRequest { target: token(lease("releases")), ..Default::default() };
    let released = ok(server.api.workers().release_stage(release).await).stage.expect("a stage");
    assert_eq!(released.state(), StageState::Cancelled);
    assert_eq!(server.api.job("film").await.state(), JobState::Cancelling);
    server.api.complete(lease("completes"), json!({ "kept": true })).await;
    let job = server.api.job("film").await;
    assert_eq!(job.state(), JobState::Cancelled, "always, whatever completed");
    assert_eq!(stage(&job, "completes").state(), StageState::Succeeded);
    assert_eq!(stage(&job, "completes").artifacts, struct_of(json!({ "kept": true })));
}

#[tokio::test]
async fn leases_end_with_the_grace_of_a_cancel() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("a")])).await;
    let lease = server.api.lease_for("default", 1).await;
    ok(server.api.jobs().cancel_job(cancel("film", 300)).await);
    let job = server.api.job_in("film", JobState::Cancelled).await;
    assert_eq!((state_of(&job, "a"), stage(&job, "a").lease.clone()), (StageState::Cancelled, None));
    assert_eq!(server.api.renew_lease(&lease, None).await.directive(), LeaseDirective::Lost);
    let complete = proto::CompleteStageRequest { target: token(&lease), ..Default::default() };
    let status = server.api.workers().complete_stage(complete).await.expect_err("it is over");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(server.api.job("film").await, job);
}

#[tokio::test]
async fn leases_end_at_once_on_a_cancel_without_grace() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("a")])).await;
    let lease = server.api.lease("default").await;
    let job = ok(server.api.jobs().cancel_job(cancel("film", 0)).await).job.expect("a job");
    assert_eq!((job.state(), state_of(&job, "a")), (JobState::Cancelled, StageState::Cancelled));
    assert_eq!(server.api.renew_lease(&lease, None).await.directive(), LeaseDirective::Lost);
}

#[tokio::test]
async fn paused_job_is_not_leased_and_may_end() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("a"), new_stage("b"), new_stage_after("c", &["a"])])).await;
    let lease = server.api.lease_for("default", 30).await;
    let pause = about(|it: &mut proto::PauseJobRequest| it.job_id = "film".into());
    let response = ok(server.api.jobs().pause_job(pause.clone()).await);
    assert_eq!((response.applied, response.job.expect("a job").state()), (true, JobState::Paused));
    assert!(!ok(server.api.jobs().pause_job(pause).await).applied);
    assert_eq!(server.api.lease_now("default", 10).await, []);
    let start = proto::StartStageRequest {
        stage_ref: Some(proto::StageRef { job_id: "film".into(), stage_name: "b".into() }),
        ..Default::default()
    };
    refused(server.api.workers().start_stage(start).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    let status = server.api.renew_lease(&lease, Some(0.5)).await;
    assert_eq!((status.directive(), status.ttl.is_some()), (LeaseDirective::Pause, true));
    // Who holds a stage may finish it; what it makes ready waits for the end of the pause.
    server.api.complete(&lease, json!({})).await;
    assert_eq!(server.api.lease_now("default", 10).await, []);
    let resume = about(|it: &mut proto::ResumeJobRequest| it.job_id = "film".into());
    let response = ok(server.api.jobs().resume_job(resume.clone()).await);
    assert_eq!((response.applied, response.job.expect("a job").state()), (true, JobState::Running));
    assert!(!ok(server.api.jobs().resume_job(resume).await).applied);
    let leases = server.api.lease_now("default", 10).await;
    assert_eq!(leases.len(), 2);
    let pause = about(|it: &mut proto::PauseJobRequest| it.job_id = "film".into());
    ok(server.api.jobs().pause_job(pause).await);
    for lease in &leases {
        server.api.complete(lease, json!({})).await;
    }
    assert_eq!(server.api.job("film").await.state(), JobState::Succeeded, "all stages ended, so it has");
}

#[tokio::test]
async fn a_job_that_has_not_started_is_pending_after_its_pause() {
    let server = Server::start().await;
    server.api.submit(new_job("film", Vec::new())).await;
    ok(server.api.jobs().pause_job(about(|it: &mut proto::PauseJobRequest| it.job_id = "film".into())).await);
    // A worker that waits gets its stage when the pause ends.
    let waiting = tokio::spawn({
        let api = server.api.clone();
        async move { api.lease("default").await }
    });
    server.api.polls_wait(1).await;
    let resume = about(|it: &mut proto::ResumeJobRequest| it.job_id = "film".into());
    assert_eq!(ok(server.api.jobs().resume_job(resume).await).job.expect("a job").state(), JobState::Pending);
    assert_eq!(waiting.await.expect("no panic").attempt, 1);
}
