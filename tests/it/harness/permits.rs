//! Permits with fewer words.

use interlock::proto::acquire_permit_response::Result as Outcome;
use interlock::proto::permit_service_client::PermitServiceClient;
use interlock::proto::{self, PermitClaim, PermitMode};
use tonic::transport::Channel;

use super::{Api, PATIENCE, eventually, millis, ok, seconds};

/// A claim of one resource.
pub fn claim(resource: &str) -> PermitClaim {
    PermitClaim { resource: resource.to_owned(), ..Default::default() }
}

/// A claim to read along with others.
pub fn shared(resource: &str) -> PermitClaim {
    PermitClaim { mode: PermitMode::Shared.into(), ..claim(resource) }
}

/// A claim of so much.
pub fn amount(resource: &str, amount: i64) -> PermitClaim {
    PermitClaim { amount, ..claim(resource) }
}

/// An AcquirePermit request that does not wait.
pub fn acquire_request(claims: Vec<PermitClaim>) -> proto::AcquirePermitRequest {
    proto::AcquirePermitRequest { claims, holder: "worker".to_owned(), ttl: seconds(60), ..Default::default() }
}

/// An AcquirePermit request that waits for [`PATIENCE`].
pub fn patient(claims: Vec<PermitClaim>) -> proto::AcquirePermitRequest {
    proto::AcquirePermitRequest { wait: seconds(PATIENCE.as_secs()), ..acquire_request(claims) }
}

/// A release after success.
pub fn release_of(permit: &proto::Permit) -> proto::ReleasePermitRequest {
    proto::ReleasePermitRequest { permit_token: permit.permit_token.clone(), ..Default::default() }
}

/// So much at once.
pub fn capacity(capacity: i64) -> proto::ResourcePolicy {
    proto::ResourcePolicy { capacity: Some(capacity), ..Default::default() }
}

/// So many in so many milliseconds, with a burst.
pub fn rate(amount: i64, per_ms: i64, burst: i64) -> proto::ResourcePolicy {
    let rate = proto::RateLimit { tokens: amount, period: millis(per_ms), burst };
    proto::ResourcePolicy { rates: vec![rate], ..Default::default() }
}

impl Api {
    pub fn permits(&self) -> PermitServiceClient<Channel> {
        PermitServiceClient::new(self.channel.clone())
    }

    /// Sends an AcquirePermit request; an error is its denial.
    pub async fn ask(&self, request: proto::AcquirePermitRequest) -> Result<proto::Permit, proto::PermitDenial> {
        match ok(self.permits().acquire_permit(request).await).result.expect("an outcome") {
            Outcome::Permit(permit) => Ok(permit),
            Outcome::Denial(denial) => Err(denial),
        }
    }

    /// A permit of one resource, waiting for it.
    pub async fn acquire(&self, resource: &str) -> proto::Permit {
        self.ask(patient(vec![claim(resource)])).await.expect("a permit in time")
    }

    /// Gives a permit back.
    pub async fn release(&self, permit: &proto::Permit) -> bool {
        ok(self.permits().release_permit(release_of(permit)).await).applied
    }

    /// Gives a permit back after a failure.
    pub async fn release_failed(&self, permit: &proto::Permit, class: proto::FailureClass) {
        let outcome = proto::PermitOutcome { failure_class: class.into(), ..Default::default() };
        let release = proto::ReleasePermitRequest { outcome: Some(outcome), ..release_of(permit) };
        assert!(ok(self.permits().release_permit(release).await).applied);
    }

    /// Extends a permit; false if it is lost.
    pub async fn renew(&self, permit: &proto::Permit) -> bool {
        let permit_tokens = vec![permit.permit_token.clone()];
        let renew = proto::RenewPermitsRequest { permit_tokens, ..Default::default() };
        !ok(self.permits().renew_permits(renew).await).statuses.remove(0).lost
    }

    /// Sets the rules of a resource.
    pub async fn set_policy(&self, name: &str, policy: proto::ResourcePolicy) -> proto::Resource {
        let update = proto::UpdateResourceRequest { name: name.to_owned(), policy: Some(policy), ..Default::default() };
        ok(self.permits().update_resource(update).await).resource.expect("the resource")
    }

    pub async fn resource(&self, name: &str) -> proto::Resource {
        let get = proto::GetResourceRequest { name: name.to_owned() };
        ok(self.permits().get_resource(get).await).resource.expect("a resource")
    }

    /// Waits until so many wait for a resource.
    pub async fn waits_for(&self, name: &str, waiting: i64) {
        eventually("the line", async || (self.resource(name).await.waiter_count == waiting).then_some(())).await;
    }
}
