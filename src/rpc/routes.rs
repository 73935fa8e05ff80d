//! The seven services of the package as routes of one gRPC server.

use std::sync::Arc;

use tonic::service::Routes;

use super::admin_service::AdminRpcs;
use super::job_service::JobRpcs;
use super::permit_service::PermitRpcs;
use super::record_service::RecordRpcs;
use super::services::Services;
use super::timeline::TimelineRpcs;
use super::transaction_service::TransactionRpcs;
use super::worker_service::WorkerRpcs;
use crate::proto::admin_service_server::AdminServiceServer;
use crate::proto::job_service_server::JobServiceServer;
use crate::proto::permit_service_server::PermitServiceServer;
use crate::proto::record_service_server::RecordServiceServer;
use crate::proto::timeline_service_server::TimelineServiceServer;
use crate::proto::transaction_service_server::TransactionServiceServer;
use crate::proto::worker_service_server::WorkerServiceServer;

/// Returns the routes of all rpcs. Tonic's own limits on message sizes are off, because they answer without a reason: the
/// admission layers limit requests, and each rpc limits its response.
pub fn routes(services: Services) -> Routes {
    let services = Arc::new(services);
    let jobs = JobServiceServer::new(JobRpcs(services.clone()));
    let workers = WorkerServiceServer::new(WorkerRpcs(services.clone()));
    let records = RecordServiceServer::new(RecordRpcs(services.clone()));
    let permits = PermitServiceServer::new(PermitRpcs(services.clone()));
    let timelines = TimelineServiceServer::new(TimelineRpcs(services.clone()));
    let transactions = TransactionServiceServer::new(TransactionRpcs(services.clone()));
    let admin = AdminServiceServer::new(AdminRpcs(services));
    Routes::new(jobs.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(workers.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(records.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(permits.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(timelines.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(transactions.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(admin.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
}
