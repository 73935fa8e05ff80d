//! WorkerService: which function answers which rpc. What gives leases is in `leases`, Heartbeat in `heartbeat`, what ends or grows an attempt
//! in `stage_writes`, many ends at once in `outcomes`, and the list of workers in `workers`.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::caller::answer;
use super::services::Services;
use super::stale::answer_stale;
use super::streams::Messages;
use super::{heartbeat, leases, outcomes, stage_writes, work, workers};
use crate::admission::{StreamCharge, UntilSent};
use crate::proto::worker_service_server::WorkerService;
use crate::proto::*;

/// The rpcs of WorkerService.
pub struct WorkerRpcs(pub Arc<Services>);

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl WorkerService for WorkerRpcs {
    async fn lease_stages(&self, request: Request<LeaseStagesRequest>) -> Answer<LeaseStagesResponse> {
        let (message, leased) = answer(&self.0, request, leases::lease_stages).await?.into_inner();
        let count = message.leases.len();
        let mut response = Response::new(message);
        // Until then its caller may go away without them.
        response.extensions_mut().insert(UntilSent::new(move || drop(leased.hand_over(count))));
        Ok(response)
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        answer(&self.0, request, heartbeat::heartbeat).await
    }

    async fn start_stage(&self, request: Request<StartStageRequest>) -> Answer<StartStageResponse> {
        answer(&self.0, request, leases::start_stage).await
    }

    async fn update_stage_progress(
        &self,
        request: Request<UpdateStageProgressRequest>,
    ) -> Answer<UpdateStageProgressResponse> {
        answer(&self.0, request, stage_writes::update_stage_progress).await
    }

    async fn complete_stage(&self, request: Request<CompleteStageRequest>) -> Answer<CompleteStageResponse> {
        answer(&self.0, request, stage_writes::complete_stage).await
    }

    async fn complete_stages(&self, request: Request<CompleteStagesRequest>) -> Answer<CompleteStagesResponse> {
        answer(&self.0, request, outcomes::complete_stages).await
    }

    type WorkStream = Messages<WorkResponse>;

    async fn work(&self, request: Request<Streaming<WorkRequest>>) -> Answer<Self::WorkStream> {
        let (metadata, extensions, mut inbound) = request.into_parts();
        let charge = extensions.get::<StreamCharge>().cloned();
        let first = work::first(&mut inbound).await?;
        let request = Request::from_parts(metadata, extensions, first);
        answer(&self.0, request, |caller, first| work::work(caller, charge, first, inbound)).await
    }

    async fn fail_stage(&self, request: Request<FailStageRequest>) -> Answer<FailStageResponse> {
        answer(&self.0, request, stage_writes::fail_stage).await
    }

    async fn release_stage(&self, request: Request<ReleaseStageRequest>) -> Answer<ReleaseStageResponse> {
        answer(&self.0, request, stage_writes::release_stage).await
    }

    async fn add_stages(&self, request: Request<AddStagesRequest>) -> Answer<AddStagesResponse> {
        answer(&self.0, request, stage_writes::add_stages).await
    }

    async fn list_workers(&self, request: Request<ListWorkersRequest>) -> Answer<ListWorkersResponse> {
        answer_stale(&self.0, request, workers::list_workers).await
    }
}
