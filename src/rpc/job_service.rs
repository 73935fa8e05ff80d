//! JobService: which function answers which rpc. Those that change a job are in `job_writes`, the others in `job_reads`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::caller::answer;
use super::services::Services;
use super::stale::answer_stale;
use super::streams::Messages;
use super::{explain, job_reads, job_writes, queues, submit_jobs, watch};
use crate::proto::job_service_server::JobService;
use crate::proto::*;

/// The rpcs of JobService.
pub struct JobRpcs(pub Arc<Services>);

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl JobService for JobRpcs {
    async fn submit_job(&self, request: Request<SubmitJobRequest>) -> Answer<SubmitJobResponse> {
        answer(&self.0, request, submit_jobs::submit_job).await
    }

    async fn batch_submit_jobs(&self, request: Request<BatchSubmitJobsRequest>) -> Answer<BatchSubmitJobsResponse> {
        answer(&self.0, request, submit_jobs::batch_submit_jobs).await
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Answer<GetJobResponse> {
        answer_stale(&self.0, request, job_reads::get_job).await
    }

    async fn get_stage(&self, request: Request<GetStageRequest>) -> Answer<GetStageResponse> {
        answer(&self.0, request, job_reads::get_stage).await
    }

    async fn list_stages(&self, request: Request<ListStagesRequest>) -> Answer<ListStagesResponse> {
        answer(&self.0, request, job_reads::list_stages).await
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        answer_stale(&self.0, request, job_reads::list_jobs).await
    }

    async fn update_job(&self, request: Request<UpdateJobRequest>) -> Answer<UpdateJobResponse> {
        answer(&self.0, request, job_writes::update_job).await
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Answer<CancelJobResponse> {
        answer(&self.0, request, job_writes::cancel_job).await
    }

    async fn pause_job(&self, request: Request<PauseJobRequest>) -> Answer<PauseJobResponse> {
        answer(&self.0, request, job_writes::pause_job).await
    }

    async fn resume_job(&self, request: Request<ResumeJobRequest>) -> Answer<ResumeJobResponse> {
        answer(&self.0, request, job_writes::resume_job).await
    }

    async fn retry_job(&self, request: Request<RetryJobRequest>) -> Answer<RetryJobResponse> {
        answer(&self.0, request, job_writes::retry_job).await
    }

    async fn delete_job(&self, request: Request<DeleteJobRequest>) -> Answer<DeleteJobResponse> {
        answer(&self.0, request, job_writes::delete_job).await
    }

    async fn wait_job(&self, request: Request<WaitJobRequest>) -> Answer<WaitJobResponse> {
        answer(&self.0, request, job_reads::wait_job).await
    }

    type WatchJobStream = Messages<WatchJobResponse>;

    async fn watch_job(&self, request: Request<WatchJobRequest>) -> Answer<Self::WatchJobStream> {
        answer(&self.0, request, watch::watch_job).await
    }

    type WatchJobsStream = Messages<WatchJobsResponse>;

    async fn watch_jobs(&self, request: Request<WatchJobsRequest>) -> Answer<Self::WatchJobsStream> {
        answer(&self.0, request, watch::watch_jobs).await
    }

    async fn list_job_events(&self, request: Request<ListJobEventsRequest>) -> Answer<ListJobEventsResponse> {
        answer(&self.0, request, job_reads::list_job_events).await
    }

    async fn list_queues(&self, request: Request<ListQueuesRequest>) -> Answer<ListQueuesResponse> {
        answer_stale(&self.0, request, queues::list_queues).await
    }

    async fn explain_job(&self, request: Request<ExplainJobRequest>) -> Answer<ExplainJobResponse> {
        answer(&self.0, request, explain::explain_job).await
    }
}
