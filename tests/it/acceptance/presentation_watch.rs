//! Presentation jobs, watched: five at once, each seen live by three clients on two servers, while a worker is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use interlock::proto::{self, JobEventType, JobState, StageState};
use serde_json::json;

use crate::harness::*;

const PRESENTATIONS: usize = 5;
const CLIENTS: usize = 3;

fn id(i: usize) -> String {
    format!("presentation-{i}")
}

fn presentation(i: usize) -> proto::SubmitJobRequest {
    let slides = (0..4).map(|slide| new_stage(&format!("slide-{slide}")));
    let avatar = proto::StageSpec { weight: Some(3.0), ..new_stage("avatar") };
    let video = new_stage_after("video", &["slide-0", "slide-1", "slide-2", "slide-3", "avatar"]);
    new_job(&id(i), slides.chain([avatar, video]).collect())
}

/// One that runs every stage until it is stopped; with a lease as short as is allowed, so that its death is noticed.
async fn worker(api: Api, done: Arc<AtomicBool>, leased: Arc<AtomicUsize>) {
    while !done.load(Ordering::Relaxed) {
        let request = proto::LeaseStagesRequest {
            worker_id: "worker".to_owned(),
            queues: vec!["default".to_owned()],
            max_stages: 2,
            wait: millis(200),
            lease_duration: seconds(1),
            ..Default::default()
        };
        let leases = ok(api.workers().lease_stages(request).await).leases;
        leased.fetch_add(leases.len(), Ordering::Relaxed);
        for lease in leases {
            for step in 1..=20 {
                api.renew_lease(&lease, Some(f64::from(step) / 20.0)).await;
            }
            // One that was taken over meanwhile is somebody else's.
            let request = proto::CompleteStageRequest {
                target: token(&lease),
                artifacts: struct_of(json!({ "of": lease.stage_name })),
                ..Default::default()
            };
            let _answer = api.workers().complete_stage(request).await;
        }
    }
}

/// One person at a screen: watches from the snapshot to the end, on one server and then the other.
async fn client(servers: [Api; 2], job_id: String, number: usize) -> Vec<WatchMessage> {
    let mut seen = Vec::new();
    let (mut from, mut attempt) = (0, number);
    loop {
        let mut watch = Watch::begin(&servers[attempt % 2], &job_id, from).await.expect("a watch");
        // Closes the page after a while, and opens it again on the other server.
        for _ in 0..10 + number * 7 {
            match watch.next().await {
                Some(received) => seen.push(received),
                None => return seen,
            }
        }
        (from, attempt) = (watch.version, attempt + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_presentations_are_seen_live_while_a_worker_is_killed() {
    let a = Server::start().await;
    let b = a.beside().await;
    join_all((0..PRESENTATIONS).map(|i| a.api.submit(presentation(i)))).await;
    let clients: Vec<_> = (0..PRESENTATIONS * CLIENTS)
        .map(|n| tokio::spawn(client([a.api.clone(), b.api.clone()], id(n % PRESENTATIONS), n / PRESENTATIONS)))
        .collect();
    let (done, leased) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..4)
        .map(|i| if i % 2 == 0 { a.api.clone() } else { b.api.clone() })
        .map(|api| tokio::spawn(worker(api, done.clone(), leased.clone())))
        .collect();
    eventually("work in hand", async || (leased.load(Ordering::Relaxed) >= 8).then_some(())).await;
    workers[0].abort();

    let mut changes = 0;
    for (n, client) in clients.into_iter().enumerate() {
        let seen = client.await.expect("no promise was broken");
        let WatchMessage::Snapshot(first) = &seen[0] else { panic!("{:?} is no snapshot", seen[0]) };
        let last = seen.last().expect("an end").clone().change();
        assert_eq!((last.state(), last.progress), (JobState::Succeeded, 1.0));
        let due: Vec<(i64, JobEventType)> = a
            .api
            .events(&id(n % PRESENTATIONS))
            .await
            .iter()
            .filter(|event| event.version > first.version)
            .map(|event| (event.version, event.event_type()))
            .collect();
        assert_eq!(state_changes(&seen), due);
        changes += seen.len() - 1;
    }
    done.store(true, Ordering::Relaxed);
    let mut expired = 0;
    for i in 0..PRESENTATIONS {
        let job = b.api.job(&id(i)).await;
        assert!(job.stages.iter().all(|stage| stage.state() == StageState::Succeeded && stage.artifacts.is_some()));
        let events = a.api.events(&id(i)).await;
        expired += events.iter().filter(|event| event.event_type() == JobEventType::LeaseExpired).count();
    }
    println!(
        "{changes} changes seen by {} clients; {expired} leases of the killed worker moved",
        PRESENTATIONS * CLIENTS
    );
    assert!(expired >= 1, "the killed worker held something");
    for worker in workers.into_iter().skip(1) {
        worker.await.expect("no panic");
    }
}
