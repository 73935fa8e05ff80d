//! A server that crashes, or loses its connection, exactly here or there: what was answered is stored, and a repeat is exact.

use std::time::{Duration, Instant};

use interlock::proto;
use tokio::process::Command;
use tonic::Code;

use super::load::reason;
use crate::harness::*;

/// After a crash, another server has the row as soon as Postgres has noticed.
const FREED: Duration = Duration::from_secs(10);

async fn count(api: &Api) -> usize {
    ok(api.jobs().list_jobs(proto::ListJobsRequest { page_size: 100, ..Default::default() }).await).jobs.len()
}

fn new_request() -> proto::SubmitJobRequest {
    proto::SubmitJobRequest { request_id: request_id(), ..new_job("", vec![new_stage("s")]) }
}

/// Two submits succeed; the reply to the third.
async fn third(api: &Api, request: &proto::SubmitJobRequest) -> Result<proto::SubmitJobResponse, tonic::Status> {
    for _ in 0..2 {
        ok(api.jobs().submit_job(new_request()).await);
    }
    api.jobs().submit_job(request.clone()).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_around_a_commit_applies_all_or_nothing_and_once() {
    for (failpoints, applied) in [
        ("before_commit=2*off->1*return(crash)", false),
        ("after_commit=2*off->1*return(crash)", true),
        ("before_reply=2*off->1*return(crash)", true),
        ("after_commit=2*off->1*return(lose);settle=return(crash)", true),
        ("before_commit=2*off->1*return(lose);settle=return(crash)", false),
    ] {
        let database = Database::fresh().await;
        let program = Program::with_failpoints(&database, failpoints).await;
        let request = new_request();
        let received = third(&program.api, &request).await;
        assert!(received.is_err(), "{failpoints}: {received:?}");
        assert_eq!(program.ended().await, None, "{failpoints}: it was to crash");
        let restarted = Program::start(&database).await;
        assert_eq!(count(&restarted.api).await, 2 + usize::from(applied), "{failpoints}");
        let first = ok(restarted.api.jobs().submit_job(request.clone()).await);
        assert_eq!((first.replayed, first.applied_version), (applied, 1), "{failpoints}");
        let again = ok(restarted.api.jobs().submit_job(request.clone()).await);
        assert!(again.replayed);
        assert_eq!(again.job.map(|job| job.job_id), first.job.map(|job| job.job_id), "{failpoints}");
        assert_eq!(count(&restarted.api).await, 3, "{failpoints}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcome_of_a_commit_is_resolved_after_a_lost_connection() {
    for failpoints in [
        "before_commit=2*off->1*return(lose)",
        "after_commit=2*off->1*return(lose)",
        "after_commit=2*off->1*return(lose);settle=5*return(lose)->off",
    ] {
        let database = Database::fresh().await;
        let program = Program::with_failpoints(&database, failpoints).await;
        let request = new_request();
        let received = third(&program.api, &request).await.expect("the outcome is found out");
        assert!(!received.replayed, "{failpoints}");
        assert_eq!(count(&program.api).await, 3, "{failpoints}");
        let again = ok(program.api.jobs().submit_job(request).await);
        assert_eq!((again.replayed, again.job), (true, received.job), "{failpoints}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_lane_ends_its_group_and_not_the_lane() {
    let database = Database::fresh().await;
    let program = Program::with_failpoints(&database, "before_commit=2*off->1*panic->off").await;
    let request = new_request();
    let status = third(&program.api, &request).await.expect_err("the third");
    assert_eq!(reason(&status), ("Unavailable OUTCOME_UNKNOWN".to_owned(), true));
    assert!(!ok(program.api.jobs().submit_job(request).await).replayed, "nothing had been sent");
    assert_eq!(count(&program.api).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn outcome_that_cannot_be_resolved_is_reported_as_unknown() {
    let database = Database::fresh().await;
    let failpoints = "after_commit=2*off->1*return(lose)->off;settle=return(lose)";
    let program = Program::with_failpoints(&database, failpoints).await;
    let request = new_request();
    let began = Instant::now();
    let status = third(&program.api, &request).await.expect_err("the outcome is unknown");
    println!("OUTCOME_UNKNOWN after {:?}", began.elapsed());
    assert_eq!(reason(&status), ("Unavailable OUTCOME_UNKNOWN".to_owned(), true));
    assert!(ok(program.api.jobs().submit_job(request).await).replayed, "the same request_id tells");
    assert_eq!(count(&program.api).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_contended_path_frees_the_rows() {
    for (failpoints, applied) in [
        ("after_lock=return(crash)", false),
        ("after_load=return(crash)", false),
        ("after_locked_commit=return(crash)", true),
        ("after_locked_commit=1*return(lose)", true),
    ] {
        let server = Server::start().await;
        server.api.submit(new_job("job", vec![new_stage("s")])).await;
        // The second write is sent the contended way.
        let places = format!("contend=1*off->1*return->off;{failpoints}");
        let program = Program::with_failpoints(&server.database, &places).await;
        let update = |priority| proto::UpdateJobRequest {
            job_id: "job".to_owned(),
            priority: Some(priority),
            request_id: request_id(),
            ..Default::default()
        };
        ok(program.api.jobs().update_job(update(1)).await);
        ok(server.api.jobs().update_job(update(2)).await);
        let last = update(3);
        let received = program.api.jobs().update_job(last.clone()).await;
        assert_eq!(received.is_ok(), failpoints.contains("lose"), "{failpoints}: {received:?}");
        let began = Instant::now();
        let (job, version) = (server.api.job("job").await, 3 + i64::from(applied));
        assert_eq!((job.priority, job.version), (if applied { 3 } else { 2 }, version), "{failpoints}");
        let again = ok(server.api.jobs().update_job(last).await);
        assert_eq!((again.replayed, again.applied_version), (applied, 4), "{failpoints}");
        ok(server.api.jobs().update_job(update(5)).await);
        println!("{failpoints}: the row is free after {:?}", began.elapsed());
        assert!(began.elapsed() < FREED);
        assert_eq!(server.api.job("job").await.version, 5, "{failpoints}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_commits_groups_in_flight() {
    let database = Database::fresh().await;
    let program = Program::with_failpoints(&database, "before_commit=2*off->1*sleep(5000)->off").await;
    let (api, request) = (program.api.clone(), new_request());
    let repeat = request.clone();
    let running = tokio::spawn(async move { third(&api, &request).await });
    // The third is asleep just before its commit: it was taken, and neither answered nor waiting.
    eventually("a commit under way", async || {
        let statistics = program.api.statistics().await;
        let submits = statistics.rpcs.iter().find(|rpc| rpc.method.ends_with("SubmitJob"))?;
        (submits.in_flight == 1 && submits.calls.get("OK") == Some(&2)).then_some(())
    })
    .await;
    program.terminate();
    let received = running.await.expect("no panic").expect("it is committed and answered");
    assert_eq!(program.ended().await, Some(0));
    let server = Server::over(database, |_| {}).await;
    let again = ok(server.api.jobs().submit_job(repeat).await);
    assert!(again.replayed);
    assert_eq!(again.job.map(|job| job.job_id), received.job.map(|job| job.job_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_migration_is_made_good_by_the_next() {
    for place in ["before_migration", "after_migration"] {
        let (database, _cluster) = Database::empty().await;
        let migrate = async |failpoints: String| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_interlock"));
            let command = command.arg("migrate").env("INTERLOCK_DATABASE_URL", database.url());
            command.env("FAILPOINTS", failpoints).output().await.expect("the program").status.code()
        };
        assert_eq!(migrate(format!("{place}=return(crash)")).await, None, "{place}: it was to crash");
        assert_eq!(migrate(String::new()).await, Some(0), "{place}");
        let server = Server::over(database.clone(), |_| {}).await;
        server.api.submit(new_job("job", vec![new_stage("s")])).await;
        let missing =
            server.api.jobs().get_job(proto::GetJobRequest { job_id: "none".to_owned(), ..Default::default() }).await;
        refused(missing, Code::NotFound, "JOB_NOT_FOUND");
    }
}
