//! Permits: what their rpcs do on one server.

use std::time::Instant;

use interlock::proto::{self, BreakerState, FailureClass, PermitBlockReason};
use tonic::Code;

use crate::harness::*;

#[tokio::test]
async fn a_lock_is_held_by_one_and_its_fencing_tokens_grow() {
    let server = Server::start().await;
    let api = &server.api;
    let first = api.ask(acquire_request(vec![claim("doc")])).await.expect("a free lock");
    assert_eq!(first.grants[0].resource, "doc");
    assert!(first.permit_token.len() <= 64 && first.expire_time.is_some());
    let denial = api.ask(acquire_request(vec![claim("doc")])).await.expect_err("it is held");
    assert_eq!(denial.blockers[0].reason(), PermitBlockReason::Held);
    assert!(denial.retry_after.expect("the end of the permit").seconds <= 60);
    let held = api.resource("doc").await;
    assert_eq!((held.permit_count, held.in_use, held.waiter_count, held.limit), (1, 1, 0, None));
    assert_eq!(held.holders[0].holder, "worker");
    assert_eq!(held.denials["HELD"], 1);
    assert!(api.renew(&first).await);
    assert_eq!(api.resource("doc").await.version, held.version, "a renewal is no change");
    assert!(api.release(&first).await);
    assert!(!api.release(&first).await, "a second release changes nothing");
    let figures = api.statistics().await.permits.expect("figures");
    assert_eq!((figures.granted, figures.ended, figures.lost, figures.denied["HELD"]), (1, 1, 0, 1));
    let second = api.ask(acquire_request(vec![claim("doc")])).await.expect("free again");
    assert!(second.grants[0].fencing_token > first.grants[0].fencing_token);
    assert!(!api.renew(&first).await);
}

#[tokio::test]
async fn readers_share_and_wait_behind_a_waiting_writer() {
    let server = Server::start().await;
    let api = &server.api;
    let one = api.ask(acquire_request(vec![shared("doc")])).await.expect("a reader");
    let two = api.ask(acquire_request(vec![shared("doc")])).await.expect("another");
    let writer = tokio::spawn({
        let api = api.clone();
        async move { api.acquire("doc").await }
    });
    api.waits_for("doc", 1).await;
    api.ask(acquire_request(vec![shared("doc")])).await.expect_err("a writer is before it");
    api.release(&one).await;
    api.release(&two).await;
    let writer = writer.await.expect("no panic");
    api.ask(acquire_request(vec![shared("doc")])).await.expect_err("it is being written");
    api.release(&writer).await;
    api.ask(acquire_request(vec![shared("doc")])).await.expect("a reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_are_served_by_priority_then_arrival() {
    let server = Server::start().await;
    let api = &server.api;
    let mut held = api.acquire("doc").await;
    let mut waiting = Vec::new();
    for (i, priority) in [0, 0, 5, 0].into_iter().enumerate() {
        let api = api.clone();
        let request = proto::AcquirePermitRequest { priority, ..patient(vec![claim("doc")]) };
        waiting.push(tokio::spawn(async move { (i, api.ask(request).await.expect("a permit")) }));
        server.api.waits_for("doc", i64::try_from(i).expect("few") + 1).await;
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        api.release(&held).await;
        let (served, _, rest) = futures::future::select_all(waiting).await;
        let (i, permit) = served.expect("no panic");
        order.push(i);
        (waiting, held) = (rest, permit);
    }
    assert_eq!(order, [2, 0, 1, 3]);
}

#[tokio::test]
async fn several_claims_are_granted_together_or_not_at_all() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", capacity(2)).await;
    let both = api.ask(acquire_request(vec![claim("doc"), amount("api", 2)])).await.expect("both");
    assert_eq!(both.grants.iter().map(|grant| &*grant.resource).collect::<Vec<_>>(), ["doc", "api"]);
    let denial = api.ask(acquire_request(vec![claim("other"), claim("api")])).await.expect_err("no capacity");
    assert_eq!(denial.blockers.len(), 1);
    assert_eq!((&*denial.blockers[0].resource, denial.blockers[0].reason()), ("api", PermitBlockReason::Capacity));
    refused(
        api.permits().get_resource(proto::GetResourceRequest { name: "other".into() }).await,
        Code::NotFound,
        "RESOURCE_NOT_FOUND",
    );
    assert!(api.renew(&both).await);
    assert!(api.release(&both).await);
    assert_eq!((api.resource("doc").await.permit_count, api.resource("api").await.in_use), (0, 0));
}

#[tokio::test]
async fn large_request_is_not_starved_by_small_ones() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", capacity(3)).await;
    let small = api.ask(acquire_request(vec![claim("api")])).await.expect("room");
    let big = tokio::spawn({
        let api = api.clone();
        async move { api.ask(patient(vec![amount("api", 3)])).await.expect("a permit") }
    });
    api.waits_for("api", 1).await;
    let denial = api.ask(acquire_request(vec![claim("api")])).await.expect_err("a big one is before it");
    assert_eq!(denial.blockers[0].reason(), PermitBlockReason::Capacity);
    api.release(&small).await;
    assert_eq!(api.resource("api").await.in_use, 3);
    api.release(&big.await.expect("no panic")).await;
}

#[tokio::test]
async fn permit_that_is_not_renewed_is_granted_to_the_waiter() {
    let server = Server::start().await;
    let api = &server.api;
    let short = proto::AcquirePermitRequest { ttl: seconds(1), ..acquire_request(vec![claim("doc")]) };
    let first = api.ask(short).await.expect("a permit");
    let second = api.acquire("doc").await;
    assert!(second.grants[0].fencing_token > first.grants[0].fencing_token);
    assert!(!api.renew(&first).await);
    refused(api.permits().release_permit(release_of(&first)).await, Code::FailedPrecondition, "PERMIT_LOST");
    assert!(api.renew(&second).await);
}

#[tokio::test]
async fn a_renewal_may_be_for_longer_than_the_permit_was_acquired_for() {
    let server = Server::start().await;
    let api = &server.api;
    let short = proto::AcquirePermitRequest { ttl: seconds(2), ..acquire_request(vec![claim("doc"), claim("film")]) };
    let (first, other) = (api.ask(short).await.expect("a permit"), api.acquire("other").await);
    let permit_tokens = vec![first.permit_token.clone(), other.permit_token.clone()];
    let longer = proto::RenewPermitsRequest { permit_tokens, ttl: seconds(600) };
    let statuses = ok(api.permits().renew_permits(longer).await).statuses;
    assert!(statuses.iter().all(|status| !status.lost), "{statuses:?}");
    let ends = "SELECT (expires_at > now() + interval '590 s')::text FROM permits";
    assert_eq!(server.column(ends).await, ["true", "true", "true"]);
    // A later one without a duration never shortens it.
    assert!(api.renew(&first).await);
    assert_eq!(server.column(ends).await, ["true", "true", "true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_renewal_keeps_the_permit_while_it_has_no_waiter() {
    let server = Server::start().await;
    let api = &server.api;
    let short = proto::AcquirePermitRequest { ttl: seconds(1), ..acquire_request(vec![claim("doc")]) };
    let late = api.ask(short.clone()).await.expect("a permit");
    // The loops that look for what is due have come by several times since.
    let passed = "SELECT 'late' FROM permits WHERE expires_at <= clock_timestamp() - interval '1.5 s'";
    eventually("its time is long up", async || (server.column(passed).await == ["late"]).then_some(())).await;
    let fenced = proto::CommitRequest {
        permit_fence: Some(late.permit_token.clone()),
        operations: vec![proto::CommitOperation {
            operation: Some(proto::commit_operation::Operation::UpdateRecord(update("doc", vec![increment("n", 1.0)]))),
        }],
        ..Default::default()
    };
    ok(api.transactions().commit(fenced).await);
    assert!(api.renew(&late).await, "it was not granted again");
    let next = api.acquire("doc").await;
    assert!(next.grants[0].fencing_token > late.grants[0].fencing_token);
    assert!(!api.renew(&late).await, "somebody has");
}

#[tokio::test]
async fn rates_and_intervals_return_a_retry_delay_and_serve_waiters_after_it() {
    let server = Server::start().await;
    let api = &server.api;
    api.set_policy("api", rate(10, 1_000, 2)).await;
    for _ in 0..2 {
        api.ask(acquire_request(vec![claim("api")])).await.expect("a token");
    }
    let denial = api.ask(acquire_request(vec![claim("api")])).await.expect_err("no token");
    assert_eq!(denial.blockers[0].reason(), PermitBlockReason::Rate);
    let begun = Instant::now();
    for _ in 0..5 {
        api.acquire("api").await;
    }
    assert!(begun.elapsed().as_millis() >= 300, "five more take half a second");
    let interval = proto::ResourcePolicy { min_interval: millis(200), ..Default::default() };
    api.set_policy("slow", interval).await;
    api.ask(acquire_request(vec![claim("slow")])).await.expect("the first");
    let denial = api.ask(acquire_request(vec![claim("slow")])).await.expect_err("too soon");
    assert_eq!(denial.blockers[0].reason(), PermitBlockReason::Interval);
    api.acquire("slow").await;
}

#[tokio::test]
async fn a_breaker_opens_gives_one_probe_and_closes() {
    let server = Server::start().await;
    let api = &server.api;
    let breaker = proto::CircuitBreaker { open_duration: millis(200), ..Default::default() };
    api.set_policy("api", proto::ResourcePolicy { breaker: Some(breaker), ..capacity(10) }).await;
    for _ in 0..3 {
        let permit = api.ask(acquire_request(vec![claim("api")])).await.expect("closed");
        api.release_failed(&permit, FailureClass::ServerError).await;
    }
    assert_eq!(api.resource("api").await.breaker_state(), BreakerState::Open);
    let denial = api.ask(acquire_request(vec![claim("api")])).await.expect_err("open");
    assert_eq!(denial.blockers[0].reason(), PermitBlockReason::BreakerOpen);
    // A waiter gets the probe when its time has come, and no other caller does.
    let probe = api.acquire("api").await;
    let seen = api.resource("api").await;
    assert!(seen.breaker_state() == BreakerState::HalfOpen && seen.holders[0].probe);
    api.ask(acquire_request(vec![claim("api")])).await.expect_err("one probe only");
    api.release(&probe).await;
    assert_eq!(api.resource("api").await.breaker_state(), BreakerState::Closed);
    api.ask(acquire_request(vec![claim("api")])).await.expect("closed again");
}

#[tokio::test]
async fn a_stage_is_leased_only_with_its_permits_and_gives_them_back() {
    let server = Server::start().await;
    let api = &server.api;
    let stage = |name: &str| proto::StageSpec { permits: vec![claim("doc")], ..new_stage(name) };
    api.submit(new_job("deck", vec![stage("one"), stage("two"), new_stage("free")])).await;
    let first = api.lease("default").await;
    assert_eq!(first.permits[0].resource, "doc");
    let next = api.lease("default").await;
    assert_eq!(next.stage_name, "free", "work that needs no permit overtakes");
    assert!(api.lease_now("default", 5).await.is_empty());
    assert!(api.resource("doc").await.denials["HELD"] >= 1, "denials of stages count too");
    let explained = ok(api.jobs().explain_job(proto::ExplainJobRequest { job_id: "deck".into() }).await);
    let waiting = explained.stages.iter().find(|stage| stage.stage_name == "two").expect("it waits");
    assert_eq!((waiting.reason(), &*waiting.blocker), (proto::StageWaitReason::Permit, "doc"));
    let second = tokio::spawn({
        let api = api.clone();
        async move { api.lease("default").await }
    });
    api.polls_wait(1).await;
    api.complete(&first, serde_json::json!({})).await;
    let second = second.await.expect("no panic");
    assert_eq!(second.stage_name, "two");
    assert!(second.permits[0].fencing_token > first.permits[0].fencing_token);
    api.complete(&second, serde_json::json!({})).await;
    assert_eq!(api.resource("doc").await.permit_count, 0);
}
