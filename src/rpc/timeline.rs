//! TimelineService: which function answers which rpc.

pub(super) mod appends;
pub(super) mod cache;
mod conditions;
mod export;
pub(super) mod gate;
mod import;
mod query;
mod search;
mod segments;
mod sessions;
mod statistics;
mod watch;

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::caller::{Caller, answer};
use super::services::Services;
use super::stale::{self, MayBeStale, answer_stale};
use super::streams::Messages;
use crate::admission::StreamCharge;
use crate::proto::timeline_service_server::TimelineService;
use crate::proto::*;

/// Answers a call of one namespace by `rpc` once the gate lets it through.
async fn answer_gated<Q, A, F>(
    services: &Arc<Services>,
    request: Request<Q>,
    rpc: impl FnOnce(Caller, Q) -> F,
) -> Answer<A>
where
    F: Future<Output = crate::error::Result<A>>,
{
    let gated = async |caller: Caller, request| {
        let _place = caller.services.timeline_gate.enter(caller.deadline).await?;
        rpc(caller, request).await
    };
    answer(services, request, gated).await
}

/// The same for reads that may be stale.
async fn answer_gated_stale<Q, A, F>(
    services: &Arc<Services>,
    request: Request<Q>,
    rpc: impl Fn(Caller, Q) -> F,
) -> Answer<A>
where
    Q: MayBeStale,
    F: Future<Output = crate::error::Result<A>>,
{
    answer_gated(services, request, |caller, request| stale::read(caller, request, rpc)).await
}

/// The rpcs of TimelineService.
pub struct TimelineRpcs(pub Arc<Services>);

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl TimelineService for TimelineRpcs {
    async fn create_session(&self, request: Request<CreateSessionRequest>) -> Answer<CreateSessionResponse> {
        answer_gated(&self.0, request, sessions::create_session).await
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Answer<GetSessionResponse> {
        answer_gated_stale(&self.0, request, sessions::get_session).await
    }

    async fn list_sessions(&self, request: Request<ListSessionsRequest>) -> Answer<ListSessionsResponse> {
        answer_gated_stale(&self.0, request, sessions::list_sessions).await
    }

    async fn update_session(&self, request: Request<UpdateSessionRequest>) -> Answer<UpdateSessionResponse> {
        answer_gated(&self.0, request, sessions::update_session).await
    }

    async fn end_session(&self, request: Request<EndSessionRequest>) -> Answer<EndSessionResponse> {
        answer_gated(&self.0, request, sessions::end_session).await
    }

    async fn delete_session(&self, request: Request<DeleteSessionRequest>) -> Answer<DeleteSessionResponse> {
        answer_gated(&self.0, request, sessions::delete_session).await
    }

    async fn append_segments(&self, request: Request<AppendSegmentsRequest>) -> Answer<AppendSegmentsResponse> {
        answer_gated(&self.0, request, appends::append_segments).await
    }

    async fn write_segments(&self, request: Request<WriteSegmentsRequest>) -> Answer<WriteSegmentsResponse> {
        answer_gated(&self.0, request, appends::write_segments).await
    }

    async fn import_segments(
        &self,
        request: Request<Streaming<ImportSegmentsRequest>>,
    ) -> Answer<ImportSegmentsResponse> {
        let charge = request.extensions().get::<StreamCharge>().cloned();
        let done = answer(&self.0, request, |caller, inbound| import::import_segments(caller, charge, inbound)).await?;
        done.into_inner().map(Response::new)
    }

    async fn update_segment(&self, request: Request<UpdateSegmentRequest>) -> Answer<UpdateSegmentResponse> {
        answer_gated(&self.0, request, segments::update_segment).await
    }

    async fn delete_segment(&self, request: Request<DeleteSegmentRequest>) -> Answer<DeleteSegmentResponse> {
        answer_gated(&self.0, request, segments::delete_segment).await
    }

    async fn get_segment(&self, request: Request<GetSegmentRequest>) -> Answer<GetSegmentResponse> {
        answer_gated_stale(&self.0, request, segments::get_segment).await
    }

    async fn query_timeline(&self, request: Request<QueryTimelineRequest>) -> Answer<QueryTimelineResponse> {
        answer_gated_stale(&self.0, request, query::query_timeline).await
    }

    async fn search_segments(&self, request: Request<SearchSegmentsRequest>) -> Answer<SearchSegmentsResponse> {
        answer_gated_stale(&self.0, request, search::search_segments).await
    }

    async fn get_session_statistics(
        &self,
        request: Request<GetSessionStatisticsRequest>,
    ) -> Answer<GetSessionStatisticsResponse> {
        answer_gated_stale(&self.0, request, statistics::get_session_statistics).await
    }

    type ExportTimelineStream = Messages<ExportTimelineResponse>;

    async fn export_timeline(
        &self,
        request: Request<ExportTimelineRequest>,
    ) -> Answer<Messages<ExportTimelineResponse>> {
        answer_stale(&self.0, request, export::export_timeline).await
    }

    type WatchSessionStream = Messages<WatchSessionResponse>;

    async fn watch_session(&self, request: Request<WatchSessionRequest>) -> Answer<Messages<WatchSessionResponse>> {
        answer(&self.0, request, watch::watch_session).await
    }
}
