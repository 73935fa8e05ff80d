//! Permits and resources: invalid claims, amounts beyond every capacity, tokens that were never granted.

use interlock::proto::{self, AcquirePermitRequest, CommitRequest, ReleasePermitRequest, UpdateResourceRequest};
use tonic::Code;

use super::Scene;
use crate::harness::*;

#[tokio::test]
async fn invalid_claims_are_refused_with_the_field() {
    let scene = Scene::set().await;
    let ttl = |ttl| AcquirePermitRequest { ttl, ..acquire_request(vec![claim("a")]) };
    let many: Vec<_> = (0..1_000).map(|i| claim(&format!("r{i}"))).collect();
    let rows = vec![
        (acquire_request(Vec::new()), "claims"),
        (acquire_request(many), "claims"),
        (acquire_request(vec![claim("a"), claim("b"), claim("a")]), "claims[2].resource"),
        (acquire_request(vec![claim("a"), claim("")]), "claims[1].resource"),
        (acquire_request(vec![claim(&"x".repeat(10_000))]), "claims[0].resource"),
        (acquire_request(vec![claim("a\nb")]), "claims[0].resource"),
        (acquire_request(vec![amount("a", -1)]), "claims[0].amount"),
        (acquire_request(vec![amount("a", 1_000_001)]), "claims[0].amount"),
        (acquire_request(vec![claim("a"), amount("limit", 4)]), "claims[1].amount"),
        (AcquirePermitRequest { wait: seconds(60), ..acquire_request(vec![amount("limit", 4)]) }, "claims[0].amount"),
        (ttl(seconds(0)), "ttl"),
        (ttl(millis(999)), "ttl"),
        (ttl(seconds(86_401)), "ttl"),
        (AcquirePermitRequest { wait: seconds(61), ..acquire_request(vec![claim("a")]) }, "wait"),
        (AcquirePermitRequest { holder: String::new(), ..acquire_request(vec![claim("a")]) }, "holder"),
        (AcquirePermitRequest { holder: "x".repeat(129), ..acquire_request(vec![claim("a")]) }, "holder"),
        (AcquirePermitRequest { priority: 1_001, ..acquire_request(vec![claim("a")]) }, "priority"),
        (AcquirePermitRequest { lease_token: Some("x".into()), ..acquire_request(vec![claim("a")]) }, "lease_token"),
        (AcquirePermitRequest { request_id: Some("x".into()), ..acquire_request(vec![claim("a")]) }, "request_id"),
    ];
    scene.refuses(rows, async |request| scene.api.permits().acquire_permit(request).await).await;
    let with = |permits| new_job("new", vec![proto::StageSpec { permits, ..new_stage("s") }]);
    let rows = vec![
        (with(vec![claim("a"), claim("a")]), "stages[0].permits[1].resource"),
        (with(vec![amount("a", -1)]), "stages[0].permits[0].amount"),
        (with((0..33).map(|i| claim(&i.to_string())).collect()), "stages[0].permits"),
    ];
    scene.refuses(rows, async |request| scene.api.jobs().submit_job(request).await).await;
}

#[tokio::test]
async fn invalid_policies_are_refused_with_the_field() {
    let scene = Scene::set().await;
    let of = |policy| UpdateResourceRequest { name: "limit".into(), policy: Some(policy), ..Default::default() };
    let adaptive = |min, max| proto::ResourcePolicy {
        adaptive: Some(proto::AdaptiveLimit { min, max, ..Default::default() }),
        ..Default::default()
    };
    let breaker = |breaker| proto::ResourcePolicy { breaker: Some(breaker), ..Default::default() };
    let rates = vec![proto::RateLimit { tokens: 1, period: seconds(1), burst: 0 }; 9];
    let rows = vec![
        (of(capacity(-1)), "policy.capacity"),
        (of(capacity(1_000_001)), "policy.capacity"),
        (of(rate(0, 1_000, 1)), "policy.rates[0].tokens"),
        (of(rate(1, 0, 1)), "policy.rates[0].period"),
        (of(rate(1, 1_000, -1)), "policy.rates[0].burst"),
        (of(proto::ResourcePolicy { rates, ..Default::default() }), "policy.rates"),
        (of(adaptive(5, 4)), "policy.adaptive.max"),
        (of(adaptive(1, 0)), "policy.adaptive.max"),
        (of(breaker(proto::CircuitBreaker { probes: Some(0), ..Default::default() })), "policy.breaker.probes"),
        (
            of(breaker(proto::CircuitBreaker { failure_ratio: Some(0.0), ..Default::default() })),
            "policy.breaker.failure_ratio",
        ),
        (UpdateResourceRequest { name: String::new(), ..Default::default() }, "name"),
        (UpdateResourceRequest { expected_version: Some(-1), ..of(capacity(1)) }, "expected_version"),
    ];
    scene.refuses(rows, async |request| scene.api.permits().update_resource(request).await).await;
    let stale = UpdateResourceRequest { expected_version: Some(7), ..of(capacity(1)) };
    refused(scene.api.permits().update_resource(stale).await, Code::Aborted, "VERSION_MISMATCH");
    let reset = proto::ResetBreakerRequest { name: "limit".into(), requester: "me".into(), ..Default::default() };
    refused(scene.api.permits().reset_breaker(reset).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    let delete = proto::DeleteResourceRequest { name: "lock".into(), ..Default::default() };
    refused(scene.api.permits().delete_resource(delete).await, Code::FailedPrecondition, "RESOURCE_IN_USE");
    let delete = proto::DeleteResourceRequest { name: "ghost".into(), ..Default::default() };
    refused(scene.api.permits().delete_resource(delete).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    scene.is_unchanged().await;
}

#[tokio::test]
async fn unknown_tokens_and_tokens_of_other_namespaces_hold_nothing() {
    let scene = Scene::set().await;
    let (api, token) = (&scene.api, &scene.permit.permit_token);
    let garbled = |token: &str| ReleasePermitRequest { permit_token: token.to_owned(), ..Default::default() };
    for bad in ["", "x", &"x".repeat(48), &"x".repeat(100_000)] {
        let answer = api.permits().release_permit(garbled(bad)).await;
        // 48 characters can be a token of a namespace that is none.
        if bad.len() == 48 {
            refused(answer, Code::FailedPrecondition, "PERMIT_LOST");
        } else {
            field(answer, "permit_token");
        }
    }
    let lost = (Code::FailedPrecondition, "PERMIT_LOST");
    refused(api.permits().release_permit(within("other", garbled(token))).await, lost.0, lost.1);
    let renew = proto::RenewPermitsRequest { permit_tokens: vec![token.clone()], ..Default::default() };
    assert!(ok(api.permits().renew_permits(within("other", renew.clone())).await).statuses[0].lost);
    let fenced = CommitRequest {
        permit_fence: Some(token.clone()),
        operations: vec![proto::CommitOperation {
            operation: Some(proto::commit_operation::Operation::UpdateRecord(update("x", vec![increment("n", 1.0)]))),
        }],
        ..Default::default()
    };
    refused(api.transactions().commit(within("other", fenced.clone())).await, lost.0, lost.1);
    scene.is_unchanged().await;
    assert!(!ok(api.permits().renew_permits(renew).await).statuses[0].lost);
    ok(api.transactions().commit(fenced).await);
}
