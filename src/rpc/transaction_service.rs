//! TransactionService: which function answers which rpc.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::caller::answer;
use super::commit;
use super::services::Services;
use crate::proto::transaction_service_server::TransactionService;
use crate::proto::*;

/// The rpcs of TransactionService.
pub struct TransactionRpcs(pub Arc<Services>);

#[tonic::async_trait]
impl TransactionService for TransactionRpcs {
    async fn commit(&self, request: Request<CommitRequest>) -> Result<Response<CommitResponse>, Status> {
        answer(&self.0, request, commit::commit).await
    }
}
