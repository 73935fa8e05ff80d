//! RecordService: which function answers which rpc. Those that change records are in `record_writes`, those that read in
//! `record_reads` and `watch_records`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::caller::answer;
use super::services::Services;
use super::stale::answer_stale;
use super::streams::Messages;
use super::{record_reads, record_writes, watch_records};
use crate::proto::record_service_server::RecordService;
use crate::proto::*;

/// The rpcs of RecordService.
pub struct RecordRpcs(pub Arc<Services>);

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl RecordService for RecordRpcs {
    async fn get_record(&self, request: Request<GetRecordRequest>) -> Answer<GetRecordResponse> {
        answer_stale(&self.0, request, record_reads::get_record).await
    }

    async fn batch_get_records(&self, request: Request<BatchGetRecordsRequest>) -> Answer<BatchGetRecordsResponse> {
        answer_stale(&self.0, request, record_reads::batch_get_records).await
    }

    async fn list_records(&self, request: Request<ListRecordsRequest>) -> Answer<ListRecordsResponse> {
        answer_stale(&self.0, request, record_reads::list_records).await
    }

    async fn list_collections(&self, request: Request<ListCollectionsRequest>) -> Answer<ListCollectionsResponse> {
        answer_stale(&self.0, request, record_reads::list_collections).await
    }

    async fn update_record(&self, request: Request<UpdateRecordRequest>) -> Answer<UpdateRecordResponse> {
        answer(&self.0, request, record_writes::update_record).await
    }

    async fn batch_update_records(
        &self,
        request: Request<BatchUpdateRecordsRequest>,
    ) -> Answer<BatchUpdateRecordsResponse> {
        answer(&self.0, request, record_writes::batch_update_records).await
    }

    async fn batch_write_records(
        &self,
        request: Request<BatchWriteRecordsRequest>,
    ) -> Answer<BatchWriteRecordsResponse> {
        answer(&self.0, request, record_writes::batch_write_records).await
    }

    type WatchRecordsStream = Messages<WatchRecordsResponse>;

    async fn watch_records(&self, request: Request<WatchRecordsRequest>) -> Answer<Messages<WatchRecordsResponse>> {
        answer(&self.0, request, watch_records::watch_records).await
    }

    async fn delete_record(&self, request: Request<DeleteRecordRequest>) -> Answer<DeleteRecordResponse> {
        answer(&self.0, request, record_writes::delete_record).await
    }
}
