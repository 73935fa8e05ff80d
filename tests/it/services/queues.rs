//! ListQueues: ready, waiting, leased and delayed stages by queue, through all that happens to them.

use std::time::SystemTime;

use interlock::proto::{self, FailureClass};
use serde_json::json;

use crate::harness::*;

/// Queues of a namespace, all pages of a size.
async fn queues(api: &Api, namespace: &str, page_size: i32) -> Vec<proto::Queue> {
    let mut request = proto::ListQueuesRequest { page_size, ..Default::default() };
    let mut found = Vec::new();
    loop {
        let page = ok(api.jobs().list_queues(within(namespace, request.clone())).await);
        assert!(page_size == 0 || page.queues.len() <= page_size as usize, "{page:?}");
        found.extend(page.queues);
        if page.next_page_token.is_empty() {
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

/// Name, ready, waiting and leased stages of each queue, in one line; and delayed ones where there are any.
async fn counts(api: &Api, namespace: &str, page_size: i32) -> String {
    let line = |queue: &proto::Queue| {
        assert!(!(queue.ready_count_capped || queue.waiting_count_capped || queue.leased_count_capped), "{queue:?}");
        assert_eq!(queue.oldest_ready_time.is_some(), queue.ready_count > 0, "{queue:?}");
        assert!(!queue.delayed_count_capped, "{queue:?}");
        let delayed = Some(queue.delayed_count).filter(|count| *count > 0).map(|count| format!(" delayed {count}"));
        let counts = format!("{} {} {} {}", queue.name, queue.ready_count, queue.waiting_count, queue.leased_count);
        format!("{counts}{}", delayed.unwrap_or_default())
    };
    queues(api, namespace, page_size).await.iter().map(line).collect::<Vec<_>>().join(", ")
}

async fn now(api: &Api) -> String {
    counts(api, "default", 0).await
}

fn stage_in(queue: &str, name: &str) -> proto::StageSpec {
    proto::StageSpec { queue: queue.to_owned(), retry_policy: Some(at_once(3)), ..new_stage(name) }
}

#[tokio::test]
async fn counts_follow_stages_from_submission_to_their_end() {
    let server = Server::start().await;
    let api = &server.api;
    assert_eq!(now(api).await, "");
    api.submit(new_job(
        "one",
        vec![stage_in("video", "cut"), proto::StageSpec { depends_on: texts(&["cut"]), ..stage_in("sound", "mix") }],
    ))
    .await;
    let large = (0..6).map(|i| stage_in("bulk", &format!("s{i}"))).collect();
    api.submit(new_job("large", large)).await;
    assert_eq!(now(api).await, "bulk 6 0 0, video 1 0 0", "a stage that depends on another is in no queue yet");
    let lease = api.lease("video").await;
    let leases = api.lease_now("bulk", 2).await;
    assert_eq!(now(api).await, "bulk 4 0 2, video 0 0 1");
    api.complete(&lease, json!({})).await;
    api.fail(&leases[0], failure(FailureClass::ServerError)).await;
    assert_eq!(now(api).await, "bulk 5 0 1, sound 1 0 0", "the failed one is ready again");
    // Paused jobs hand out nothing, and their leases go on.
    ok(api.jobs().pause_job(proto::PauseJobRequest { job_id: "large".into(), ..Default::default() }).await);
    assert_eq!(now(api).await, "bulk 0 0 1, sound 1 0 0");
    ok(api.jobs().resume_job(proto::ResumeJobRequest { job_id: "large".into(), ..Default::default() }).await);
    assert_eq!(now(api).await, "bulk 5 0 1, sound 1 0 0");
    // A stage that its orchestrator runs by name is in no queue.
    api.submit(new_job("direct", vec![proto::StageSpec { direct: true, ..stage_in("named", "s") }])).await;
    let start = proto::StartStageRequest {
        stage_ref: Some(proto::StageRef { job_id: "direct".into(), stage_name: "s".into() }),
        worker_id: "orchestrator".into(),
        lease_duration: seconds(60),
        ..Default::default()
    };
    ok(api.workers().start_stage(start).await);
    assert_eq!(now(api).await, "bulk 5 0 1, sound 1 0 0");
    ok(api.jobs().cancel_job(proto::CancelJobRequest { job_id: "one".into(), ..Default::default() }).await);
    api.complete(&leases[1], json!({})).await;
    assert_eq!(now(api).await, "bulk 5 0 0");
    for lease in api.lease_now("bulk", 5).await {
        api.complete(&lease, json!({})).await;
    }
    assert_eq!(now(api).await, "");
}

#[tokio::test]
async fn stages_that_wait_for_a_time_are_counted_apart() {
    let server = Server::start().await;
    let api = &server.api;
    let later = prost_types::Timestamp::from(SystemTime::now() + std::time::Duration::from_secs(3_600));
    let after = proto::StageSpec { depends_on: texts(&["s"]), ..stage_in("later", "t") };
    for (id, more) in [("small", 0), ("large", 10)] {
        let mut stages = vec![stage_in("later", "s"), after.clone()];
        stages.extend((0..more).map(|i| stage_in("later", &format!("more{i}"))));
        api.submit(proto::SubmitJobRequest { start_time: Some(later), ..new_job(id, stages) }).await;
    }
    assert_eq!(now(api).await, "later 0 0 0 delayed 12");
    let slow = proto::RetryPolicy { max_attempts: 3, initial_backoff: seconds(3_600), ..Default::default() };
    for (id, count) in [("few", 1), ("many", 10)] {
        let stage = |i| proto::StageSpec { retry_policy: Some(slow.clone()), ..stage_in("work", &format!("s{i}")) };
        api.submit(new_job(id, (0..count).map(stage).collect())).await;
    }
    for lease in api.lease_now("work", 11).await {
        api.fail(&lease, failure(FailureClass::ServerError)).await;
    }
    assert_eq!(now(api).await, "later 0 0 0 delayed 12, work 0 0 0 delayed 11");
    ok(api.jobs().pause_job(proto::PauseJobRequest { job_id: "many".into(), ..Default::default() }).await);
    ok(api.jobs().pause_job(proto::PauseJobRequest { job_id: "small".into(), ..Default::default() }).await);
    assert_eq!(now(api).await, "later 0 0 0 delayed 11, work 0 0 0 delayed 1");
    for job_id in ["few", "many", "small", "large"] {
        ok(api.jobs().cancel_job(proto::CancelJobRequest { job_id: job_id.into(), ..Default::default() }).await);
    }
    assert_eq!(now(api).await, "");
}

#[tokio::test]
async fn stages_that_wait_for_a_permit_are_counted_apart() {
    let server = Server::start().await;
    let api = &server.api;
    let held = api.acquire("vendor").await;
    let needs = |i| proto::StageSpec { permits: vec![claim("vendor")], ..stage_in("voice", &format!("s{i}")) };
    api.submit(new_job("film", (0..5).map(needs).collect())).await;
    let free = proto::StageSpec { permits: Vec::new(), ..stage_in("voice", "free") };
    // Tried by a worker, they wait.
    assert!(api.lease_now("voice", 10).await.is_empty());
    eventually("the stages wait", async || (now(api).await == "voice 0 5 0").then_some(())).await;
    api.submit(new_job("free", vec![free])).await;
    assert_eq!(now(api).await, "voice 1 5 0");
    api.release(&held).await;
    assert_eq!(api.lease_now("voice", 1).await.len(), 1);
    eventually("one has the permit", async || {
        let queue = queues(api, "default", 0).await.remove(0);
        (queue.leased_count == 1 && queue.ready_count + queue.waiting_count == 5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn queues_are_listed_by_name_in_pages_and_namespaces_are_apart() {
    let server = Server::start().await;
    let api = &server.api;
    for namespace in ["other", "empty"] {
        ok(api
            .admin()
            .create_namespace(proto::CreateNamespaceRequest { name: namespace.into(), ..Default::default() })
            .await);
    }
    for (namespace, names) in [("default", ["b", "B", "a.1", "c", "b:2"]), ("other", ["a", "b", "b.1", "x", "z"])] {
        let stages = names.iter().map(|name| stage_in(name, name)).collect();
        ok(api.jobs().submit_job(within(namespace, new_job("job", stages))).await);
    }
    // Running stages alone: of both namespaces.
    let lease = |namespace, queue: &str| {
        let request = proto::LeaseStagesRequest {
            worker_id: "worker".into(),
            queues: vec![queue.to_owned()],
            ..Default::default()
        };
        let mut workers = api.workers();
        async move { assert_eq!(ok(workers.lease_stages(within(namespace, request)).await).leases.len(), 1) }
    };
    lease("default", "c").await;
    lease("other", "b").await;
    for page_size in [0, 1, 2, 3, 5, 1_000] {
        let own = "B 1 0 0, a.1 1 0 0, b 1 0 0, b:2 1 0 0, c 0 0 1";
        assert_eq!(counts(api, "default", page_size).await, own, "{page_size}");
        let other = "a 1 0 0, b 0 0 1, b.1 1 0 0, x 1 0 0, z 1 0 0";
        assert_eq!(counts(api, "other", page_size).await, other, "{page_size}");
    }
    assert_eq!(counts(api, "empty", 0).await, "");
}

#[tokio::test]
async fn the_oldest_ready_stage_is_found_behind_higher_priorities() {
    let server = Server::start().await;
    let api = &server.api;
    let old = api.submit(new_job("old", vec![stage_in("q", "s")])).await;
    let old = old.create_time.expect("a time");
    for priority in [5, 9] {
        api.submit(proto::SubmitJobRequest { priority, ..new_job(&format!("p{priority}"), vec![stage_in("q", "s")]) })
            .await;
    }
    let oldest = |queues: Vec<proto::Queue>| queues[0].oldest_ready_time.expect("a time");
    assert_eq!(oldest(queues(api, "default", 0).await), old);
    let lease = api.lease_now("q", 2).await;
    assert_eq!(lease.iter().map(|lease| lease.job_id.as_str()).collect::<Vec<_>>(), ["p9", "p5"]);
    assert_eq!(oldest(queues(api, "default", 0).await), old);
}
