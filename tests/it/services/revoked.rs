//! Operators revoke permits; and callers that were cancelled find out what they got, and give it back.

use interlock::proto::{self, RevokePermitRequest, StageSpec};
use tonic::Code;

use crate::harness::*;

fn revocation(resource: &str, fencing_token: i64) -> RevokePermitRequest {
    RevokePermitRequest {
        resource: resource.to_owned(),
        fencing_token,
        requester: "night shift".to_owned(),
        reason: "its holder is stuck".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn revoked_permit_is_lost_at_all_its_resources_and_granted_to_the_waiter() {
    let a = Server::start().await;
    let b = a.beside().await;
    let stuck = a.api.ask(acquire_request(vec![claim("doc"), claim("page")])).await.expect("free");
    let waiting = tokio::spawn({
        let api = b.api.clone();
        async move { api.acquire("page").await }
    });
    a.api.waits_for("page", 1).await;
    let request = RevokePermitRequest { request_id: request_id(), ..revocation("doc", stuck.grants[0].fencing_token) };
    for replayed in [false, true] {
        let received = ok(b.api.permits().revoke_permit(request.clone()).await);
        assert_eq!((received.applied, received.replayed), (true, replayed));
        let resource = received.resource.expect("the resource");
        assert_eq!(resource.permit_count, 0);
        let audited = &resource.revocations[0];
        assert_eq!((&*audited.requester, &*audited.reason), ("night shift", "its holder is stuck"));
        assert_eq!((audited.fencing_token, &*audited.holder), (stuck.grants[0].fencing_token, "worker"));
        assert!(audited.revoke_time.is_some());
    }
    let next = waiting.await.expect("served");
    assert!(next.grants[0].fencing_token > stuck.grants[1].fencing_token);
    assert_eq!(a.api.resource("page").await.revocations.len(), 1, "it is known at each resource");

    // Each rpc reports it as lost to its holder.
    assert!(!a.api.renew(&stuck).await);
    let lost = (Code::FailedPrecondition, "PERMIT_LOST");
    refused(a.api.permits().release_permit(release_of(&stuck)).await, lost.0, lost.1);
    let write = proto::commit_operation::Operation::UpdateRecord(update("x", vec![increment("n", 1.0)]));
    let fenced = proto::CommitRequest {
        permit_fence: Some(stuck.permit_token.clone()),
        operations: vec![proto::CommitOperation { operation: Some(write) }],
        ..Default::default()
    };
    refused(a.api.transactions().commit(fenced).await, lost.0, lost.1);
    assert!(a.api.renew(&next).await);

    // What is not held any more is no fault; what never was is a mistake.
    let again = ok(a.api.permits().revoke_permit(revocation("doc", stuck.grants[0].fencing_token)).await);
    assert!(!again.applied && again.resource.expect("the resource").revocations.len() == 1);
    field(a.api.permits().revoke_permit(revocation("doc", 1_000)).await, "fencing_token");
    field(a.api.permits().revoke_permit(revocation("doc", 0)).await, "fencing_token");
    refused(a.api.permits().revoke_permit(revocation("ghost", 1)).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_permit_beside_an_attempt_is_revoked_alone_and_one_of_an_attempt_is_not() {
    let server = Server::start().await;
    let api = &server.api;
    let stage = StageSpec { permits: vec![claim("of the stage")], ..new_stage("cut") };
    api.submit(new_job("film", vec![stage])).await;
    let lease = api.lease("default").await;
    let bound = proto::AcquirePermitRequest {
        lease_token: Some(lease.lease_token.clone()),
        holder: String::new(),
        ttl: None,
        ..acquire_request(vec![claim("beside")])
    };
    let beside = api.ask(bound).await.expect("free");
    let received = ok(api.permits().revoke_permit(revocation("beside", beside.grants[0].fencing_token)).await);
    assert!(received.applied);
    assert!(!api.renew(&beside).await);
    let of_stage = lease.permits[0].fencing_token;
    let answer = api.permits().revoke_permit(revocation("of the stage", of_stage)).await;
    refused(answer, Code::FailedPrecondition, "INVALID_TRANSITION");
    assert_eq!(api.resource("of the stage").await.permit_count, 1);
    api.complete(&lease, serde_json::json!({})).await;
    assert_eq!(api.resource("of the stage").await.permit_count, 0);
}

#[tokio::test]
async fn a_cancelled_acquire_is_found_by_its_request_id_and_released() {
    let server = Server::start().await;
    let api = &server.api;
    let holder = api.acquire("doc").await;
    let request = proto::AcquirePermitRequest { request_id: request_id(), ..patient(vec![claim("doc")]) };
    let calling = tokio::spawn({
        let (api, request) = (api.clone(), request.clone());
        async move { api.permits().acquire_permit(request).await }
    });
    api.waits_for("doc", 1).await;
    // Granted and cancelled at about the same time: its caller cannot know which was first.
    futures::future::join(api.release(&holder), async { calling.abort() }).await;
    let found = api.ask(request).await.expect("the permit of the first call, or another");
    assert!(api.release(&found).await);
    api.ask(acquire_request(vec![claim("doc")])).await.expect("it is free");
}
