//! Background work with several servers: one at a time does it, and another takes over when that one is gone.

use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::proto::{self, JobEventType};

use crate::harness::*;

/// Enough that two servers at work would both get hold of some.
const STAGES: usize = 40;
/// A leadership lasts three seconds and is renewed each second; the rest is for a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// How much a background loop of a server dealt with.
async fn items(api: &Api, name: &str) -> i64 {
    let statistics = api.statistics().await;
    statistics.loops.iter().find(|found| found.name == name).expect("a loop of that name").items
}

/// Lets all leases of a job with many stages expire: how often history says so, and how long it took after their end.
async fn expire(api: &Api, job_id: &str) -> (usize, Duration) {
    let queue = format!("queue-{job_id}");
    let stages = (0..STAGES).map(|i| proto::StageSpec { queue: queue.clone(), ..new_stage(&format!("s{i}")) });
    api.submit(new_job(job_id, stages.collect())).await;
    // They end one after the other, so that whoever looks finds some.
    let polls = (0..STAGES).map(|i| proto::LeaseStagesRequest {
        worker_id: "silent".to_owned(),
        queues: vec![queue.clone()],
        wait: seconds(10),
        lease_duration: millis(1_000 + 30 * i as i64),
        ..Default::default()
    });
    let polls = polls.map(|request| async move { ok(api.workers().lease_stages(request).await).leases.len() });
    assert_eq!(join_all(polls).await.iter().sum::<usize>(), STAGES);
    let ends = Instant::now() + Duration::from_secs(1) + STAGES as u32 * Duration::from_millis(30);
    api.job_where(job_id, "all leases reaped", |job| {
        job.stages.iter().all(|stage| stage.state() != proto::StageState::Running)
    })
    .await;
    let took = Instant::now().saturating_duration_since(ends);
    let events = api.events(job_id).await;
    let expired = events.iter().filter(|event| event.event_type() == JobEventType::LeaseExpired);
    (expired.count(), took)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_servers_does_the_background_work() {
    let one = Server::start().await;
    let two = one.beside().await;
    let mut expired = 0;
    for round in 0..3 {
        expired += expire(&one.api, &format!("job-{round}")).await.0;
    }
    assert_eq!(expired, 3 * STAGES, "each lease expires once");
    let reaped = [items(&one.api, "reaper").await, items(&two.api, "reaper").await];
    assert_eq!(reaped.iter().sum::<i64>(), 3 * STAGES as i64);
    assert!(reaped.contains(&0), "both were at work: {reaped:?}");
    let mut conflicts = 0;
    for server in [&one, &two] {
        conflicts += server.api.statistics().await.writer.expect("a writer").conflicts;
    }
    println!("{STAGES} leases, three times: reaped {reaped:?}, {conflicts} conflicts");
    assert!(conflicts <= 5, "{conflicts} conflicts");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_takes_over_the_background_work_of_a_killed_one() {
    let database = Database::fresh().await;
    let (one, two) = (Program::start(&database).await, Program::start(&database).await);
    expire(&one.api, "before").await;
    let one_works = items(&one.api, "reaper").await > 0;
    let (works, rests) = if one_works { (one, two) } else { (two, one) };
    assert_eq!(items(&rests.api, "reaper").await, 0);
    works.kill().await;
    let (expired, took) = expire(&rests.api, "after").await;
    println!("taken over from a killed server {took:?} after the leases' end");
    assert_eq!(expired, STAGES);
    assert!(took < TAKEN_OVER, "{took:?}");
    assert_eq!(items(&rests.api, "reaper").await, STAGES as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_ends_gives_up_its_leadership() {
    let one = Server::start().await;
    let url = one.database.url().to_owned();
    let client = sql(&url).await;
    let holder = async || {
        let rows = client.query("SELECT server FROM turns WHERE until > clock_timestamp()", &[]).await.expect("rows");
        rows.first().map(|row| row.get::<_, uuid::Uuid>(0))
    };
    let first = eventually("a leader", holder).await;
    let two = one.beside().await;
    let _database = one.stop().await;
    let stopped = Instant::now();
    eventually("another leader", async || holder().await.filter(|now| *now != first)).await;
    println!("taken over from a stopped server after {:?}", stopped.elapsed());
    assert!(stopped.elapsed() < Duration::from_millis(2_500), "it did not wait for the end of the lease");
    two.stop().await;
}
