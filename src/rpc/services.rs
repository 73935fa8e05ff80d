//! What serves every call, and the services over it as routes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::admin_service::AdminRpcs;
use super::job_service::JobRpcs;
use super::namespaces::Namespaces;
use super::permit_service::PermitRpcs;
use super::record_service::RecordRpcs;
use super::transaction_service::TransactionRpcs;
use super::worker_service::WorkerRpcs;
use crate::admission::{RateLimiter, Statistics};
use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::engine::dispatcher::Dispatcher;
use crate::error::Result;
use crate::feed::Hub;
use crate::proto::admin_service_server::AdminServiceServer;
use crate::proto::job_service_server::JobServiceServer;
use crate::proto::permit_service_server::PermitServiceServer;
use crate::proto::record_service_server::RecordServiceServer;
use crate::proto::transaction_service_server::TransactionServiceServer;
use crate::proto::worker_service_server::WorkerServiceServer;
use crate::store::Store;
use crate::task::BackgroundJobs;

/// The parts of a running server that calls need; cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// All writes.
    pub engine: Engine,
    /// All reads.
    pub store: Store,
    /// The same for reads of watches, which leave connections to all others.
    pub watch_store: Store,
    /// Tells of commits.
    pub hub: Arc<Hub>,
    /// Hands out leases.
    pub dispatcher: Arc<Dispatcher>,
    /// What was called, for GetStatistics.
    pub statistics: Arc<Statistics>,
    /// How often clients may call, and what was refused.
    pub rate_limiter: Arc<RateLimiter>,
    /// What runs in the background, for GetStatistics.
    pub loops: Arc<BackgroundJobs>,
    /// The namespaces by name.
    pub namespaces: Arc<Namespaces>,
    /// Cancelled when the drain begins: who waits is answered.
    pub shutdown: CancellationToken,
    /// When the server started, by its own clock.
    pub started: SystemTime,
}

impl Services {
    /// The database's time, asked for if it is not known well enough.
    pub(super) async fn now(&self) -> Result<Timestamp> {
        let clock = &self.engine.shared().clock;
        if let Some(now) = clock.fresh() {
            return Ok(now);
        }
        let now = self.store.clock().await?;
        clock.observe(now);
        Ok(now)
    }

    /// How long the server has been running.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed().unwrap_or_default()
    }
}

/// All rpcs. The sizes of messages are bounded by the admission layers on the way in, and by the replies themselves on the
/// way out: tonic's own bounds would turn a message that is too large into an error without a reason.
pub fn routes(services: Services) -> Routes {
    let services = Arc::new(services);
    let jobs = JobServiceServer::new(JobRpcs(services.clone()));
    let workers = WorkerServiceServer::new(WorkerRpcs(services.clone()));
    let records = RecordServiceServer::new(RecordRpcs(services.clone()));
    let permits = PermitServiceServer::new(PermitRpcs(services.clone()));
    let transactions = TransactionServiceServer::new(TransactionRpcs(services.clone()));
    let admin = AdminServiceServer::new(AdminRpcs(services));
    Routes::new(jobs.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(workers.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(records.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(permits.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(transactions.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
        .add_service(admin.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX))
}
