//! The public interface, as any client has it, and what to expect of answers.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::SocketAddr;

use interlock::proto::admin_service_client::AdminServiceClient;
use interlock::proto::job_service_client::JobServiceClient;
use interlock::proto::record_service_client::RecordServiceClient;
use interlock::proto::transaction_service_client::TransactionServiceClient;
use interlock::proto::worker_service_client::WorkerServiceClient;
use interlock::proto::{self, JobState};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::{PATIENCE, eventually, seconds, struct_of};

/// The clients of one server, over one connection.
#[derive(Clone)]
pub struct Api {
    pub channel: Channel,
}

impl Api {
    pub async fn connect(address: SocketAddr) -> Api {
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("a URI");
        Api { channel: endpoint.connect().await.expect("a connection") }
    }

    /// Connects with the first call. Over TLS no call of this succeeds.
    pub fn lazy(address: SocketAddr) -> Api {
        Api { channel: Channel::from_shared(format!("http://{address}")).expect("a URI").connect_lazy() }
    }

    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    pub fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    pub fn transactions(&self) -> TransactionServiceClient<Channel> {
        TransactionServiceClient::new(self.channel.clone())
    }

    pub fn records(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.channel.clone())
    }

    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    pub async fn submit(&self, request: proto::SubmitJobRequest) -> proto::Job {
        ok(self.jobs().submit_job(request).await).job.expect("a job")
    }

    pub async fn job(&self, job_id: &str) -> proto::Job {
        let request = proto::GetJobRequest { job_id: job_id.to_owned(), ..Default::default() };
        ok(self.jobs().get_job(request).await).job.expect("a job")
    }

    pub async fn stage(&self, job_id: &str, stage_name: &str) -> proto::Stage {
        let request = proto::GetStageRequest { job_id: job_id.to_owned(), stage_name: stage_name.to_owned() };
        ok(self.jobs().get_stage(request).await).stage.expect("a stage")
    }

    /// Waits until a job looks as it should.
    pub async fn job_where(&self, job_id: &str, what: &str, holds: impl Fn(&proto::Job) -> bool) -> proto::Job {
        eventually(what, async || Some(self.job(job_id).await).filter(&holds)).await
    }

    /// Waits until a job is in a state.
    pub async fn job_in(&self, job_id: &str, state: JobState) -> proto::Job {
        self.job_where(job_id, state.as_str_name(), |job| job.state() == state).await
    }

    /// Leases one stage of a queue for a while, waiting for it.
    pub async fn lease_for(&self, queue: &str, duration: u64) -> proto::Lease {
        let request = proto::LeaseStagesRequest {
            worker_id: "worker".to_owned(),
            queues: vec![queue.to_owned()],
            wait: seconds(PATIENCE.as_secs()),
            lease_duration: seconds(duration),
            ..Default::default()
        };
        ok(self.workers().lease_stages(request).await).leases.pop().expect("a lease in time")
    }

    /// Leases one stage of a queue, waiting for it.
    pub async fn lease(&self, queue: &str) -> proto::Lease {
        self.lease_for(queue, 60).await
    }

    /// Leases what is there right now.
    pub async fn lease_now(&self, queue: &str, max_stages: i32) -> Vec<proto::Lease> {
        let request = proto::LeaseStagesRequest {
            worker_id: "worker".to_owned(),
            queues: vec![queue.to_owned()],
            max_stages,
            ..Default::default()
        };
        ok(self.workers().lease_stages(request).await).leases
    }

    /// Completes the stage of a lease.
    pub async fn complete(&self, lease: &proto::Lease, artifacts: serde_json::Value) -> proto::CompleteStageResponse {
        let request =
            proto::CompleteStageRequest { target: token(lease), artifacts: struct_of(artifacts), ..Default::default() };
        ok(self.workers().complete_stage(request).await)
    }

    /// Fails the stage of a lease.
    pub async fn fail(&self, lease: &proto::Lease, failure: proto::Failure) -> proto::FailStageResponse {
        let request = proto::FailStageRequest { target: token(lease), failure: Some(failure), ..Default::default() };
        ok(self.workers().fail_stage(request).await)
    }

    /// Renews one lease, with progress if given.
    pub async fn renew_lease(&self, lease: &proto::Lease, progress: Option<f64>) -> proto::LeaseStatus {
        let renewal = proto::LeaseRenewal { lease_token: lease.lease_token.clone(), progress, message: None };
        ok(self.workers().heartbeat(proto::HeartbeatRequest { renewals: vec![renewal] }).await).statuses.remove(0)
    }

    /// Reports progress by token.
    pub async fn progress(&self, lease: &proto::Lease, progress: f64) -> proto::UpdateStageProgressResponse {
        let request =
            proto::UpdateStageProgressRequest { target: token(lease), progress: Some(progress), ..Default::default() };
        ok(self.workers().update_stage_progress(request).await)
    }

    /// What the server says about itself.
    pub async fn statistics(&self) -> proto::GetStatisticsResponse {
        ok(self.admin().get_statistics(proto::GetStatisticsRequest {}).await)
    }

    /// Waits until so many LeaseStages calls wait for work.
    pub async fn polls_wait(&self, count: i64) {
        eventually("the polls", async || {
            let waiting = self.statistics().await.dispatcher.expect("a dispatcher").waiting_polls;
            (waiting == count).then_some(())
        })
        .await;
    }

    /// The whole history of a job.
    pub async fn events(&self, job_id: &str) -> Vec<proto::JobEvent> {
        let mut request =
            proto::ListJobEventsRequest { job_id: job_id.to_owned(), page_size: 1_000, ..Default::default() };
        let mut events = Vec::new();
        loop {
            let page = ok(self.jobs().list_job_events(request.clone()).await);
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return events;
            }
            request.page_token = page.next_page_token;
        }
    }
}

/// The target of a request, out of the token of a lease.
pub fn token(lease: &proto::Lease) -> Option<proto::StageTarget> {
    Some(proto::StageTarget::leased(&lease.lease_token))
}

/// A request in a namespace.
pub fn within<T>(namespace: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("interlock-namespace", namespace.parse().expect("ASCII"));
    request
}

/// The message of an answer that has to be good.
#[track_caller]
pub fn ok<T>(answer: Result<Response<T>, Status>) -> T {
    match answer {
        Ok(response) => response.into_inner(),
        Err(status) => panic!("{:?} {}: {:?}", status.code(), status.message(), status.get_error_details()),
    }
}

/// What an error says beside its code and reason.
#[derive(Debug)]
pub struct Refused {
    pub metadata: HashMap<String, String>,
    /// The field of the first violation.
    pub field: Option<String>,
}

/// An answer that has to be an error of ours, which changed nothing.
#[track_caller]
pub fn refused<T: Debug>(answer: Result<Response<T>, Status>, code: Code, reason: &str) -> Refused {
    let status = answer.map(Response::into_inner).expect_err("must be refused");
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!((status.code(), &*info.reason), (code, reason), "{}", status.message());
    assert_eq!(info.domain, "interlock");
    assert_eq!(info.metadata["outcome"], "NOT_APPLIED", "{}", status.message());
    let violation = details.bad_request().and_then(|bad| bad.field_violations.first());
    Refused { metadata: info.metadata.clone(), field: violation.map(|violation| violation.field.clone()) }
}

/// An answer that has to name a bad field.
#[track_caller]
pub fn field<T: Debug>(answer: Result<Response<T>, Status>, path: &str) {
    let refused = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(refused.field.as_deref(), Some(path));
}
