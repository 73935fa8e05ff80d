//! ListWorkers: workers with the leases that they hold, through all that happens to these.

use interlock::proto;
use serde_json::json;
use tonic::Code;

use crate::harness::*;

/// Workers of a namespace, all pages of a size.
async fn workers(api: &Api, namespace: &str, page_size: i32) -> Vec<proto::WorkerLeases> {
    let mut request = proto::ListWorkersRequest { page_size, ..Default::default() };
    let mut found = Vec::new();
    loop {
        let page = ok(api.workers().list_workers(within(namespace, request.clone())).await);
        assert!(page_size == 0 || page.workers.len() <= page_size as usize, "{page:?}");
        found.extend(page.workers);
        if page.next_page_token.is_empty() {
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

/// Each worker with its leases, queues and stages, in one line.
async fn held(api: &Api, page_size: i32) -> String {
    let line = |worker: &proto::WorkerLeases| {
        assert!(!worker.lease_count_capped && !worker.queues_capped, "{worker:?}");
        let stages = worker.stages.iter().map(|stage| format!("{}/{}", stage.job_id, stage.stage_name));
        let stages: Vec<String> = stages.collect();
        format!("{} {} {} {}", worker.worker_id, worker.lease_count, worker.queues.join("+"), stages.join("+"))
    };
    workers(api, "default", page_size).await.iter().map(line).collect::<Vec<_>>().join(", ")
}

async fn lease(api: &Api, namespace: &str, worker_id: &str, queue: &str, max_stages: i32) -> Vec<proto::Lease> {
    let request = proto::LeaseStagesRequest {
        worker_id: worker_id.to_owned(),
        queues: vec![queue.to_owned()],
        max_stages,
        ..Default::default()
    };
    ok(api.workers().lease_stages(within(namespace, request)).await).leases
}

fn stages_in(queue: &str, count: usize) -> Vec<proto::StageSpec> {
    (0..count).map(|i| proto::StageSpec { queue: queue.to_owned(), ..new_stage(&format!("s{i}")) }).collect()
}

#[tokio::test]
async fn workers_are_listed_while_they_hold_leases() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", stages_in("video", 1))).await;
    api.submit(new_job("large", stages_in("bulk", 10))).await;
    assert_eq!(held(api, 0).await, "");
    let request = proto::LeaseStagesRequest {
        worker_id: "w 1".into(),
        queues: texts(&["video"]),
        lease_duration: seconds(6),
        ..Default::default()
    };
    let film = ok(api.workers().lease_stages(request).await).leases.remove(0);
    let mut bulk = lease(api, "default", "w 1", "bulk", 1).await;
    bulk.extend(lease(api, "default", "ü", "bulk", 2).await);
    let all = "w 1 2 bulk+video film/s0+large/s0, ü 2 bulk large/s1+large/s2";
    for page_size in [0, 1, 2] {
        assert_eq!(held(api, page_size).await, all, "{page_size}");
    }
    let worker = workers(api, "default", 0).await.remove(0);
    let [first, second] = [&worker.stages[0], &worker.stages[1]];
    assert_eq!((first.queue.as_str(), second.queue.as_str()), ("video", "bulk"));
    assert_eq!((worker.oldest_lease_time, worker.next_expire_time), (first.start_time, first.expire_time));
    assert_eq!(first.expire_time, film.expire_time);
    // A heartbeat is seen, once it renews the lease, and what it says of progress.
    let renewal =
        proto::LeaseRenewal { lease_token: film.lease_token.clone(), progress: Some(0.25), ..Default::default() };
    let heartbeat = proto::HeartbeatRequest { renewals: vec![renewal] };
    let micros = |time: Option<prost_types::Timestamp>| {
        time.map(|time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000).expect("a time")
    };
    eventually("the lease is renewed", async || {
        ok(api.workers().heartbeat(heartbeat.clone()).await);
        let renewed = workers(api, "default", 0).await.remove(0);
        let is_later = micros(renewed.last_renew_time) > micros(worker.last_renew_time)
            && micros(renewed.stages[0].expire_time) > micros(first.expire_time);
        (is_later && renewed.stages[0].progress == 0.25).then_some(())
    })
    .await;
    api.complete(&film, json!({})).await;
    assert_eq!(held(api, 0).await, "w 1 1 bulk large/s0, ü 2 bulk large/s1+large/s2");
    for lease in &bulk {
        api.complete(lease, json!({})).await;
    }
    assert_eq!(held(api, 0).await, "");
}

#[tokio::test]
async fn workers_of_namespaces_are_apart_and_page_tokens_are_bound_to_the_list() {
    let server = Server::start().await;
    let api = &server.api;
    ok(api
        .admin()
        .create_namespace(proto::CreateNamespaceRequest { name: "other".into(), ..Default::default() })
        .await);
    for namespace in ["default", "other"] {
        ok(api.jobs().submit_job(within(namespace, new_job("job", stages_in("q", 3)))).await);
        for worker in ["a", "b"] {
            assert_eq!(lease(api, namespace, &format!("{namespace} {worker}"), "q", 1).await.len(), 1);
        }
    }
    let found = |workers: Vec<proto::WorkerLeases>| workers.into_iter().map(|it| it.worker_id).collect::<Vec<_>>();
    assert_eq!(found(workers(api, "other", 1).await), ["other a", "other b"]);
    let one = proto::ListWorkersRequest { page_size: 1, ..Default::default() };
    let page_token = ok(api.workers().list_workers(one).await).next_page_token;
    let own = proto::ListWorkersRequest { page_token: page_token.clone(), ..Default::default() };
    let foreign = api.workers().list_workers(within("other", own.clone())).await;
    refused(foreign, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(found(ok(api.workers().list_workers(own).await).workers), ["default b"]);
    let list = |page_token: &str, page_size, max_staleness| proto::ListWorkersRequest {
        page_token: page_token.to_owned(),
        page_size,
        max_staleness,
    };
    field(api.workers().list_workers(list("garbage", 0, None)).await, "page_token");
    field(api.workers().list_workers(list("", -1, None)).await, "page_size");
    field(api.workers().list_workers(list("", 0, seconds(61))).await, "max_staleness");
    let queues = proto::ListQueuesRequest { page_token, ..Default::default() };
    field(api.jobs().list_queues(queues).await, "page_token");
}
