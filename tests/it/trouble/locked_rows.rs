//! Foreign sessions hold what the server needs: rows, tables, connections.

use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::proto::{self, LeaseDirective};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::load::{health, reason};
use crate::harness::*;

/// Calls that are not blocked are answered within this, on a busy machine too.
const AT_ONCE: Duration = Duration::from_millis(1_500);
/// Ten seconds, and a machine with other things to do.
const ROUNDS: Duration = Duration::from_secs(20);

/// Changes a job; an error is its code and reason.
async fn prioritise(api: &Api, job_id: &str, priority: i32) -> (Result<i64, String>, Duration) {
    let request = proto::UpdateJobRequest {
        job_id: job_id.to_owned(),
        priority: Some(priority),
        update_mask: Some(prost_types::FieldMask { paths: texts(&["priority"]) }),
        ..Default::default()
    };
    let began = Instant::now();
    let answer = api.jobs().update_job(request).await;
    let answer = answer.map(|answer| answer.into_inner().applied_version).map_err(|status| reason(&status).0);
    (answer, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn row_locked_by_a_foreign_session_blocks_no_other_write() {
    let server = Server::start().await;
    let api = &server.api;
    for job_id in ["locked", "free"] {
        let stage = proto::StageSpec { queue: job_id.to_owned(), ..new_stage("s") };
        api.submit(new_job(job_id, vec![stage])).await;
    }
    let lease = api.lease("free").await;
    let foreign = sql(server.database.url()).await;
    let lock = "BEGIN; SELECT * FROM jobs WHERE job_id = 'locked' FOR UPDATE";

    // Locked for long: the write fails in bounded time.
    foreign.batch_execute(lock).await.expect("a lock");
    let held = prioritise(api, "locked", 5);
    let beside = async {
        let mut slowest = Duration::ZERO;
        for priority in 1..=100 {
            let (answer, took) = prioritise(api, "free", priority).await;
            assert!(answer.is_ok(), "{answer:?}");
            let began = Instant::now();
            assert_eq!(api.renew_lease(&lease, None).await.directive(), LeaseDirective::Continue);
            assert_eq!(api.job("locked").await.priority, 0, "reads see what is committed");
            slowest = slowest.max(took).max(began.elapsed());
            assert_eq!(health(api).await, ServingStatus::Serving);
        }
        slowest
    };
    let ((answer, took), slowest) = futures::join!(held, beside);
    println!("a held row: {answer:?} after {took:?}; beside it 100 writes, renewals and reads, slowest {slowest:?}");
    assert_eq!(answer, Err("Aborted CONFLICT".to_owned()));
    assert!(took < ROUNDS, "{took:?}");
    assert!(slowest < AT_ONCE, "{slowest:?}");
    foreign.batch_execute("ROLLBACK").await.expect("no lock");

    // Held for a while: the write goes through when the row is free.
    foreign.batch_execute(lock).await.expect("a lock");
    let release = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        foreign.batch_execute("ROLLBACK").await.expect("no lock");
        Instant::now()
    };
    let ((answer, took), _) = futures::join!(prioritise(api, "locked", 6), release);
    println!("a row held for 3 s: {answer:?} after {took:?}");
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(api.job("locked").await.priority, 6);
    assert!(took < Duration::from_secs(3) + AT_ONCE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_row_blocks_no_other_contended_row() {
    let server = Server::start().await;
    let other = server.beside().await;
    let api = &server.api;
    for job_id in ["locked", "shared"] {
        api.submit(new_job(job_id, vec![new_stage("s")])).await;
    }
    let foreign = sql(server.database.url()).await;
    foreign.batch_execute("BEGIN; SELECT * FROM jobs WHERE job_id = 'locked' FOR UPDATE").await.expect("a lock");
    // Both servers write the same job, so its writes go the contended way, where others wait for the held row.
    let held = async { join_all((1..=4).map(|priority| prioritise(api, "locked", priority))).await };
    let shared = async {
        let mut slowest = Duration::ZERO;
        for priority in 1..=60 {
            let server = if priority % 2 == 0 { api } else { &other.api };
            let (answer, took) = prioritise(server, "shared", priority).await;
            assert!(answer.is_ok(), "{answer:?}");
            slowest = slowest.max(took);
        }
        slowest
    };
    let (held, slowest) = futures::join!(held, shared);
    println!("{held:?}; contended writes beside them, slowest {slowest:?}");
    for (answer, took) in held {
        assert_eq!(answer, Err("Aborted CONFLICT".to_owned()));
        assert!(took < ROUNDS, "{took:?}");
    }
    // Once two seconds, until it is known which row is locked.
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_stops_neither_heartbeats_nor_writes() {
    let server = Server::with(|config| {
        config.pool_max = 2;
        config.pool_acquire_timeout = Duration::from_secs(2);
    })
    .await;
    let api = &server.api;
    api.submit(new_job("job", vec![new_stage("s")])).await;
    let lease = api.lease("default").await;
    let foreign = sql(server.database.url()).await;
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // Only those reads that return artifacts look there.
    foreign.batch_execute("BEGIN; LOCK TABLE stage_artifacts IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    let reads: Vec<_> = (0..20)
        .map(|i| {
            let api = api.clone();
            tokio::spawn(async move {
                let mut request =
                    tonic::Request::new(proto::GetJobRequest { job_id: "job".to_owned(), ..Default::default() });
                // Some go away, some wait as long as they may.
                request.set_timeout(Duration::from_secs(if i < 5 { 1 } else { 12 }));
                api.jobs().get_job(request).await.map(drop).map_err(|status| status.code())
            })
        })
        .collect();
    eventually("an exhausted pool", async || {
        let pool = api.statistics().await.pool.expect("a pool");
        (pool.connections == 2 && pool.idle == 0 && pool.waiting > 0).then_some(())
    })
    .await;
    // Longer than a namespace is believed, so that renewing it falls into this time.
    let until = Instant::now() + Duration::from_secs(11);
    let (mut renewals, mut slowest) = (0, Duration::ZERO);
    while Instant::now() < until {
        let began = Instant::now();
        assert_eq!(api.renew_lease(&lease, None).await.directive(), LeaseDirective::Continue);
        api.submit(new_job("", vec![new_stage("s")])).await;
        assert_eq!(health(api).await, ServingStatus::Serving);
        slowest = slowest.max(began.elapsed());
        renewals += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("with an exhausted pool: {renewals} heartbeats, writes and looks at health, slowest {slowest:?}");
    assert!(slowest < AT_ONCE, "{slowest:?}");
    let answers = join_all(reads).await;
    for answer in answers {
        let code = answer.expect("no panic").expect_err("blocked");
        // CANCELLED is the client's own word for its deadline.
        assert!([Code::DeadlineExceeded, Code::ResourceExhausted, Code::Cancelled].contains(&code), "{code:?}");
    }
    // Who has gone leaves nothing running, though the table is still locked.
    eventually("no read that waits in vain", async || {
        (foreign.query_one(blocked, &[]).await.expect("a row").get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    foreign.batch_execute("ROLLBACK").await.expect("no lock");
    let began = Instant::now();
    api.job("job").await;
    println!("reads are back after {:?}", began.elapsed());
    assert!(began.elapsed() < AT_ONCE);
    eventually("a whole pool", async || {
        let pool = api.statistics().await.pool.expect("a pool");
        (pool.idle == pool.connections && pool.waiting == 0).then_some(())
    })
    .await;
}

/// Enough for what is due by the clock, and far less than a call waits for a connection.
const DUE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_stops_neither_polls_nor_timers() {
    let server = Server::with(|config| config.pool_max = 2).await;
    let api = &server.api;
    api.submit(new_job("read", vec![new_stage("s")])).await;
    let foreign = sql(server.database.url()).await;
    // History is read up to days that have not come, into which nothing is written.
    let last = "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'job_events'::regclass";
    let last: String = foreign.query_one(last, &[]).await.expect("a partition").get(0);
    foreign.batch_execute(&format!("BEGIN; LOCK TABLE {last} IN ACCESS EXCLUSIVE MODE")).await.expect("a lock");
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move {
                let request = proto::ListJobEventsRequest { job_id: "read".to_owned(), ..Default::default() };
                api.jobs().list_job_events(request).await.map(drop)
            })
        })
        .collect();
    let exhausted = async || {
        let pool = api.statistics().await.pool.expect("a pool");
        (pool.connections == 2 && pool.idle == 0 && pool.waiting > 0).then_some(())
    };
    eventually("an exhausted pool", exhausted).await;
    let began = Instant::now();
    // A poll that waits gets what comes; its lease expires, and the stage goes to the next; and what was delayed starts.
    let stage = |queue: &str| proto::StageSpec { queue: queue.to_owned(), ..new_stage("s") };
    let (first, _) = futures::join!(api.lease_for("work", 1), api.submit(new_job("work", vec![stage("work")])));
    let second = api.lease("work").await;
    assert!(second.fencing_token > first.fencing_token);
    let soon = std::time::SystemTime::now() + Duration::from_secs(1);
    let delayed = proto::SubmitJobRequest { start_time: Some(soon.into()), ..new_job("late", vec![stage("late")]) };
    api.submit(delayed).await;
    api.lease("late").await;
    println!("leased, reaped, leased again and started late within {:?}", began.elapsed());
    assert!(began.elapsed() < DUE, "{:?}", began.elapsed());
    exhausted().await.expect("it was exhausted all the time");
    foreign.batch_execute("ROLLBACK").await.expect("no lock");
    for read in reads {
        read.await.expect("no panic").expect("history");
    }
}

/// Locks a table while some calls that need it wait and others are made. Returns how long the slowest of those others took. When the
/// table is free again, those that waited go on.
async fn beside<T>(
    server: &Server,
    (table, mode): (&str, &str),
    held: impl AsyncFn(usize) -> Result<T, tonic::Status>,
    free: impl AsyncFn(usize),
) -> Duration {
    let foreign = sql(server.database.url()).await;
    foreign.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN {mode} MODE")).await.expect("a lock");
    let free = async {
        let mut slowest = Duration::ZERO;
        for i in 0..30 {
            let began = Instant::now();
            free(i).await;
            slowest = slowest.max(began.elapsed());
        }
        foreign.batch_execute("ROLLBACK").await.expect("no lock");
        slowest
    };
    let (slowest, held) = futures::join!(free, join_all((0..3).map(|i| held(i))));
    for answer in held {
        // On a slow machine it was held for too long.
        answer.map_or_else(|status| assert_eq!(reason(&status).0, "Aborted CONFLICT"), drop);
    }
    println!("{table} held in {mode} mode: of the calls beside it the slowest took {slowest:?}");
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_table_of_records_blocks_neither_jobs_nor_heartbeats() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("leased", vec![new_stage("s")])).await;
    let lease = api.lease("default").await;
    api.update_record("0", vec![increment("n", 0.0)]).await;
    // One that is there and two that are new, so that nothing is learnt of any single row.
    let update = async |i: usize| {
        let request = update(&i.to_string(), vec![increment("n", 1.0)]);
        api.records().update_record(request).await
    };
    let call = async |_| {
        api.submit(new_job("", vec![new_stage("later")])).await;
        assert_eq!(api.renew_lease(&lease, None).await.directive(), LeaseDirective::Continue);
        assert_eq!(health(api).await, ServingStatus::Serving);
    };
    for mode in ["ACCESS EXCLUSIVE", "SHARE"] {
        let slowest = beside(&server, ("records", mode), update, call).await;
        assert!(slowest < AT_ONCE, "{slowest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_table_of_jobs_blocks_neither_records_nor_permits() {
    let server = Server::start().await;
    let api = &server.api;
    let submit = async |_| api.jobs().submit_job(new_job("", vec![new_stage("s")])).await;
    let call = async |i: usize| {
        api.update_record("free", vec![increment("n", 1.0)]).await;
        let permit = api.acquire(&format!("lock-{i}")).await;
        assert!(api.release(&permit).await);
        assert_eq!(health(api).await, ServingStatus::Serving);
    };
    for table in ["jobs", "stages"] {
        let slowest = beside(&server, (table, "ACCESS EXCLUSIVE"), submit, call).await;
        assert!(slowest < AT_ONCE, "{slowest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_audit_log_or_table_of_keys_blocks_only_its_writers() {
    let server = Server::start().await;
    let api = &server.api;
    let create = async |i: usize| {
        let name = format!("n-{i}-{}", unique());
        api.admin().create_namespace(proto::CreateNamespaceRequest { name, ..Default::default() }).await.map(drop)
    };
    let key = async |_| {
        let (label, roles, namespaces) = ("k".to_owned(), vec![proto::Role::Read as i32], texts(&["*"]));
        let request = proto::CreateKeyRequest { label, roles, namespaces, ..Default::default() };
        api.admin().create_key(request).await.map(drop)
    };
    let call = async |_| {
        api.submit(new_job("", vec![new_stage("s")])).await;
        api.update_record("free", vec![increment("n", 1.0)]).await;
        assert_eq!(health(api).await, ServingStatus::Serving);
    };
    let slowest = beside(&server, ("audit_events", "SHARE"), create, call).await;
    assert!(slowest < AT_ONCE, "{slowest:?}");
    let slowest = beside(&server, ("api_keys", "SHARE"), key, call).await;
    assert!(slowest < AT_ONCE, "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_table_of_permits_blocks_neither_jobs_nor_records() {
    let server = Server::start().await;
    let api = &server.api;
    let acquire =
        async |i: usize| api.permits().acquire_permit(acquire_request(vec![claim(&format!("lock-{i}"))])).await;
    let call = async |_| {
        api.submit(new_job("", vec![new_stage("s")])).await;
        api.update_record("free", vec![increment("n", 1.0)]).await;
        assert_eq!(health(api).await, ServingStatus::Serving);
    };
    let slowest = beside(&server, ("resources", "ACCESS EXCLUSIVE"), acquire, call).await;
    assert!(slowest < AT_ONCE, "{slowest:?}");
}
