//! Postgres goes away, comes back, refuses, and is slow.

use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::dev::Durability;
use interlock::proto::LeaseDirective;
use tonic_health::pb::health_check_response::ServingStatus;

use super::load::{Load, health};
use crate::harness::*;

const CALLERS: usize = 16;
/// Beyond the waits that the server allows itself.
const BOUND: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_and_a_crash_of_postgres_are_survived() {
    let (database, cluster) = Database::on_own_cluster(Durability::Full).await;
    let server = Server::over(database, |_| {}).await;
    for (how, is_crash) in [("after a restart", false), ("after a crash", true)] {
        let load = Load::start(&server.api, CALLERS).await;
        if is_crash {
            cluster.postgres().kill().await;
        } else {
            cluster.postgres().stop().await;
        }
        load.health_is(ServingStatus::NotServing).await;
        cluster.postgres().start_again().await.expect("it starts");
        load.recovery(how).await;
        let received = load.end(how).await;
        assert!(received.errors.keys().any(|error| error.contains("STORE_UNAVAILABLE")), "no caller noticed");
        assert!(received.slowest < BOUND, "{:?}", received.slowest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terminated_backends_are_replaced() {
    let server = Server::start().await;
    let admin = sql(server.database.url()).await;
    let load = Load::start(&server.api, CALLERS).await;
    let mut ended = 0;
    for _ in 0..10 {
        let backends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        ended += admin.query(backends, &[]).await.expect("a superuser").len();
        load.goes_on().await;
    }
    load.recovery("after the last termination").await;
    println!("{ended} backends terminated");
    assert!(ended >= 20, "{ended}");
    load.end("terminated backends").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_database_is_reported_and_recovered_from() {
    let (database, cluster) = Database::on_own_cluster(Durability::None).await;
    let server = Server::over(database, |_| {}).await;
    let admin = sql(&cluster.postgres().database_url()).await;
    let set = async |value: &str| {
        admin.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).await.expect("set");
        admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    };
    let load = Load::start(&server.api, CALLERS).await;
    set("on").await;
    load.health_is(ServingStatus::NotServing).await;
    let request = new_job("refused", vec![new_stage("s")]);
    let answer = server.api.jobs().submit_job(request).await;
    refused(answer, tonic::Code::Unavailable, "STORE_UNAVAILABLE");
    // ALTER SYSTEM itself is no transaction that writes.
    set("off").await;
    load.recovery("writable again").await;
    let received = load.end("read-only").await;
    assert!(received.unknown.is_empty(), "a refusal is no lost commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_without_a_primary_is_reported_as_taking_no_writes() {
    let (database, cluster) = Database::on_own_cluster(Durability::Full).await;
    let url = database.url().to_owned();
    let server = Server::over(database, |_| {}).await;
    server.api.submit(new_job("before", vec![new_stage("s")])).await;
    let postgres = cluster.postgres();
    postgres.stop().await;
    std::fs::write(postgres.data_dir().join("cluster/standby.signal"), "").expect("a file");
    postgres.start_again().await.expect("it starts");
    eventually("the reply to callers", async || {
        let status =
            server.api.jobs().submit_job(new_job("refused", vec![new_stage("s")])).await.expect_err("a standby");
        assert_eq!(super::load::reason(&status), ("Unavailable STORE_UNAVAILABLE".to_owned(), false));
        (status.message() == "the database takes no writes").then_some(())
    })
    .await;
    eventually("health", async || (health(&server.api).await == ServingStatus::NotServing).then_some(())).await;
    // The error names the host.
    let config = interlock::config::Config::default();
    let started = interlock::app::start(&config, &url, tokio_util::sync::CancellationToken::new()).await;
    let said = format!("{:#}", started.err().expect("it does not start"));
    let host = postgres.data_dir().join("socket");
    assert!(said.contains(&format!("the database takes no writes at {}:5432", host.display())), "{said}");
    let promote = sql(&url).await.batch_execute("SELECT pg_promote()").await;
    promote.expect("promoted");
    eventually("a write", async || {
        server.api.jobs().submit_job(new_job("after", vec![new_stage("s")])).await.ok().map(drop)
    })
    .await;
    let before = interlock::proto::GetJobRequest { job_id: "before".to_owned(), ..Default::default() };
    eventually("a read", async || server.api.jobs().get_job(before.clone()).await.ok().map(drop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn panic_of_postgres_during_a_commit_is_outcome_unknown_and_not_internal() {
    let (database, cluster) = Database::on_own_cluster(Durability::Full).await;
    let server = Server::over(database, |_| {}).await;
    server.api.submit(new_job("before", vec![new_stage("s")])).await;
    let postgres = cluster.postgres();
    let admin = sql(&postgres.database_url()).await;
    // Only commits write the log, so that it is one that finds no room for the next file of it.
    for setting in ["wal_writer_delay = '10s'", "bgwriter_delay = '10s'"] {
        admin.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.expect("set");
    }
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    let log = postgres.data_dir().join("cluster/pg_wal");
    let allow =
        |mode| std::fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("ours");
    allow(0o500);
    admin.batch_execute("SELECT pg_switch_wal()").await.expect("the file is full");
    let api = server.api.clone();
    let submitted = tokio::spawn(async move { api.jobs().submit_job(new_job("during", vec![new_stage("s")])).await });
    eventually("the panic", async || {
        let said = std::fs::read_to_string(postgres.log()).expect("a log");
        said.contains("PANIC").then_some(())
    })
    .await;
    allow(0o700);
    eventually("a Postgres that recovered", async || {
        if postgres.pid().is_none() {
            // It came to the recovery before there was room again.
            postgres.start_again().await.ok()?;
        }
        tokio_postgres::connect(&postgres.database_url(), tokio_postgres::NoTls).await.ok().map(drop)
    })
    .await;
    // The outcome is looked up, and what was not committed is committed then.
    ok(submitted.await.expect("no panic"));
    for job_id in ["before", "during"] {
        let request = interlock::proto::GetJobRequest { job_id: job_id.to_owned(), ..Default::default() };
        eventually("a read", async || server.api.jobs().get_job(request.clone()).await.ok().map(drop)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_slows_writes_and_nothing_else() {
    const COMMIT: Duration = Duration::from_millis(100);
    let (database, cluster) = Database::on_own_cluster(Durability::Full).await;
    let server = Server::over(database, |_| {}).await;
    let admin = sql(&cluster.postgres().database_url()).await;
    server.api.submit(new_job("leased", vec![new_stage("s")])).await;
    let lease = server.api.lease("default").await;
    admin.batch_execute("ALTER SYSTEM SET commit_delay = 100000").await.expect("set");
    admin.batch_execute("ALTER SYSTEM SET commit_siblings = 0").await.expect("set");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    eventually("slow commits", async || {
        let began = Instant::now();
        server.api.submit(new_job("", vec![new_stage("s")])).await;
        (began.elapsed() >= COMMIT).then_some(())
    })
    .await;
    let began = Instant::now();
    let writes = join_all((0..256).map(|i| server.api.submit(new_job(&format!("w{i}"), vec![new_stage("s")]))));
    let beside = async {
        let began = Instant::now();
        server.api.job("leased").await;
        let read = began.elapsed();
        assert_eq!(server.api.renew_lease(&lease, None).await.directive(), LeaseDirective::Continue);
        (read, began.elapsed())
    };
    let (_, (read, heartbeat)) = futures::join!(writes, beside);
    let took = began.elapsed();
    println!("256 writes at 100 ms a commit: {took:?}; a read {read:?}, a heartbeat {heartbeat:?}, at the same time");
    assert!(took < 256 * COMMIT / 4, "writes share commits: {took:?}");
    assert!(heartbeat < BOUND);
    assert_eq!(health(&server.api).await, ServingStatus::Serving);
}
