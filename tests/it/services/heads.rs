//! How ready stages are found: in order, by several servers, behind what was taken already, and among the dead rows of a long drain.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::proto::{self, StageSpec};
use serde_json::json;

use crate::harness::*;
use crate::operators::exposition::scrape;

fn prioritized(job_id: &str, priority: i32) -> proto::SubmitJobRequest {
    proto::SubmitJobRequest { priority, ..new_job(job_id, Vec::new()) }
}

async fn submit(api: &Api, prefix: &str, jobs: usize) {
    let requests = (0..jobs).map(|i| new_job(&format!("{prefix}-{i:05}"), Vec::new())).collect::<Vec<_>>();
    for requests in requests.chunks(500) {
        join_all(requests.iter().cloned().map(|request| api.submit(request))).await;
    }
}

fn ids(leases: &[proto::Lease]) -> Vec<&str> {
    leases.iter().map(|lease| &*lease.job_id).collect()
}

/// Takes and completes everything that is ready; the jobs in order.
async fn drain(api: &Api, max_stages: i32) -> Vec<String> {
    let mut done = Vec::new();
    loop {
        let leases = api.lease_now("default", max_stages).await;
        if leases.is_empty() {
            return done;
        }
        assert!(leases.iter().all(|lease| lease.attempt == 1), "leased twice");
        join_all(leases.iter().map(|lease| api.complete(lease, json!({})))).await;
        done.extend(leases.into_iter().map(|lease| lease.job_id));
    }
}

#[tokio::test]
async fn stages_that_become_ready_before_the_taken_ones_are_found_at_once() {
    let server = Server::start().await;
    let api = &server.api;
    for i in 0..20 {
        api.submit(new_job(&format!("job-{i:02}"), Vec::new())).await;
    }
    assert_eq!(ids(&api.lease_now("default", 2).await), ["job-00", "job-01"]);
    // A higher priority, from the start, by an update, and after a failure.
    api.submit(prioritized("urgent", 5)).await;
    assert_eq!(ids(&api.lease_now("default", 1).await), ["urgent"]);
    let raise = proto::UpdateJobRequest { job_id: "job-19".into(), priority: Some(7), ..Default::default() };
    ok(api.jobs().update_job(raise).await);
    let raised = api.lease_now("default", 2).await;
    assert_eq!(ids(&raised), ["job-19", "job-02"]);
    let release = proto::ReleaseStageRequest {
        target: Some(proto::StageTarget::leased(raised[0].lease_token.clone())),
        ..Default::default()
    };
    ok(api.workers().release_stage(release).await);
    assert_eq!(ids(&api.lease_now("default", 1).await), ["job-19"]);
    // What a pause took out of the queue comes back with the resumption.
    ok(api.jobs().pause_job(proto::PauseJobRequest { job_id: "job-03".into(), ..Default::default() }).await);
    assert_eq!(ids(&api.lease_now("default", 1).await), ["job-04"]);
    ok(api.jobs().resume_job(proto::ResumeJobRequest { job_id: "job-03".into(), ..Default::default() }).await);
    let rest = drain(api, 7).await;
    assert_eq!((rest.len(), rest.contains(&"job-03".to_owned())), (15, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_made_ready_by_another_server_are_found_before_the_next_regular_read() {
    let a = Server::start().await;
    for listen_notify in [true, false] {
        let b = Server::over(a.database.clone(), |config| config.listen_notify = listen_notify).await;
        submit(&b.api, &format!("job-{listen_notify}"), 10).await;
        assert_eq!(b.api.lease_now("default", 5).await.len(), 5);
        // Before all that B knows. A poll that is served from memory need not see it, one that comes a moment later does.
        let job_id = format!("urgent-{listen_notify}");
        a.api.submit(prioritized(&job_id, 9)).await;
        let began = Instant::now();
        eventually("the urgent job", async || {
            let leases = b.api.lease_now("default", 1).await;
            let found = leases.iter().any(|lease| lease.job_id == job_id);
            for lease in leases.iter().filter(|_| !found) {
                let target = Some(proto::StageTarget::leased(lease.lease_token.clone()));
                ok(b.api.workers().release_stage(proto::ReleaseStageRequest { target, ..Default::default() }).await);
            }
            found.then_some(())
        })
        .await;
        println!("listen_notify = {listen_notify}: found after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        drain(&b.api, 100).await;
        b.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_share_a_queue_and_lose_few_races() {
    const JOBS: usize = 1_500;
    let a = Server::start().await;
    let (b, c) = (a.beside().await, a.beside().await);
    // Until each knows the others.
    let ports = join_all([&a, &b, &c].map(Server::operators_port)).await;
    for port in &ports {
        eventually("the greetings", async || {
            let greeted = scrape(*port).await.count("interlock_loop_items_total", &[("loop", "presence")]);
            (greeted >= 5.0).then_some(())
        })
        .await;
    }
    submit(&a.api, "job", JOBS).await;
    let began = Instant::now();
    let workers = (0..12).map(|i| drain(&[&a, &b, &c][i % 3].api, 10));
    let shares: Vec<Vec<String>> = join_all(workers).await;
    let done: Vec<&String> = shares.iter().flatten().collect();
    assert_eq!((done.len(), done.iter().collect::<BTreeSet<_>>().len()), (JOBS, JOBS));
    let lost = ports.iter().map(async |port| scrape(*port).await.value("interlock_lease_races_lost_total", &[]));
    let lost: f64 = join_all(lost).await.iter().sum();
    println!("{JOBS} stages on three servers in {:?}, {lost} races lost", began.elapsed());
    // Polls that do not wait take what is left, whoever prefers it: that is where most are lost.
    assert!(lost <= JOBS as f64 / 4.0, "{lost} of {JOBS}");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_drain_does_not_read_over_leased_stages() {
    const JOBS: usize = 3_000;
    let server = Server::start().await;
    submit(&server.api, "job", JOBS).await;
    // As long as this is open no dead row can be removed.
    let other = sql(server.database.url()).await;
    other.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM jobs LIMIT 1").await.expect("a snapshot");
    let began = Instant::now();
    assert_eq!(drain(&server.api, 20).await.len(), JOBS);
    let took = began.elapsed().as_secs_f64();
    other.batch_execute("COMMIT").await.expect("it is open");
    let read = eventually("statistics of the index", async || {
        let read = "SELECT idx_tup_read::text FROM pg_stat_user_indexes WHERE indexrelname = 'ready_stages_pick'";
        let read: f64 = server.column(read).await[0].parse().expect("a number");
        (read >= JOBS as f64).then_some(read)
    })
    .await;
    println!("{JOBS} stages in {} polls and {took:.1} s: {read} index entries were read", JOBS / 20);
    // From the front each of the polls would walk over half of them: 225,000. Twice a second the queue is read from its front all the same.
    let allowed = (10.0 + 2.0 * took) * JOBS as f64;
    assert!(read < allowed, "{read} of {allowed}");
}

#[tokio::test]
async fn leases_from_many_queues_are_in_one_order_and_read_only_what_they_return() {
    const QUEUES: usize = 100;
    let server = Server::start().await;
    let api = &server.api;
    let names: Vec<String> = (0..QUEUES).map(|i| format!("queue-{i:03}")).collect();
    let mut order = BTreeMap::new();
    for round in 0..4 {
        for (i, queue) in names.iter().enumerate().filter(|(i, _)| i % (round + 1) == 0) {
            let (job_id, priority) = (format!("{queue}-{round}"), i32::from(i == 7) + i32::from(round == 3));
            let stage = StageSpec { queue: queue.clone(), ..new_stage("main") };
            api.submit(proto::SubmitJobRequest { priority, ..new_job(&job_id, vec![stage]) }).await;
            order.insert((-priority, order.len()), job_id);
        }
    }
    // All of one queue come first.
    for i in 0..60 {
        let stage = StageSpec { queue: names[42].clone(), ..new_stage("main") };
        let job_id = format!("first-{i}");
        api.submit(proto::SubmitJobRequest { priority: 100, ..new_job(&job_id, vec![stage]) }).await;
        order.insert((-100, order.len()), job_id);
    }
    let poll = proto::LeaseStagesRequest {
        worker_id: "worker".into(),
        queues: names.clone(),
        max_stages: 100,
        ..Default::default()
    };
    let mut leased = Vec::new();
    loop {
        let leases = ok(api.workers().lease_stages(poll.clone()).await).leases;
        if leases.is_empty() {
            break;
        }
        leased.extend(leases.into_iter().map(|lease| lease.job_id));
    }
    assert_eq!(leased, order.into_values().collect::<Vec<_>>());
    let port = server.operators_port().await;
    let read = scrape(port).await.value("interlock_ready_stages_read_total", &[]);
    assert!(read <= 4.0 * leased.len() as f64, "{read} stages were read for {}", leased.len());
}

/// A look must not end a call without a wait whose queues it did not look at.
#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_wait_find_what_is_ready_however_many_arrive_at_once() {
    const QUEUES: usize = 1_000;
    let server = Server::start().await;
    let api = &server.api;
    let queue = |i: usize| format!("queue-{i}");
    let stage = |i: usize| StageSpec { queue: queue(i), ..new_stage(&format!("stage-{i}")) };
    api.submit(new_job("film", (0..QUEUES).map(stage).collect())).await;
    for some in (0..QUEUES).collect::<Vec<_>>().chunks(100) {
        let leases = join_all(some.iter().map(|i| async { api.lease_now(&queue(*i), 1).await.len() })).await;
        assert!(leases.iter().all(|leases| *leases == 1), "{leases:?}");
    }
}
