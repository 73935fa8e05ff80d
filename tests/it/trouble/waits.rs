//! A wait ends in time: within a second after `wait`, whatever the database does.

use std::fmt::Display;
use std::time::{Duration, Instant};

use interlock::dev::Durability;
use interlock::proto;
use tonic::{Request, Status};
use uuid::Uuid;

use super::absent::Stopped;
use super::load::reason;
use crate::harness::*;

const WAIT: Duration = Duration::from_secs(2);
/// A wait ends within a second after its time; the rest is for a busy machine.
const IN_TIME: Duration = Duration::from_secs(3);
/// The deadline of the calls, far beyond.
const DEADLINE: Duration = Duration::from_secs(30);

fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

fn poll(queue: &str, request_id: Option<String>) -> Request<proto::LeaseStagesRequest> {
    with_deadline(proto::LeaseStagesRequest {
        worker_id: "worker".to_owned(),
        queues: texts(&[queue]),
        wait: seconds(WAIT.as_secs()),
        request_id,
        ..Default::default()
    })
}

fn acquire_request_for(resource: &str) -> Request<proto::AcquirePermitRequest> {
    with_deadline(proto::AcquirePermitRequest {
        wait: seconds(WAIT.as_secs()),
        ..acquire_request(vec![claim(resource)])
    })
}

fn end_of(job_id: &str) -> Request<proto::WaitJobRequest> {
    with_deadline(proto::WaitJobRequest { job_id: job_id.to_owned(), wait: seconds(WAIT.as_secs()) })
}

/// Its result, which has to be there in time.
async fn in_time<T>(what: impl Display, call: impl Future<Output = Result<T, Status>>) -> Result<T, String> {
    let began = Instant::now();
    let answer = call.await.map_err(|status| reason(&status).0);
    let took = began.elapsed();
    println!("{what}: {took:?}, {:?}", answer.as_ref().err());
    assert!(took < IN_TIME, "{what} took {took:?}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_end_in_time_while_postgres_does_not_respond() {
    let (database, cluster) = Database::on_own_cluster(Durability::None).await;
    let server = Server::over(database, |_| {}).await;
    let api = &server.api;
    api.submit(new_job("job", vec![new_stage("s")])).await;
    let held = api.acquire("held").await;
    let repeated = Some(Uuid::new_v4().to_string());
    let call = async || {
        let (mut workers, mut again) = (api.workers(), api.workers());
        let (mut permits, mut more, mut jobs) = (api.permits(), api.permits(), api.jobs());
        let leased = in_time("LeaseStages", workers.lease_stages(poll("other", None)));
        let repeated = in_time("LeaseStages, repeatable", again.lease_stages(poll("other", repeated.clone())));
        let held = in_time("AcquirePermit, held", permits.acquire_permit(acquire_request_for("held")));
        let free = in_time("AcquirePermit, free", more.acquire_permit(acquire_request_for("free")));
        let waited = in_time("WaitJob", jobs.wait_job(end_of("job")));
        futures::join!(leased, repeated, held, free, waited)
    };
    {
        // While they wait.
        let beginning = async {
            api.polls_wait(2).await;
            Stopped::stop(cluster.postgres())
        };
        let (_calls, stopped) = futures::join!(call(), beginning);
        // And before.
        let _calls = call().await;
        stopped.go_on();
    }
    // What was granted meanwhile went back.
    api.release(&held).await;
    eventually("the lock", async || api.ask(acquire_request(vec![claim("held")])).await.ok()).await;
    api.lease("default").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_end_in_time_while_rows_are_held() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("job", vec![new_stage("s")])).await;
    let permit = api.acquire("lock").await;
    api.release(&permit).await;
    let foreign = sql(server.database.url()).await;
    let lock = "BEGIN; SELECT FROM jobs FOR UPDATE; SELECT FROM resources FOR UPDATE";
    foreign.batch_execute(lock).await.expect("locks");
    let (mut workers, mut permits, mut jobs) = (api.workers(), api.permits(), api.jobs());
    let (leased, acquired, waited) = futures::join!(
        in_time("LeaseStages", workers.lease_stages(poll("default", None))),
        in_time("AcquirePermit", permits.acquire_permit(acquire_request_for("lock"))),
        in_time("WaitJob", jobs.wait_job(end_of("job"))),
    );
    assert_eq!(leased.expect("no error").into_inner().leases, []);
    let error = acquired.map(drop).expect_err("the lock cannot be granted");
    assert_eq!(error, "Unavailable OUTCOME_UNKNOWN");
    assert!(!waited.expect("no error").into_inner().terminal);
    foreign.batch_execute("ROLLBACK").await.expect("no locks");
    // Neither the stage nor the lock went to a call that has ended.
    assert_eq!(api.lease("default").await.job_id, "job");
    eventually("the lock", async || api.ask(acquire_request(vec![claim("lock")])).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_end_in_time_while_tables_are_held() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("job", vec![new_stage("s")])).await;
    let foreign = sql(server.database.url()).await;
    for table in ["jobs", "leases", "job_documents", "ready_stages", "requests", "resources"] {
        foreign.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await.expect("a lock");
        let repeated = Some(Uuid::new_v4().to_string());
        let (mut workers, mut again, mut permits, mut jobs) = (api.workers(), api.workers(), api.permits(), api.jobs());
        let _answers = futures::join!(
            in_time(format!("LeaseStages, {table}"), workers.lease_stages(poll("default", None))),
            in_time(format!("LeaseStages repeatable, {table}"), again.lease_stages(poll("default", repeated))),
            in_time(format!("AcquirePermit, {table}"), permits.acquire_permit(acquire_request_for(table))),
            in_time(format!("WaitJob, {table}"), jobs.wait_job(end_of("job"))),
        );
        foreign.batch_execute("ROLLBACK").await.expect("no locks");
    }
}
