//! ListWaiters: callers and stages that wait for a permit, in the order of the wait queue.

use interlock::proto::{self, PermitMode};
use tonic::Code;

use crate::harness::*;

/// Waiters of a resource, all pages of a size, with the counts of the last page.
async fn waiters(api: &Api, name: &str, page_size: i32) -> (Vec<proto::PermitWaiter>, proto::ListWaitersResponse) {
    let mut request = proto::ListWaitersRequest { name: name.to_owned(), page_size, ..Default::default() };
    let mut found = Vec::new();
    loop {
        let mut page = ok(api.permits().list_waiters(request.clone()).await);
        assert!(page_size == 0 || page.waiters.len() <= page_size as usize, "{page:?}");
        found.append(&mut page.waiters);
        if page.next_page_token.is_empty() {
            return (found, page);
        }
        request.page_token = page.next_page_token;
    }
}

/// Each waiter by its name, in one line.
async fn line(api: &Api, name: &str, page_size: i32) -> String {
    let name_of = |waiter: &proto::PermitWaiter| match waiter.holder.as_str() {
        "" => format!("{}/{}", waiter.job_id, waiter.stage_name),
        holder => holder.to_owned(),
    };
    waiters(api, name, page_size).await.0.iter().map(name_of).collect::<Vec<_>>().join(" ")
}

/// A call that waits for a permit until the task is aborted.
fn caller(api: &Api, resource: &str, holder: &str, priority: i32) -> tokio::task::JoinHandle<()> {
    let request = proto::AcquirePermitRequest {
        claims: vec![proto::PermitClaim { resource: resource.into(), ..Default::default() }],
        holder: holder.into(),
        priority,
        wait: seconds(50),
        ..Default::default()
    };
    let mut permits = api.permits();
    tokio::spawn(async move {
        let _granted_or_aborted = permits.acquire_permit(request).await;
    })
}

async fn listed(api: &Api, name: &str, expected: &str) {
    eventually(&format!("{name}: {expected}"), async || (line(api, name, 0).await == expected).then_some(())).await;
}

fn micros(time: Option<prost_types::Timestamp>) -> i64 {
    let time = time.expect("a time");
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
}

fn needing(resource: &str, queue: &str, name: &str) -> proto::StageSpec {
    proto::StageSpec { permits: vec![claim(resource)], queue: queue.to_owned(), ..new_stage(name) }
}

#[tokio::test]
async fn callers_and_stages_are_listed_in_the_order_of_the_wait_queue() {
    let server = Server::start().await;
    let api = &server.api;
    let held = api.acquire("gpu").await;
    let first = caller(api, "gpu", "first", 0);
    listed(api, "gpu", "first").await;
    // A job in one row, one with a row for each stage, and one of a higher priority.
    let film = api.submit(new_job("film", vec![needing("gpu", "video", "cut")])).await;
    let many = (0..6).map(|i| needing("gpu", "bulk", &format!("s{i}"))).collect();
    api.submit(new_job("large", many)).await;
    let urgent = new_job("urgent", vec![needing("gpu", "video", "now")]);
    api.submit(proto::SubmitJobRequest { priority: 5, ..urgent }).await;
    for queue in ["video", "bulk"] {
        assert!(api.lease_now(queue, 10).await.is_empty(), "{queue}");
    }
    let stages = "film/cut large/s0 large/s1 large/s2 large/s3 large/s4 large/s5";
    listed(api, "gpu", &format!("urgent/now first {stages}")).await;
    let second = caller(api, "gpu", "second", 0);
    let preferred = caller(api, "gpu", "preferred", 9);
    let all = format!("preferred urgent/now first {stages} second");
    listed(api, "gpu", &all).await;
    for page_size in [1, 2, 3, 4, 10, 11, 1_000] {
        assert_eq!(line(api, "gpu", page_size).await, all, "{page_size}");
    }
    let (found, page) = waiters(api, "gpu", 3).await;
    assert_eq!((page.caller_count, page.stage_count, page.stage_count_capped), (3, 8, false));
    let [preferred_waiter, urgent_waiter, first_waiter, cut] = &found[..4] else { panic!("{found:?}") };
    assert_eq!((preferred_waiter.priority, urgent_waiter.priority, first_waiter.priority), (9, 5, 0));
    assert_eq!((cut.queue.as_str(), cut.amount, cut.mode()), ("video", 1, PermitMode::Exclusive));
    assert_eq!((cut.wait_start_time, cut.expire_time), (film.create_time, None));
    let wait = micros(first_waiter.expire_time) - micros(first_waiter.wait_start_time);
    assert!((45_000_000..=50_000_000).contains(&wait), "{wait} µs");
    // Who ends its wait is listed no more, nor is a stage that is woken.
    preferred.abort();
    listed(api, "gpu", &format!("urgent/now first {stages} second")).await;
    let (lease, _) = tokio::join!(api.lease("video"), api.release(&held));
    assert_eq!(lease.job_id, "urgent");
    listed(api, "gpu", &format!("first {stages} second")).await;
    for task in [first, second] {
        task.abort();
    }
}

#[tokio::test]
async fn claims_of_a_limit_are_listed_as_they_were_made() {
    let server = Server::start().await;
    let api = &server.api;
    let policy = Some(proto::ResourcePolicy { capacity: Some(4), ..Default::default() });
    ok(api
        .permits()
        .update_resource(proto::UpdateResourceRequest { name: "seats".into(), policy, ..Default::default() })
        .await);
    let claim_of =
        |amount, mode: PermitMode| proto::PermitClaim { resource: "seats".into(), amount, mode: mode.into() };
    let all = proto::AcquirePermitRequest {
        claims: vec![claim_of(4, PermitMode::Unspecified)],
        holder: "all".into(),
        ..Default::default()
    };
    ok(api.permits().acquire_permit(all).await);
    let free = proto::PermitClaim { resource: "free".into(), amount: 7, mode: PermitMode::Shared.into() };
    let stage = |name: &str, claims| proto::StageSpec { permits: claims, ..new_stage(name) };
    let claims = [vec![claim_of(3, PermitMode::Unspecified)], vec![free.clone(), claim_of(2, PermitMode::Exclusive)]];
    let stages = claims.into_iter().enumerate().map(|(i, claims)| stage(&format!("s{i}"), claims)).collect();
    api.submit(new_job("job", stages)).await;
    assert!(api.lease_now("default", 10).await.is_empty());
    listed(api, "seats", "job/s0 job/s1").await;
    let claims = |waiters: Vec<proto::PermitWaiter>| {
        waiters.iter().map(|waiter| (waiter.amount, waiter.mode())).collect::<Vec<_>>()
    };
    let found = claims(waiters(api, "seats", 0).await.0);
    assert_eq!(found, [(3, PermitMode::Shared), (2, PermitMode::Exclusive)]);
}

#[tokio::test]
async fn waiters_of_no_resource_and_of_other_namespaces_are_not_listed() {
    let server = Server::start().await;
    let api = &server.api;
    let list = |name: &str, page_token: &str, page_size| proto::ListWaitersRequest {
        name: name.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    refused(api.permits().list_waiters(list("gpu", "", 0)).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let _held = api.acquire("gpu").await;
    let page = ok(api.permits().list_waiters(list("gpu", "", 0)).await);
    assert_eq!(page, proto::ListWaitersResponse::default());
    let waiting = [caller(api, "gpu", "a", 0), caller(api, "gpu", "b", 0)];
    let page = eventually("both wait", async || {
        let page = ok(api.permits().list_waiters(list("gpu", "", 1)).await);
        (page.caller_count == 2).then_some(page)
    });
    let page_token = page.await.next_page_token;
    ok(api
        .admin()
        .create_namespace(proto::CreateNamespaceRequest { name: "other".into(), ..Default::default() })
        .await);
    let foreign = api.permits().list_waiters(within("other", list("gpu", "", 0))).await;
    refused(foreign, Code::NotFound, "RESOURCE_NOT_FOUND");
    let foreign = api.permits().list_waiters(within("other", list("gpu", &page_token, 0))).await;
    refused(foreign, Code::InvalidArgument, "INVALID_FIELD");
    field(api.permits().list_waiters(list("gpus", &page_token, 0)).await, "page_token");
    field(api.permits().list_waiters(list("gpu", "garbage", 0)).await, "page_token");
    field(api.permits().list_waiters(list("gpu", "", -1)).await, "page_size");
    field(api.permits().list_waiters(list("", "", 0)).await, "name");
    for task in waiting {
        task.abort();
    }
}
