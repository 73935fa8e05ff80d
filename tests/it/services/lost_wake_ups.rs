//! Wake-ups of stages that wait for a permit and do not arrive: servers that crash, workers that are not there, holders that fall silent.

use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::proto;
use serde_json::json;

use crate::harness::*;

/// Far less than any wait that would show, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(8);

async fn submit(api: &Api, queue: &str, count: usize, claim: &proto::PermitClaim) {
    let stage = proto::StageSpec { queue: queue.to_owned(), permits: vec![claim.clone()], ..new_stage("s") };
    let job = |i| new_job(&format!("{queue}-{i}"), vec![stage.clone()]);
    let jobs = (0..count).map(job).collect();
    ok(api.jobs().batch_submit_jobs(proto::BatchSubmitJobsRequest { jobs, ..Default::default() }).await);
}

async fn all_wait(server: &Server, count: usize) {
    let waiting = format!("SELECT 'yes' FROM ready_stages HAVING count(blocked_on) = {count}");
    eventually("the line of stages", async || (!server.column(&waiting).await.is_empty()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_between_release_and_wake_up_is_made_good_by_other_servers() {
    let server = Server::start().await;
    let crashing = Program::with_failpoints(&server.database, "before_wake=return(crash)").await;
    let held = crashing.api.acquire("lock").await;
    submit(&server.api, "default", 3, &claim("lock")).await;
    assert!(server.api.lease_now("default", 3).await.is_empty());
    all_wait(&server, 3).await;
    let leasing = tokio::spawn({
        let api = server.api.clone();
        async move { api.lease("default").await }
    });
    server.api.polls_wait(1).await;
    let begin = Instant::now();
    // Its commit is durable, its answer may be lost.
    let _lost = crashing.api.permits().release_permit(release_of(&held)).await;
    assert_eq!(crashing.ended().await, None, "it was to crash");
    let lease = leasing.await.expect("no panic");
    println!("woken by another server after {:?}", begin.elapsed());
    assert!(begin.elapsed() < SOON);
    server.api.complete(&lease, json!({})).await;
    for _ in 1..3 {
        let lease = server.api.lease("default").await;
        server.api.complete(&lease, json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_without_a_place_in_their_wait_queue_are_found() {
    let server = Server::start().await;
    submit(&server.api, "default", 3, &claim("lock")).await;
    // As if a place had been given up while the stages came.
    let client = sql(server.database.url()).await;
    client.execute("UPDATE ready_stages SET blocked_on = resource_uid", &[]).await.expect("three rows");
    let begin = Instant::now();
    for _ in 0..3 {
        let lease = server.api.lease("default").await;
        server.api.complete(&lease, json!({})).await;
    }
    assert!(begin.elapsed() < SOON, "after {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_of_a_silent_worker_goes_to_a_stage_that_waits() {
    let server = Server::start().await;
    submit(&server.api, "default", 2, &claim("lock")).await;
    let silent = server.api.lease_for("default", 1).await;
    let next = server.api.lease("default").await;
    assert_ne!(next.job_id, silent.job_id);
    assert!(next.permits[0].fencing_token > silent.permits[0].fencing_token);
    // So does one of a caller.
    server.api.complete(&next, json!({})).await;
    let again = server.api.lease("default").await;
    server.api.complete(&again, json!({})).await;
    let short = proto::AcquirePermitRequest { ttl: seconds(1), ..patient(vec![claim("lock")]) };
    server.api.ask(short).await.expect("free");
    submit(&server.api, "late", 1, &claim("lock")).await;
    server.api.lease("late").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_stages_without_workers_cost_nothing_and_are_leased_when_a_worker_comes() {
    let server = Server::start().await;
    let api = &server.api;
    let held = api.acquire("lock").await;
    submit(api, "gone", 20, &claim("lock")).await;
    assert!(api.lease_now("gone", 20).await.is_empty());
    all_wait(&server, 20).await;
    api.release(&held).await;
    // Callers get it after a moment, and then at once.
    let first = api.acquire("lock").await;
    api.release(&first).await;
    let begin = Instant::now();
    for _ in 0..10 {
        let permit = api.ask(acquire_request(vec![claim("lock")])).await.expect("it is free");
        api.release(&permit).await;
    }
    assert!(begin.elapsed() < SOON);
    // A stage of another queue whose worker is there goes on too, however many are before it.
    submit(api, "here", 2, &claim("lock")).await;
    let held = api.acquire("lock").await;
    assert!(api.lease_now("here", 2).await.is_empty());
    let (lease, begin) = tokio::join!(api.lease("here"), async {
        api.polls_wait(1).await;
        api.release(&held).await;
        Instant::now()
    });
    println!("past stages without workers after {:?}", begin.elapsed());
    assert!(begin.elapsed() < SOON);
    api.complete(&lease, json!({})).await;
    let begin = Instant::now();
    let lease = api.lease("here").await;
    println!("the next one after {:?}", begin.elapsed());
    assert!(begin.elapsed() < SOON);
    api.complete(&lease, json!({})).await;
    // Their worker comes late.
    for _ in 0..20 {
        let lease = api.lease("gone").await;
        api.complete(&lease, json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_three_servers_share_a_limit_and_leave_no_stage_behind() {
    const STAGES: usize = 90;
    let a = Server::start().await;
    let servers = [&a, &a.beside().await, &a.beside().await];
    a.api.set_policy("api", capacity(3)).await;
    submit(&a.api, "default", STAGES, &claim("api")).await;
    let (left, running) = (std::sync::atomic::AtomicUsize::new(STAGES), std::sync::atomic::AtomicI64::new(0));
    let work = async |api: &Api| {
        use std::sync::atomic::Ordering::SeqCst;
        let mut done = 0;
        while left.load(SeqCst) > 0 {
            let poll = proto::LeaseStagesRequest { worker_id: "w".into(), wait: seconds(1), ..Default::default() };
            for lease in ok(api.workers().lease_stages(poll).await).leases {
                assert!(running.fetch_add(1, SeqCst) < 3, "more at once than the limit");
                tokio::task::yield_now().await;
                running.fetch_sub(1, SeqCst);
                api.complete(&lease, json!({})).await;
                left.fetch_sub(1, SeqCst);
                done += 1;
            }
        }
        done
    };
    let begin = Instant::now();
    let workers = servers.iter().flat_map(|server| [work(&server.api), work(&server.api)]);
    let done: Vec<usize> = tokio::time::timeout(PATIENCE, join_all(workers)).await.expect("in time");
    println!("{STAGES} stages in {:?}: {done:?}", begin.elapsed());
    assert_eq!(done.iter().sum::<usize>(), STAGES);
    let resource = a.api.resource("api").await;
    assert_eq!((resource.in_use, resource.grant_count), (0, i64::try_from(STAGES).expect("few")));
    let ready: Vec<String> = a.column("SELECT queue FROM ready_stages").await;
    assert!(ready.is_empty());
}
