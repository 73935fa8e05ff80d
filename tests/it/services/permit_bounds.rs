//! Permits beside other things: leases, commits, requests that are repeated, callers who go away, other servers.

use std::time::Duration;

use interlock::proto::commit_operation::Operation as Asked;
use interlock::proto::watch_resource_response::Update;
use interlock::proto::{self, AcquirePermitRequest, FailureClass};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

fn bound(lease: &proto::Lease, resource: &str) -> AcquirePermitRequest {
    AcquirePermitRequest {
        lease_token: Some(lease.lease_token.clone()),
        holder: String::new(),
        ttl: None,
        ..acquire_request(vec![claim(resource)])
    }
}

#[tokio::test]
async fn a_permit_that_is_bound_to_a_lease_ends_with_it() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", vec![new_stage("one"), new_stage("two")])).await;
    let (one, two) = (api.lease("default").await, api.lease("default").await);
    let doc = api.ask(bound(&one, "doc")).await.expect("a permit");
    let other = api.ask(bound(&one, "other")).await.expect("another");
    assert_eq!(api.resource("doc").await.holders[0].holder, "worker");
    // Released by itself, it is no longer the attempt's.
    assert!(api.release(&other).await);
    // Somebody of the same job waits for it, under a lease too.
    let waiting = tokio::spawn({
        let (api, request) = (api.clone(), AcquirePermitRequest { wait: seconds(30), ..bound(&two, "doc") });
        async move { api.ask(request).await.expect("a permit") }
    });
    api.waits_for("doc", 1).await;
    api.complete(&one, json!({})).await;
    let permit = waiting.await.expect("no panic");
    assert!(permit.grants[0].fencing_token > doc.grants[0].fencing_token);
    refused(api.permits().acquire_permit(bound(&one, "third")).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    api.fail(&two, failure(FailureClass::ClientError)).await;
    assert_eq!(api.resource("doc").await.permit_count, 0);
    assert!(!api.renew(&permit).await);
}

#[tokio::test]
async fn a_commit_can_be_fenced_by_a_permit_and_release_it() {
    let server = Server::start().await;
    let api = &server.api;
    let permit = api.acquire("doc").await;
    let commit = |permit: &proto::Permit| proto::CommitRequest {
        permit_fence: Some(permit.permit_token.clone()),
        operations: vec![
            proto::CommitOperation { operation: Some(Asked::UpdateRecord(update("r", vec![increment("n", 1.0)]))) },
            proto::CommitOperation { operation: Some(Asked::ReleasePermit(release_of(permit))) },
        ],
        ..Default::default()
    };
    let results = ok(api.transactions().commit(commit(&permit)).await).results;
    assert!(results.iter().all(|result| result.applied));
    refused(api.transactions().commit(commit(&permit)).await, Code::FailedPrecondition, "PERMIT_LOST");
    assert_eq!(fields_of(&api.record("r").await), json!({ "n": 1 }));
    let unfenced = proto::CommitRequest { permit_fence: None, ..commit(&permit) };
    let received = refused(api.transactions().commit(unfenced).await, Code::FailedPrecondition, "PERMIT_LOST");
    assert_eq!(received.metadata["index"], "1");
    assert_eq!(api.record("r").await.version, 1);
}

#[tokio::test]
async fn a_repeat_gets_the_permit_of_the_first_call() {
    let server = Server::start().await;
    let api = &server.api;
    let request =
        AcquirePermitRequest { request_id: request_id(), ..acquire_request(vec![claim("doc"), claim("other")]) };
    let first = api.ask(request.clone()).await.expect("a permit");
    let again = ok(api.permits().acquire_permit(request.clone()).await);
    assert!(again.replayed);
    assert_eq!(api.ask(request.clone()).await.expect("the same").permit_token, first.permit_token);
    let other = AcquirePermitRequest { claims: vec![claim("x")], ..request.clone() };
    refused(api.permits().acquire_permit(other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    let release = proto::ReleasePermitRequest { request_id: request_id(), ..release_of(&first) };
    assert!(ok(api.permits().release_permit(release.clone()).await).applied);
    let again = ok(api.permits().release_permit(release).await);
    assert!(again.applied && again.replayed);
    // A repeat after the end is a new call.
    assert_ne!(api.ask(request).await.expect("a new one").permit_token, first.permit_token);
    // A denial is not remembered.
    let denied =
        AcquirePermitRequest { request_id: request_id(), ..super::super::harness::acquire_request(vec![claim("doc")]) };
    api.ask(denied.clone()).await.expect_err("held");
    let holder = api.resource("doc").await;
    assert_eq!(holder.permit_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn acquire_cancelled_while_waiting_leaves_no_permit_and_no_waiter() {
    let server = Server::start().await;
    let held = server.api.acquire("doc").await;
    for _ in 0..3 {
        let api = Api::connect(server.address).await;
        let calling = tokio::spawn(async move { api.ask(patient(vec![claim("doc"), claim("free")])).await });
        server.api.waits_for("doc", 1).await;
        calling.abort();
        server.api.waits_for("doc", 0).await;
    }
    // Served at the moment at which it goes: at different moments of it.
    for round in 0..20 {
        let api = Api::connect(server.address).await;
        let name = format!("doc-{round}");
        let first = server.api.acquire(&name).await;
        let request = patient(vec![claim(&name)]);
        let calling = tokio::spawn(async move { api.ask(request).await });
        server.api.waits_for(&name, 1).await;
        let leave = async {
            tokio::time::sleep(Duration::from_micros(round * 200)).await;
            calling.abort();
        };
        futures::future::join(server.api.release(&first), leave).await;
    }
    let received = eventually("the end of all calls", async || {
        let rpcs = server.api.statistics().await.rpcs;
        let acquires = rpcs.into_iter().find(|rpc| rpc.method.ends_with("/AcquirePermit"))?;
        (acquires.in_flight == 0).then_some(acquires.calls["OK"])
    })
    .await;
    eventually("the resource is free", async || {
        let mut held = 0;
        for round in 0..20 {
            held += server.api.resource(&format!("doc-{round}")).await.permit_count;
        }
        // Beside the answers that may have reached their callers: the first of each round, and `doc`.
        (held <= received - 21).then_some(())
    })
    .await;
    server.api.release(&held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_queue_of_a_resource_is_one_across_servers() {
    let a = Server::start().await;
    let b = a.beside().await;
    let mut held = a.api.acquire("doc").await;
    let mut waiting = Vec::new();
    for i in 0..6 {
        let api = if i % 2 == 0 { b.api.clone() } else { a.api.clone() };
        waiting.push(tokio::spawn(async move { (i, api.acquire("doc").await) }));
        a.api.waits_for("doc", i + 1).await;
    }
    let mut order = Vec::new();
    for i in 0..6 {
        // Whichever server it is released through.
        if i % 3 == 0 {
            b.api.release(&held).await
        } else {
            a.api.release(&held).await
        };
        let (served, _, rest) = futures::future::select_all(waiting).await;
        let (who, permit) = served.expect("no panic");
        assert!(permit.grants[0].fencing_token > held.grants[0].fencing_token);
        assert!(a.api.renew(&permit).await && b.api.renew(&permit).await);
        order.push(who);
        (waiting, held) = (rest, permit);
    }
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    // A limit is one limit.
    a.api.set_policy("api", capacity(3)).await;
    let mut granted = 0;
    for i in 0..8 {
        let api = if i % 2 == 0 { &a.api } else { &b.api };
        granted += i32::from(api.ask(acquire_request(vec![claim("api")])).await.is_ok());
    }
    assert_eq!(granted, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewal_on_one_server_keeps_the_permit_from_a_waiter_on_another() {
    let a = Server::start().await;
    let b = a.beside().await;
    let short = AcquirePermitRequest { ttl: seconds(2), ..acquire_request(vec![claim("doc")]) };
    let permit = a.api.ask(short).await.expect("a permit");
    let waiting = tokio::spawn({
        let api = a.api.clone();
        async move { api.acquire("doc").await }
    });
    a.api.waits_for("doc", 1).await;
    // Server A knows nothing of these; what it remembers of the expiry passes twice.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        assert!(b.api.renew(&permit).await, "it was not granted again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(!waiting.is_finished());
    // Now it expires without a release.
    let next = waiting.await.expect("no panic");
    assert!(next.grants[0].fencing_token > permit.grants[0].fencing_token);
    assert!(!b.api.renew(&permit).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn stage_on_one_server_waits_for_a_lock_held_on_another() {
    let a = Server::start().await;
    let b = a.beside().await;
    let permit = b.api.acquire("doc").await;
    let stage = proto::StageSpec { permits: vec![claim("doc")], ..new_stage("edit") };
    a.api.submit(new_job("deck", vec![stage])).await;
    let leasing = tokio::spawn({
        let api = a.api.clone();
        async move { api.lease("default").await }
    });
    eventually("the stage waits", async || b.api.resource("doc").await.stages_waiting.then_some(())).await;
    b.api.release(&permit).await;
    let lease = leasing.await.expect("no panic");
    assert!(lease.permits[0].fencing_token > permit.grants[0].fencing_token);
    // By name, too, it needs its permit.
    let stage = proto::StageSpec { permits: vec![claim("doc")], direct: true, ..new_stage("edit") };
    a.api.submit(new_job("second", vec![stage])).await;
    let stage_ref = Some(proto::StageRef { job_id: "second".into(), stage_name: "edit".into() });
    let start = proto::StartStageRequest { stage_ref, ..Default::default() };
    let received = refused(b.api.workers().start_stage(start.clone()).await, Code::FailedPrecondition, "PERMIT_DENIED");
    assert_eq!((&*received.metadata["resource"], &*received.metadata["blocked_by"]), ("doc", "HELD"));
    a.api.complete(&lease, json!({})).await;
    ok(b.api.workers().start_stage(start).await);
    assert_eq!(a.api.resource("doc").await.permit_count, 1);
}

#[tokio::test]
async fn new_policy_holds_at_once_and_keeps_granted_permits() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", capacity(1)).await;
    let first = api.acquire("api").await;
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { api.acquire("api").await }
    });
    api.waits_for("api", 1).await;
    api.set_policy("api", capacity(2)).await;
    let second = waiting.await.expect("no panic");
    let shut = api.set_policy("api", capacity(0)).await;
    assert_eq!((shut.in_use, shut.limit), (2, Some(0)));
    api.ask(acquire_request(vec![claim("api")])).await.expect_err("a kill switch");
    assert!(api.renew(&first).await && api.release(&second).await);
    let same = proto::UpdateResourceRequest { name: "api".into(), policy: Some(capacity(0)), ..Default::default() };
    assert!(!ok(api.permits().update_resource(same).await).applied);
    api.release(&first).await;
    let delete = proto::DeleteResourceRequest { name: "api".into(), ..Default::default() };
    ok(api.permits().delete_resource(delete).await);
    let recreated = api.acquire("api").await;
    assert!(recreated.grants[0].fencing_token > second.grants[0].fencing_token, "tokens survive the deletion");
}

#[tokio::test]
async fn resources_are_listed_watched_and_their_breakers_reset() {
    let server = Server::start().await;
    let api = &server.api;
    let watch = proto::WatchResourceRequest { name: "api-1".into() };
    let mut watch = ok(api.permits().watch_resource(watch).await);
    assert!(matches!(watch.message().await.expect("a message").expect("one").update, Some(Update::Removal(_))));
    for i in 0..5 {
        let breaker = proto::CircuitBreaker { failure_threshold: Some(1), ..Default::default() };
        api.set_policy(&format!("api-{i}"), proto::ResourcePolicy { breaker: Some(breaker), ..capacity(2) }).await;
    }
    api.acquire("doc").await;
    let mut list = proto::ListResourcesRequest { name_prefix: "api-".into(), page_size: 2, ..Default::default() };
    let mut names = Vec::new();
    loop {
        let page = ok(api.permits().list_resources(list.clone()).await);
        names.extend(page.resources.into_iter().map(|resource| resource.name));
        if page.next_page_token.is_empty() {
            break;
        }
        list.page_token = page.next_page_token;
    }
    assert_eq!(names, ["api-0", "api-1", "api-2", "api-3", "api-4"]);
    let permit = api.ask(acquire_request(vec![claim("api-1")])).await.expect("a permit");
    api.release_failed(&permit, FailureClass::Network).await;
    let reset = proto::ResetBreakerRequest {
        name: "api-1".into(),
        requester: "night shift".into(),
        reason: "the vendor is back".into(),
        ..Default::default()
    };
    let resource = ok(api.permits().reset_breaker(reset).await).resource.expect("the resource");
    assert_eq!(resource.breaker_state(), proto::BreakerState::Closed);
    let audited = &resource.resets[0];
    assert_eq!((&*audited.requester, &*audited.reason), ("night shift", "the vendor is back"));
    assert_eq!(audited.previous_state(), proto::BreakerState::Open);
    api.ask(acquire_request(vec![claim("api-1")])).await.expect("closed");
    let mut version = 0;
    loop {
        let received = tokio::time::timeout(PATIENCE, watch.message()).await.expect("in time").expect("a message");
        let Some(Update::Resource(resource)) = received.expect("one").update else { continue };
        assert!(resource.version > version, "versions grow");
        version = resource.version;
        if resource.resets.len() == 1 && resource.permit_count == 1 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_of_a_resource_shows_writes_of_other_servers_and_its_deletion() {
    let a = Server::start().await;
    let b = a.beside().await;
    let watch = proto::WatchResourceRequest { name: "api".into() };
    let mut watch = ok(b.api.permits().watch_resource(watch).await);
    let mut next = async || {
        let received = tokio::time::timeout(PATIENCE, watch.message()).await.expect("in time").expect("a message");
        received.expect("one").update.expect("an update")
    };
    assert!(matches!(next().await, Update::Removal(_)));
    a.api.set_policy("api", capacity(2)).await;
    assert!(matches!(next().await, Update::Resource(resource) if resource.limit == Some(2)));
    let delete = proto::DeleteResourceRequest { name: "api".into(), ..Default::default() };
    ok(a.api.permits().delete_resource(delete).await);
    assert!(matches!(next().await, Update::Removal(_)));
    b.api.set_policy("api", capacity(3)).await;
    assert!(matches!(next().await, Update::Resource(resource) if resource.limit == Some(3)));
    let delete = proto::DeleteResourceRequest { name: "api".into(), ..Default::default() };
    ok(b.api.permits().delete_resource(delete).await);
    assert!(matches!(next().await, Update::Removal(_)));
}

#[tokio::test]
async fn stages_of_a_group_share_their_permits() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", capacity(1)).await;
    let slide = |doc: &str, i: i32| proto::StageSpec {
        permits: vec![claim(doc), claim("api")],
        group_key: doc.to_owned(),
        on_failure: proto::StageOnFailure::Continue.into(),
        retry_policy: Some(at_once(1)),
        ..new_stage(&format!("slide-{i}"))
    };
    // Who needs another amount of the same has a permit of its own.
    api.set_policy("gpu", capacity(3)).await;
    let part = |amount_of| proto::StageSpec {
        permits: vec![amount("gpu", amount_of)],
        group_key: "gpu".to_owned(),
        queue: "gpu".to_owned(),
        ..new_stage(&format!("part-{amount_of}"))
    };
    api.submit(new_job("parts", vec![part(1), part(2)])).await;
    let poll = proto::LeaseStagesRequest {
        worker_id: "worker".into(),
        queues: texts(&["gpu"]),
        max_stages: 10,
        same_group: true,
        wait: seconds(PATIENCE.as_secs()),
        ..Default::default()
    };
    let parts = ok(api.workers().lease_stages(poll).await).leases;
    assert_eq!((parts.len(), api.resource("gpu").await.in_use, api.resource("gpu").await.permit_count), (2, 3, 2));
    for (part, left) in parts.iter().zip([1, 0]) {
        api.complete(part, json!({})).await;
        assert_eq!(api.resource("gpu").await.permit_count, left);
    }
    for doc in ["a", "b"] {
        api.submit(new_job(doc, (0..4).map(|i| slide(doc, i)).collect())).await;
    }
    let poll = proto::LeaseStagesRequest {
        worker_id: "worker".into(),
        max_stages: 10,
        same_group: true,
        wait: seconds(PATIENCE.as_secs()),
        ..Default::default()
    };
    let leases = ok(api.workers().lease_stages(poll.clone()).await).leases;
    assert_eq!(leases.len(), 4);
    assert!(leases.iter().all(|lease| lease.group_key == leases[0].group_key && lease.permits == leases[0].permits));
    let next = tokio::spawn({
        let api = api.clone();
        async move { ok(api.workers().lease_stages(poll).await).leases }
    });
    for (i, lease) in leases.iter().enumerate() {
        assert_eq!(api.resource("api").await.permit_count, 1, "held until the last has ended");
        if i == 2 {
            api.fail(lease, failure(FailureClass::ClientError)).await;
        } else {
            api.complete(lease, json!({})).await;
        }
    }
    let others = next.await.expect("no panic");
    assert_eq!(others.len(), 4);
    assert_ne!(others[0].group_key, leases[0].group_key);
    for lease in &others {
        api.complete(lease, json!({})).await;
    }
    assert_eq!((api.resource("api").await.permit_count, api.resource("api").await.grant_count), (0, 2));
    let counts = api.job_in(&leases[0].job_id, proto::JobState::Succeeded).await.stage_counts.expect("counts");
    assert_eq!((counts.succeeded, counts.failed), (3, 1));
}
