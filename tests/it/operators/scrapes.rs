//! Figures after real work: they are those of GetStatistics, and each thing was counted once.

use std::net::SocketAddr;

use interlock::proto::{self, FailureClass, JobState};
use serde_json::json;
use tonic::Code;

use super::exposition::{Scrape, ask, scrape};
use crate::harness::*;

/// Waits until a scrape shows something.
pub async fn scrape_where(address: SocketAddr, what: &str, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    eventually(what, async || Some(scrape(address).await).filter(&holds)).await
}

fn in_queue(name: &str, queue: &str, max_attempts: i32) -> proto::StageSpec {
    let policy = proto::RetryPolicy { initial_backoff: millis(20), ..at_once(max_attempts) };
    proto::StageSpec { queue: queue.to_owned(), retry_policy: Some(policy), ..new_stage(name) }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_retries_and_jobs_are_counted_by_queue_state_and_class() {
    let server = Server::start().await;
    let (api, port) = (&server.api, server.operators_port().await);
    api.submit(new_job("film", vec![in_queue("voice", "voices", 3)])).await;
    api.fail(&api.lease("voices").await, failure(FailureClass::Network)).await;
    api.complete(&api.lease("voices").await, json!({})).await;
    api.submit(new_job("flop", vec![in_queue("voice", "voices", 1)])).await;
    api.fail(&api.lease("voices").await, failure(FailureClass::ServerError)).await;
    api.submit(new_job("silent", vec![in_queue("voice", "quiet", 2)])).await;
    api.lease_for("quiet", 1).await;
    let again = api.lease("quiet").await;
    let release = proto::ReleaseStageRequest { target: token(&again), ..Default::default() };
    ok(api.workers().release_stage(release).await);
    api.job_in("flop", JobState::Failed).await;

    let is_named = |scrape: &Scrape| scrape.sum("interlock_attempts_ended_total", &[("queue", "voices")]) > 0.0;
    let scrape = scrape_where(port, "the name of the namespace", is_named).await;
    let ended = |queue, state, class| {
        let labels = [("namespace", "default"), ("queue", queue), ("state", state), ("class", class)];
        scrape.count("interlock_attempts_ended_total", &labels)
    };
    assert_eq!(ended("voices", "failed", "network"), 1.0);
    assert_eq!(ended("voices", "failed", "server_error"), 1.0);
    assert_eq!(ended("voices", "succeeded", ""), 1.0);
    assert_eq!(ended("quiet", "failed", "lease_expired"), 1.0);
    assert_eq!(ended("quiet", "released", ""), 1.0);
    assert_eq!(scrape.sum("interlock_attempts_ended_total", &[]), 5.0);
    assert_eq!(scrape.value("interlock_attempts_started_total", &[]), 5.0);
    assert_eq!(scrape.sum("interlock_attempt_duration_seconds_count", &[]), 5.0);
    assert!(
        scrape.value("interlock_attempt_duration_seconds_sum", &[("state", "failed")]) >= 1.0,
        "the lease of a second"
    );
    assert_eq!(scrape.value("interlock_leases_expired_total", &[]), 1.0);
    for (class, count) in [("network", 1.0), ("lease_expired", 1.0), ("server_error", 0.0)] {
        assert_eq!(scrape.value("interlock_retries_total", &[("class", class)]), count, "{class}");
        assert_eq!(scrape.value("interlock_retry_wait_seconds_count", &[("class", class)]), count, "{class}");
    }
    let waited = scrape.value("interlock_retry_wait_seconds_sum", &[("class", "network")]);
    assert!((0.019..0.021).contains(&waited), "{waited}");
    assert_eq!(scrape.value("interlock_jobs_submitted_total", &[]), 3.0);
    assert_eq!(scrape.value("interlock_jobs_ended_total", &[("state", "failed")]), 1.0);
    assert_eq!(scrape.value("interlock_jobs_ended_total", &[("state", "succeeded")]), 1.0);
    let queue = |queue| [("namespace", "default"), ("queue", queue)];
    assert_eq!(scrape.value("interlock_ready_wait_seconds_count", &queue("voices")), 3.0);
    assert_eq!(scrape.value("interlock_ready_wait_seconds_count", &queue("quiet")), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_those_of_get_statistics() {
    let server = Server::start().await;
    let (api, port) = (&server.api, server.operators_port().await);
    for i in 0..10 {
        api.submit(new_job(&format!("film-{i}"), vec![new_stage("voice")])).await;
        api.complete(&api.lease("default").await, json!({})).await;
    }
    let get = proto::GetJobRequest { job_id: "ghost".to_owned(), ..Default::default() };
    let refusal = api.jobs().get_job(get.clone()).await.expect_err("no such job");
    assert!(!format!("{refusal:?}").contains("counted-reason"), "it stays in the server: {refusal:?}");
    refused(api.jobs().get_job(get).await, Code::NotFound, "JOB_NOT_FOUND");
    let held = api.acquire("doc").await;
    api.ask(acquire_request(vec![claim("doc")])).await.expect_err("it is held");
    api.release(&held).await;

    let before = api.statistics().await;
    let scrape = scrape(port).await;
    let after = api.statistics().await;
    let figure = |value: i64| value as f64;
    for rpc in after.rpcs.iter().filter(|rpc| !rpc.method.ends_with("/GetStatistics")) {
        for (code, count) in &rpc.calls {
            let labels = [("method", &*rpc.method), ("code", &**code)];
            assert_eq!(scrape.value("interlock_rpc_handled_total", &labels), figure(*count), "{labels:?}");
        }
        let labels = [("method", &*rpc.method)];
        let latency = rpc.latency.as_ref().expect("a latency");
        assert_eq!(scrape.value("interlock_rpc_duration_seconds_count", &labels), figure(latency.count));
        assert_eq!(scrape.value("interlock_rpc_in_flight", &labels), figure(rpc.in_flight));
    }
    assert_eq!(scrape.value("interlock_refusals_total", &[("reason", "JOB_NOT_FOUND")]), 2.0);
    // What goes on by itself lies between the two.
    let between = |name: &str, was: i64, is: i64| {
        let value = scrape.sum(name, &[]);
        assert!((figure(was)..=figure(is)).contains(&value), "{name}: {was} ≤ {value} ≤ {is}");
    };
    let (was, is) = (before.writer.expect("figures"), after.writer.expect("figures"));
    assert!(was.operations >= 20 && was.groups >= 20);
    between("interlock_groups_total", was.groups, is.groups);
    between("interlock_operations_total", was.operations, is.operations);
    between("interlock_conflicts_total", was.conflicts, is.conflicts);
    between("interlock_operations_rejected_total", was.rejected, is.rejected);
    let (was, is) = (before.cache.expect("figures"), after.cache.expect("figures"));
    between("interlock_cache_hits_total", was.hits, is.hits);
    between("interlock_cache_misses_total", was.misses, is.misses);
    let (was, is) = (before.feed.expect("figures"), after.feed.expect("figures"));
    between("interlock_changes_told_total", was.changes_sent, is.changes_sent);
    between("interlock_hints_received_total", was.hints_received, is.hints_received);
    let (was, is) = (before.permits.expect("figures"), after.permits.expect("figures"));
    between("interlock_permits_granted_total", was.granted, is.granted);
    between("interlock_permits_denied_total", was.denied.values().sum(), is.denied.values().sum());
    assert_eq!(scrape.value("interlock_permits_denied_total", &[("reason", "HELD")]), 1.0);
    for figures in &after.loops {
        let was = before.loops.iter().find(|was| was.name == figures.name).expect("the same loops");
        let runs = scrape.value("interlock_loop_runs_total", &[("loop", &figures.name)]);
        assert!((figure(was.runs)..=figure(figures.runs)).contains(&runs), "{figures:?} {runs}");
    }
    let pool = after.pool.expect("figures");
    assert_eq!(scrape.value("interlock_pool_max_connections", &[("pool", "reads")]), figure(pool.max_connections));
    for (name, at_least) in [("queue_wait_seconds", 20.0), ("commit_duration_seconds", 20.0), ("group_size", 20.0)] {
        let count = scrape.sum(&format!("interlock_{name}_count"), &[]);
        assert!(count >= at_least, "{name}: {count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_written_through_two_servers_is_counted_once() {
    const JOBS: usize = 60;
    let one = Server::start().await;
    let two = one.beside().await;
    let ports = [one.operators_port().await, two.operators_port().await];
    // Both decide on the same jobs at once, so that many decisions are taken again.
    let submit = |i: usize| {
        let api = if i.is_multiple_of(2) { &one.api } else { &two.api };
        api.submit(new_job(
            &format!("film-{i}"),
            vec![in_queue("voice", "voices", 1), in_queue("picture", "voices", 1)],
        ))
    };
    futures::future::join_all((0..JOBS).map(submit)).await;
    let work = |api: Api| async move {
        while let Some(lease) = api.lease_now("voices", 1).await.pop() {
            api.complete(&lease, json!({})).await;
        }
    };
    let workers = [&one, &two, &one, &two, &one, &two].map(|server| work(server.api.clone()));
    futures::future::join_all(workers).await;
    eventually("all jobs", async || {
        let done = one.column("SELECT count(*)::text FROM jobs WHERE state = 5").await;
        (done == [JOBS.to_string()]).then_some(())
    })
    .await;
    let mut sums = [0.0; 4];
    for port in ports {
        let shown = |scrape: &Scrape| scrape.sum("interlock_attempts_ended_total", &[]) > 0.0;
        let scrape = scrape_where(port, "attempts on both servers", shown).await;
        let names = ["jobs_submitted", "jobs_ended", "attempts_started", "attempts_ended"];
        for (sum, name) in sums.iter_mut().zip(names) {
            *sum += scrape.sum(&format!("interlock_{name}_total"), &[]);
        }
    }
    let jobs = JOBS as f64;
    assert_eq!(sums, [jobs, jobs, 2.0 * jobs, 2.0 * jobs]);
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_and_their_lag_are_counted() {
    let server = Server::start().await;
    let (api, port) = (&server.api, server.operators_port().await);
    api.submit(new_job("film", vec![new_stage("voice")])).await;
    let mut watch = Watch::begin(api, "film", 0).await.expect("a watch");
    scrape_where(port, "the watcher", |scrape| scrape.value("interlock_watchers", &[]) == 1.0).await;
    let lease = api.lease("default").await;
    api.complete(&lease, json!({})).await;
    while watch.try_next().await.expect("no error").is_some() {}
    drop(watch);
    let scrape = scrape_where(port, "its end", |scrape| scrape.value("interlock_watchers", &[]) == 0.0).await;
    assert!(scrape.value("interlock_watch_lag_seconds_count", &[]) >= 1.0);
    assert!(scrape.value("interlock_watch_lag_seconds_sum", &[]) < 30.0);
    assert!(scrape.value("interlock_changes_told_total", &[]) >= 1.0);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = Server::start().await;
    let port = server.operators_port().await;
    for path in ["/", "/metrics/", "/metrics/x", "/debug", "/healthz2"] {
        assert_eq!(ask(port, "GET", path).await.status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = ask(port, method, "/metrics").await;
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.headers.contains("allow: get, head"), "{}", answer.headers);
    }
    let head = ask(port, "HEAD", "/metrics").await;
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(ask(port, "GET", "/metrics?name=x").await.status, 200);
    assert_eq!(ask(port, "GET", "/healthz").await.body, "alive\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_database() {
    let database = Database::fresh().await;
    let proxy = Proxy::to(&database).await;
    let server = Server::through(database, &proxy.url, |_| {}).await;
    let port = server.operators_port().await;
    let becomes = async |status: u16, up: f64| {
        eventually("readiness", async || (ask(port, "GET", "/readyz").await.status == status).then_some(())).await;
        let scrape = scrape(port).await;
        assert_eq!(scrape.value("interlock_ready", &[]), up);
        assert_eq!(scrape.value("interlock_database_up", &[]), up);
        assert_eq!(ask(port, "GET", "/healthz").await.status, 200, "the process lives");
        scrape
    };
    let connects = becomes(200, 1.0).await.value("interlock_database_connects_total", &[]);
    proxy.cut_to(Mode::Refuse);
    becomes(503, 0.0).await;
    proxy.set(Mode::Pass);
    let scrape = becomes(200, 1.0).await;
    assert!(scrape.value("interlock_database_connects_total", &[]) > connects);
    assert!(scrape.value("interlock_database_connect_failures_total", &[]) >= 1.0);
    server.begin_stop();
    eventually("the drain", async || (ask(port, "GET", "/readyz").await.status == 503).then_some(())).await;
}
