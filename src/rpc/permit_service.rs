//! PermitService: which function answers which rpc. Acquiring is in `acquire`, what else changes something in `permit_writes`, reads are
//! in `permit_reads`, `waiters` and `watch_resource`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::caller::answer;
use super::services::Services;
use super::streams::Messages;
use super::{acquire, permit_reads, permit_writes, waiters, watch_resource};
use crate::admission::UntilSent;
use crate::proto::permit_service_server::PermitService;
use crate::proto::*;

/// The rpcs of PermitService.
pub struct PermitRpcs(pub Arc<Services>);

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl PermitService for PermitRpcs {
    async fn acquire_permit(&self, request: Request<AcquirePermitRequest>) -> Answer<AcquirePermitResponse> {
        let (message, undelivered) = answer(&self.0, request, acquire::acquire_permit).await?.into_inner();
        let mut response = Response::new(message);
        // Until then its caller may go away without it.
        response.extensions_mut().insert(UntilSent::new(move || undelivered.hand_over()));
        Ok(response)
    }

    async fn renew_permits(&self, request: Request<RenewPermitsRequest>) -> Answer<RenewPermitsResponse> {
        answer(&self.0, request, permit_writes::renew_permits).await
    }

    async fn release_permit(&self, request: Request<ReleasePermitRequest>) -> Answer<ReleasePermitResponse> {
        answer(&self.0, request, permit_writes::release_permit).await
    }

    async fn update_resource(&self, request: Request<UpdateResourceRequest>) -> Answer<UpdateResourceResponse> {
        answer(&self.0, request, permit_writes::update_resource).await
    }

    async fn get_resource(&self, request: Request<GetResourceRequest>) -> Answer<GetResourceResponse> {
        answer(&self.0, request, permit_reads::get_resource).await
    }

    async fn list_resources(&self, request: Request<ListResourcesRequest>) -> Answer<ListResourcesResponse> {
        answer(&self.0, request, permit_reads::list_resources).await
    }

    async fn list_waiters(&self, request: Request<ListWaitersRequest>) -> Answer<ListWaitersResponse> {
        answer(&self.0, request, waiters::list_waiters).await
    }

    async fn delete_resource(&self, request: Request<DeleteResourceRequest>) -> Answer<DeleteResourceResponse> {
        answer(&self.0, request, permit_writes::delete_resource).await
    }

    type WatchResourceStream = Messages<WatchResourceResponse>;

    async fn watch_resource(&self, request: Request<WatchResourceRequest>) -> Answer<Messages<WatchResourceResponse>> {
        answer(&self.0, request, watch_resource::watch_resource).await
    }

    async fn reset_breaker(&self, request: Request<ResetBreakerRequest>) -> Answer<ResetBreakerResponse> {
        answer(&self.0, request, permit_writes::reset_breaker).await
    }

    async fn revoke_permit(&self, request: Request<RevokePermitRequest>) -> Answer<RevokePermitResponse> {
        answer(&self.0, request, permit_writes::revoke_permit).await
    }
}
