//! A database that says nothing: a network that swallows everything, a Postgres that is stopped, hosts of which one is away.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use interlock::dev::{Durability, Postgres};
use interlock::proto;
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::load::Load;
use crate::harness::*;

const CALLERS: usize = 16;
/// Ten seconds for which an outcome is looked for, what leads to it, and a machine with other things to do.
const BOUND: Duration = Duration::from_secs(25);

/// What callers receive while the database does not respond: that nothing was applied, in bounded time.
async fn refuses(api: &Api) {
    let began = Instant::now();
    let mut read = tonic::Request::new(proto::GetJobRequest { job_id: "any".to_owned(), ..Default::default() });
    read.set_timeout(2 * BOUND);
    let mut write = tonic::Request::new(new_job("refused", vec![new_stage("s")]));
    write.set_timeout(2 * BOUND);
    let (mut jobs, mut others) = (api.jobs(), api.jobs());
    let (read, write) = futures::join!(jobs.get_job(read), others.submit_job(write));
    refused(read, Code::Unavailable, "STORE_UNAVAILABLE");
    refused(write, Code::Unavailable, "STORE_UNAVAILABLE");
    println!("a read and a write were refused within {:?}", began.elapsed());
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}

/// Ends the callers: only what was under way when the database fell silent may be unknown.
async fn end(load: Load, after: &str) {
    let received = load.end(after).await;
    assert!(received.unknown.len() <= CALLERS, "{} unknown", received.unknown.len());
    assert!(received.slowest < BOUND, "{:?}", received.slowest);
    assert!(received.errors.keys().any(|error| error.contains("STORE_UNAVAILABLE")), "no caller noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything_is_noticed_and_survived() {
    let database = Database::fresh().await;
    let proxy = Proxy::to(&database).await;
    let server = Server::through(database, &proxy.url, |_| {}).await;
    let load = Load::start(&server.api, CALLERS).await;
    let began = Instant::now();
    proxy.set(Mode::Swallow);
    load.health_is(ServingStatus::NotServing).await;
    println!("health tells of the silence after {:?}", began.elapsed());
    refuses(&server.api).await;
    // Nothing that was connected comes back to life.
    proxy.set(Mode::Pass);
    load.recovery("a network that passes again").await;
    end(load, "swallowed").await;
}

/// All processes of a Postgres stand still until they go on.
pub(super) struct Stopped(Vec<Pid>);

impl Stopped {
    pub(super) fn stop(postgres: &Postgres) -> Stopped {
        let postmaster = postgres.pid().expect("it runs");
        // First the one that starts others.
        signal(Pid::from_raw(postmaster).expect("a process"), Signal::STOP);
        let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
        let children = children.expect("its children");
        let children = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        let all: Vec<Pid> = Pid::from_raw(postmaster).into_iter().chain(children).collect();
        all.iter().skip(1).for_each(|pid| signal(*pid, Signal::STOP));
        Stopped(all)
    }

    pub(super) fn go_on(self) {
        self.0.iter().rev().for_each(|pid| signal(*pid, Signal::CONT));
    }
}

/// One that has ended meanwhile hears nothing.
fn signal(pid: Pid, signal: Signal) {
    let _gone = kill_process(pid, signal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_stands_still_is_noticed_and_survived() {
    let (database, cluster) = Database::on_own_cluster(Durability::Full).await;
    let server = Server::over(database, |_| {}).await;
    let load = Load::start(&server.api, CALLERS).await;
    let began = Instant::now();
    let stopped = Stopped::stop(cluster.postgres());
    load.health_is(ServingStatus::NotServing).await;
    println!("health tells of the standstill after {:?}", began.elapsed());
    refuses(&server.api).await;
    stopped.go_on();
    load.recovery("a Postgres that goes on").await;
    end(load, "stood still").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_database_is_asked_at_a_bounded_rate() {
    const AWAY: Duration = Duration::from_secs(5);
    let database = Database::fresh().await;
    let proxy = Proxy::to(&database).await;
    let server = Server::through(database, &proxy.url, |_| {}).await;
    let load = Load::start(&server.api, CALLERS).await;
    proxy.cut_to(Mode::Refuse);
    load.health_is(ServingStatus::NotServing).await;
    let (before, began) = (proxy.connections(), Instant::now());
    tokio::time::sleep(AWAY).await;
    let attempts = proxy.connections() - before;
    let per_second = attempts as f64 / began.elapsed().as_secs_f64();
    println!("{CALLERS} callers of a server without a database: {per_second:.0} connection attempts a second");
    // Each of some dozen connections about once a second; callers try fifty times as often.
    assert!(attempts > 0 && per_second < 40.0, "{per_second}");
    proxy.set(Mode::Pass);
    load.recovery("a database that is there again").await;
    load.end("not hammered").await;
}

/// The URL of a database at two hosts, the first of which is asked first.
fn at_both(proxy: &Proxy, first: SocketAddr, second: SocketAddr) -> String {
    proxy.url.replace(&proxy.address.to_string(), &format!("{first},{second}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reachable_one_of_several_hosts_is_used() {
    let database = Database::fresh().await;
    let proxy = Proxy::to(&database).await;
    let silent = Proxy::to(&database).await;
    silent.set(Mode::Swallow);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    for first in [gone, silent.address] {
        let began = Instant::now();
        let server = Server::through(database.clone(), &at_both(&proxy, first, proxy.address), |_| {}).await;
        let job = server.api.submit(new_job("", vec![new_stage("s")])).await;
        assert_eq!(server.api.job(&job.job_id).await.stages.len(), 1);
        println!("over the second host after {:?}", began.elapsed());
        assert!(began.elapsed() < BOUND);
        eventually("a healthy server", async || {
            (super::load::health(&server.api).await == ServingStatus::Serving).then_some(())
        })
        .await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_among_several_hosts_is_used_even_when_it_changes() {
    let (database, first) = Database::on_own_cluster(Durability::None).await;
    let (other, second) = Database::on_own_cluster(Durability::None).await;
    let set = async |postgres: &Postgres, value: &str| {
        let admin = sql(&postgres.database_url()).await;
        admin.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).await.expect("set");
        admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    };
    set(first.postgres(), "on").await;
    let (a, b) = (Proxy::to(&database).await, Proxy::to(&other).await);
    let url = at_both(&a, a.address, b.address);
    // The schema is there on both; a test's database has the same name in each cluster.
    let server = Server::through(other.clone(), &url, |_| {}).await;
    let count = async |database: &Database| {
        let rows = sql(database.url()).await.query_one("SELECT count(*) FROM jobs", &[]).await;
        rows.expect("a row").get::<_, i64>(0)
    };
    server.api.submit(new_job("", vec![new_stage("s")])).await;
    assert_eq!((count(&database).await, count(&other).await), (0, 1));
    set(second.postgres(), "on").await;
    set(first.postgres(), "off").await;
    let began = Instant::now();
    eventually("a write to the other host", async || {
        server.api.jobs().submit_job(new_job("", vec![new_stage("s")])).await.ok()
    })
    .await;
    println!("the other host takes writes after {:?}", began.elapsed());
    assert_eq!((count(&database).await, count(&other).await), (1, 1));
}
