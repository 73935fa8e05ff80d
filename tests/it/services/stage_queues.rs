//! Stages that wait for a permit: they cost nothing, hide nothing, and go on in order when there is room.

use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::proto::{self, BreakerState, FailureClass};
use serde_json::json;

use crate::harness::*;

/// Far less than any wait that would show, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(4);

/// A stage that needs permits.
fn needs(claims: Vec<proto::PermitClaim>) -> proto::StageSpec {
    proto::StageSpec { permits: claims, retry_policy: Some(at_once(3)), ..new_stage("s") }
}

/// Jobs of one stage each, which all need a resource.
async fn submit(api: &Api, name: &str, count: usize, claim: &proto::PermitClaim) {
    let job = |i| new_job(&format!("{name}-{i}"), vec![needs(vec![claim.clone()])]);
    let jobs = (0..count).map(job).collect();
    ok(api.jobs().batch_submit_jobs(proto::BatchSubmitJobsRequest { jobs, ..Default::default() }).await);
}

async fn one(server: &Server, query: &str) -> String {
    server.column(query).await.pop().unwrap_or_default()
}

/// Waits until so many stages stand in lines, and no others are ready.
async fn all_wait(server: &Server, count: usize) {
    let waiting = format!("SELECT 'yes' FROM ready_stages HAVING count(blocked_on) = {count} AND count(*) = {count}");
    eventually("the line of stages", async || (one(server, &waiting).await == "yes").then_some(())).await;
}

/// Every row of ready stages and resources, with the transaction that wrote it.
async fn written(server: &Server) -> String {
    let stages = "SELECT md5(coalesce(string_agg(ctid::text || xmin::text, ',' ORDER BY job_uid, stage_no), '')) FROM ready_stages";
    let resources = "SELECT md5(string_agg(ctid::text || xmin::text, ',' ORDER BY resource_uid)) FROM resources";
    format!("{} {}", one(server, stages).await, one(server, resources).await)
}

async fn runs(api: &Api, name: &str) -> i64 {
    let loops = api.statistics().await.loops;
    loops.iter().find(|figures| figures.name == name).expect("a loop").runs
}

/// Waits until the loops that look after lines have come by several times.
async fn loops_come_by(api: &Api) {
    let (lines, due) = (runs(api, "stage_lines").await, runs(api, "permit_reaper").await);
    eventually("the loops", async || {
        let are_there = runs(api, "stage_lines").await >= lines + 4 && runs(api, "permit_reaper").await >= due + 4;
        are_there.then_some(())
    })
    .await;
}

async fn pause(api: &Api, job_id: &str, paused: bool) {
    let job_id = job_id.to_owned();
    if paused {
        ok(api.jobs().pause_job(proto::PauseJobRequest { job_id, ..Default::default() }).await);
    } else {
        ok(api.jobs().resume_job(proto::ResumeJobRequest { job_id, ..Default::default() }).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_stages_cause_no_commit_and_hide_no_other_stage() {
    const WAITING: usize = 2_000;
    let server = Server::start().await;
    let api = &server.api;
    let held = api.acquire("lock").await;
    for part in 0..4 {
        submit(api, &format!("part-{part}"), WAITING / 4, &claim("lock")).await;
    }
    api.submit(new_job("free", vec![new_stage("s")])).await;
    // The first worker meets them all: not one commit for each of them.
    let groups = "SELECT count(*)::text FROM write_groups";
    let before: usize = one(&server, groups).await.parse().expect("a number");
    let begin = Instant::now();
    let lease = api.lease("default").await;
    println!("past {WAITING} stages that were never tried: {:?}", begin.elapsed());
    assert_eq!(lease.job_id, "free");
    api.complete(&lease, json!({})).await;
    all_wait(&server, WAITING).await;
    let after: usize = one(&server, groups).await.parse().expect("a number");
    assert!(after - before < 100, "{} commits", after - before);
    // A worker polls all the time, and nothing is written.
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { api.lease("default").await }
    });
    api.polls_wait(1).await;
    let rows = written(&server).await;
    loops_come_by(api).await;
    assert_eq!(written(&server).await, rows, "they wait, and that is all");
    // What needs nothing passes them at once, and what needs the same waits behind them from the beginning.
    let begin = Instant::now();
    api.submit(new_job("free-again", vec![new_stage("s")])).await;
    let lease = waiting.await.expect("no panic");
    println!("past {WAITING} stages that wait: {:?}", begin.elapsed());
    assert_eq!(lease.job_id, "free-again");
    submit(api, "late", 10, &claim("lock")).await;
    all_wait(&server, WAITING + 10).await;
    let rows = written(&server).await;
    assert!(api.lease_now("default", 100).await.is_empty());
    assert_eq!(written(&server).await, rows);
    // When it is free they go on, the first one first.
    api.release(&held).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        let lease = api.lease("default").await;
        order.push(lease.job_id.clone());
        api.complete(&lease, json!({})).await;
    }
    assert!(order.iter().all(|job_id| job_id.starts_with("part-0")), "{order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_wait_queues_of_many_resources_cost_nothing_and_all_proceed() {
    const LOCKS: usize = 100;
    let server = Server::start().await;
    let api = &server.api;
    let names: Vec<String> = (0..LOCKS).map(|i| format!("lock-{i}")).collect();
    let held = join_all(names.iter().map(async |name| api.acquire(name).await)).await;
    for name in &names {
        submit(api, name, 3, &claim(name)).await;
    }
    for _ in 0..3 {
        assert!(api.lease_now("default", 100).await.is_empty());
    }
    all_wait(&server, 3 * LOCKS).await;
    let rows = written(&server).await;
    loops_come_by(api).await;
    assert_eq!(written(&server).await, rows);
    join_all(held.iter().map(|permit| api.release(permit))).await;
    for _ in 0..3 * LOCKS {
        let lease = api.lease("default").await;
        api.complete(&lease, json!({})).await;
    }
    eventually("no place in any line", async || {
        let left = "SELECT count(*)::text FROM resources WHERE state -> 'stages' IS NOT NULL AND state #> '{stages,wake}' IS NULL";
        (one(&server, left).await == "0").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_grants_blocked_stages_in_order_and_in_few_commits() {
    const STAGES: usize = 60;
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", rate(20, 1_000, 1)).await;
    for i in 0..STAGES {
        api.submit(new_job(&format!("job-{i:03}"), vec![needs(vec![claim("api")])])).await;
    }
    let groups = "SELECT count(*)::text FROM write_groups";
    let before: usize = one(&server, groups).await.parse().expect("a number");
    let begin = Instant::now();
    let mut order = Vec::new();
    for _ in 0..STAGES {
        order.push(api.lease_for("default", 600).await.job_id);
    }
    let took = begin.elapsed();
    let after: usize = one(&server, groups).await.parse().expect("a number");
    println!("{STAGES} stages in {took:?}, {} commits", after - before);
    assert!(order.is_sorted(), "{order:?}");
    assert!(took >= Duration::from_millis(2_900), "the rate holds");
    assert!(after - before < 6 * STAGES, "{} commits", after - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn breaker_grants_one_blocked_stage_as_a_probe_and_then_all() {
    let server = Server::start().await;
    let api = &server.api;
    let breaker =
        proto::CircuitBreaker { failure_threshold: Some(1), open_duration: millis(500), ..Default::default() };
    api.set_policy("api", proto::ResourcePolicy { breaker: Some(breaker), ..capacity(10) }).await;
    let permit = api.ask(acquire_request(vec![claim("api")])).await.expect("closed");
    api.release_failed(&permit, FailureClass::ServerError).await;
    submit(api, "job", 8, &claim("api")).await;
    assert!(api.lease_now("default", 8).await.is_empty(), "it is open");
    all_wait(&server, 8).await;
    let probe = api.lease("default").await;
    assert_eq!(api.resource("api").await.breaker_state(), BreakerState::HalfOpen);
    assert!(api.lease_now("default", 8).await.is_empty(), "one probe");
    // It fails, and so does the wait of the others begin again.
    api.fail(&probe, failure(FailureClass::ServerError)).await;
    assert_eq!(api.resource("api").await.breaker_state(), BreakerState::Open);
    let probe = api.lease("default").await;
    api.complete(&probe, json!({})).await;
    let leases = join_all((0..7).map(|_| api.lease("default"))).await;
    assert_eq!(api.resource("api").await.in_use, 7);
    assert_eq!(leases.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_limit_is_used_at_once() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", capacity(1)).await;
    submit(api, "job", 10, &claim("api")).await;
    assert_eq!(api.lease_now("default", 10).await.len(), 1);
    all_wait(&server, 9).await;
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { join_all((0..4).map(|_| api.lease("default"))).await }
    });
    api.polls_wait(4).await;
    let begin = Instant::now();
    api.set_policy("api", capacity(5)).await;
    assert_eq!(waiting.await.expect("no panic").len(), 4);
    println!("used after {:?}", begin.elapsed());
    assert!(begin.elapsed() < SOON);
    assert_eq!(api.resource("api").await.in_use, 5);
    all_wait(&server, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claim_beyond_the_capacity_waits_for_another_policy_and_blocks_no_other() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", capacity(4)).await;
    let held = api.ask(acquire_request(vec![claim("api")])).await.expect("room");
    submit(api, "big", 1, &amount("api", 4)).await;
    assert!(api.lease_now("default", 1).await.is_empty());
    api.set_policy("api", capacity(2)).await;
    api.release(&held).await;
    submit(api, "small", 3, &claim("api")).await;
    for _ in 0..3 {
        let lease = api.lease("default").await;
        assert!(lease.job_id.starts_with("small"), "{}", lease.job_id);
        api.complete(&lease, json!({})).await;
    }
    // The last release may still be followed up.
    loops_come_by(api).await;
    let rows = written(&server).await;
    loops_come_by(api).await;
    assert_eq!(written(&server).await, rows, "it waits, and that is all");
    let begin = Instant::now();
    api.set_policy("api", capacity(4)).await;
    assert_eq!(api.lease("default").await.job_id, "big-0");
    assert!(begin.elapsed() < SOON, "after {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_jobs_can_be_paused_cancelled_and_prioritised() {
    let server = Server::start().await;
    let api = &server.api;
    let held = api.acquire("lock").await;
    for name in ["a", "b", "c", "d", "e"] {
        api.submit(new_job(name, vec![needs(vec![claim("lock")])])).await;
    }
    assert!(api.lease_now("default", 5).await.is_empty());
    all_wait(&server, 5).await;
    pause(api, "a", true).await;
    ok(api.jobs().cancel_job(proto::CancelJobRequest { job_id: "b".into(), ..Default::default() }).await);
    let update =
        |priority| proto::UpdateJobRequest { job_id: "d".into(), priority: Some(priority), ..Default::default() };
    ok(api.jobs().update_job(update(10)).await);
    all_wait(&server, 3).await;
    api.release(&held).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        let lease = api.lease("default").await;
        order.push(lease.job_id.clone());
        if order.len() == 1 {
            // It waits again, behind those that are there.
            pause(api, "a", false).await;
        }
        api.complete(&lease, json!({})).await;
    }
    assert_eq!(order, ["d", "c", "e"]);
    assert_eq!(api.lease("default").await.job_id, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_behind_a_cancelled_one_get_the_free_capacity() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", capacity(4)).await;
    let held = api.ask(acquire_request(vec![claim("api")])).await.expect("room");
    submit(api, "big", 1, &amount("api", 4)).await;
    assert!(api.lease_now("default", 1).await.is_empty());
    submit(api, "small", 2, &claim("api")).await;
    // They may have been leased before the first was tried; what waits is behind it.
    let before = api.lease_now("default", 2).await.len();
    ok(api.jobs().cancel_job(proto::CancelJobRequest { job_id: "big-0".into(), ..Default::default() }).await);
    for _ in before..2 {
        api.lease("default").await;
    }
    // Callers too, behind a place that was left.
    let late = api.ask(patient(vec![claim("api")])).await.expect("room");
    api.release(&late).await;
    api.release(&held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_and_stages_are_served_in_the_order_of_their_arrival() {
    let server = Server::start().await;
    let api = &server.api;
    let held = api.acquire("lock").await;
    submit(api, "job", 3, &claim("lock")).await;
    assert!(api.lease_now("default", 3).await.is_empty());
    all_wait(&server, 3).await;
    let (received, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let worker = tokio::spawn({
        let (api, received) = (api.clone(), received.clone());
        async move {
            for _ in 0..3 {
                let lease = api.lease("default").await;
                received.send("stage").expect("the test goes on");
                api.complete(&lease, json!({})).await;
            }
        }
    });
    api.polls_wait(1).await;
    let mut callers = Vec::new();
    for waiting in 1..=2 {
        let (api, received) = (api.clone(), received.clone());
        callers.push(tokio::spawn(async move {
            let permit = api.acquire("lock").await;
            received.send("caller").expect("the test goes on");
            api.release(&permit).await;
        }));
        server.api.waits_for("lock", waiting).await;
    }
    api.release(&held).await;
    for task in callers.into_iter().chain([worker]) {
        tokio::time::timeout(PATIENCE, task).await.expect("in time").expect("no panic");
    }
    let mut order = Vec::new();
    while let Ok(who) = heard.try_recv() {
        order.push(who);
    }
    assert_eq!(order, ["stage", "caller", "caller", "stage", "stage"]);
}
