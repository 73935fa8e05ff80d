//! A slide that waits for its document costs no worker anything, and is woken when it can go on.

use std::time::Instant;

use interlock::proto::{self, JobState, StageWaitReason};

use super::editors::{DOCS_API, SOON, document, edits};
use crate::harness::*;

/// A stage that needs a permit of one resource.
fn one_of(resource: &str, queue: &str, name: &str) -> proto::StageSpec {
    proto::StageSpec { queue: queue.to_owned(), permits: vec![claim(resource)], ..new_stage(name) }
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("stage{number}"))
}

/// A poll of several queues that waits.
async fn lease_of(api: &Api, queues: &[&str]) -> proto::Lease {
    let request = proto::LeaseStagesRequest {
        worker_id: "worker".to_owned(),
        queues: texts(queues),
        wait: seconds(PATIENCE.as_secs()),
        ..Default::default()
    };
    ok(api.workers().lease_stages(request).await).leases.pop().expect("a lease in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_slides_occupy_no_worker_and_other_work_overtakes() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy(DOCS_API, capacity(8)).await;
    let busy = api.ask(acquire_request(vec![claim("doc-0")])).await.expect("a free document");
    api.submit(edits(&document(0), 15)).await;
    api.submit(edits(&document(1), 5)).await;
    let others = names(20).map(|name| proto::StageSpec { queue: "others".to_owned(), ..new_stage(&name) });
    api.submit(new_job("others", others.collect())).await;

    // One worker, in whose way are fifteen slides that cannot be edited.
    for _ in 0..25 {
        let lease = lease_of(api, &["slides", "others"]).await;
        assert_ne!(lease.job_id, "doc-0", "its document is somebody else's");
        api.complete(&lease, serde_json::json!({})).await;
    }
    for job_id in ["doc-1", "others"] {
        assert_eq!(api.job(job_id).await.state(), JobState::Succeeded);
    }
    let explained = ok(api.jobs().explain_job(proto::ExplainJobRequest { job_id: document(0) }).await);
    assert_eq!(explained.stages.len(), 15);
    for stage in &explained.stages {
        assert_eq!((stage.reason(), &*stage.blocker), (StageWaitReason::Permit, "doc-0"), "{stage:?}");
    }
    assert!(explained.headline.contains("doc-0"), "{}", explained.headline);
    let counts = api.job("doc-0").await.stage_counts.expect("counts");
    assert_eq!((counts.ready, counts.running), (15, 0));
    assert!(api.resource("doc-0").await.stages_waiting);

    // A worker that waits hears at once that the document is free.
    let mut waits = Vec::new();
    let mut lease = {
        let (waiting, free) = (lease_of(api, &["slides"]), async {
            api.polls_wait(1).await;
            let begin = Instant::now();
            api.release(&busy).await;
            begin
        });
        let (lease, begin) = tokio::join!(waiting, free);
        waits.push(begin.elapsed());
        lease
    };
    for _ in 1..15 {
        let (next, begin) = tokio::join!(lease_of(api, &["slides"]), async {
            api.polls_wait(1).await;
            let begin = Instant::now();
            api.complete(&lease, serde_json::json!({})).await;
            begin
        });
        waits.push(begin.elapsed());
        lease = next;
    }
    api.complete(&lease, serde_json::json!({})).await;
    api.job_in("doc-0", JobState::Succeeded).await;
    assert_eq!(api.resource("doc-0").await.permit_count, 0);
    waits.sort_unstable();
    println!("from a free document to the next lease: median {:?}, longest {:?}", waits[7], waits[14]);
    assert!(waits[14] < SOON, "a slide that waits for a document is woken: {waits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stage_whose_wake_up_was_lost_is_woken_again() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", capacity(1)).await;
    let first = api.ask(acquire_request(vec![claim("api")])).await.expect("room");
    api.submit(new_job("many", names(12).map(|name| one_of("api", "default", &name)).collect())).await;
    assert!(api.lease_now("default", 12).await.is_empty());
    // They are woken, no worker polls, and a stage of a higher priority comes first.
    api.release(&first).await;
    let important = proto::AcquirePermitRequest { priority: 10, ..acquire_request(vec![claim("api")]) };
    let second = api.ask(important).await.expect("room");
    assert!(api.lease_now("default", 12).await.is_empty());
    let begin = Instant::now();
    api.release(&second).await;
    api.lease("default").await;
    println!("called again after {:?}", begin.elapsed());
    assert!(begin.elapsed() < SOON, "it was woken only after {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_of_absent_workers_block_others_only_briefly() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", capacity(1)).await;
    let permit = api.ask(acquire_request(vec![claim("api")])).await.expect("room");
    api.submit(new_job("gone", names(4).map(|name| one_of("api", "gone", &name)).collect())).await;
    assert!(api.lease_now("gone", 4).await.is_empty());
    api.submit(new_job("here", names(2).map(|name| one_of("api", "here", &name)).collect())).await;
    assert!(api.lease_now("here", 2).await.is_empty());
    let (lease, begin) = tokio::join!(lease_of(api, &["here"]), async {
        api.polls_wait(1).await;
        let begin = Instant::now();
        api.release(&permit).await;
        begin
    });
    println!("it was leased after {:?}", begin.elapsed());
    assert!(begin.elapsed() < SOON, "stages without a worker were before it for {:?}", begin.elapsed());
    api.complete(&lease, serde_json::json!({})).await;
}
