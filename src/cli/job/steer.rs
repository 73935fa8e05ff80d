//! `interlock job cancel|retry|pause|resume|delete`.

use clap::Args;

use crate::cli::client::ApiClient;
use crate::cli::output::{Output, print};
use crate::cli::text::{duration, job_state, time};
use crate::cli::write::{RepeatFlag, VersionFlag};
use crate::proto::{self, JobState};

/// The job to cancel, and how.
#[derive(Debug, Args)]
pub(super) struct CancelCommand {
    /// Id of the job.
    #[arg(value_name = "ID")]
    job_id: String,
    /// Reason, shown to people.
    #[arg(long, default_value = "")]
    reason: String,
    /// Time that workers get to stop [default: 30s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    grace: Option<prost_types::Duration>,
    #[command(flatten)]
    repeat: RepeatFlag,
    #[command(flatten)]
    version: VersionFlag,
}

/// The job to run again, and which part of it.
#[derive(Debug, Args)]
pub(super) struct RetryCommand {
    /// Id of the job.
    #[arg(value_name = "ID")]
    job_id: String,
    /// Run this stage again, whatever its state, and all that depend on it [default: the stages that have not succeeded].
    #[arg(long, value_name = "STAGE")]
    from_stage: Option<String>,
    #[command(flatten)]
    repeat: RepeatFlag,
    #[command(flatten)]
    version: VersionFlag,
}

/// The job to pause, to resume or to delete.
#[derive(Debug, Args)]
pub(super) struct SteeredJob {
    /// Id of the job.
    #[arg(value_name = "ID")]
    job_id: String,
    #[command(flatten)]
    repeat: RepeatFlag,
    #[command(flatten)]
    version: VersionFlag,
}

impl CancelCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::CancelJobRequest {
            job_id: self.job_id,
            reason: self.reason,
            grace_period: self.grace,
            request_id: Some(request_id.clone()),
            expected_version: self.version.expected_version,
            ..Default::default()
        };
        let answer = client.applied(&request_id, client.jobs().cancel_job(client.ask(request))).await?;
        print(output, &answer, |answer| line(answer.job.as_ref(), |job| cancelled(job, answer.applied)))
    }
}

impl RetryCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::RetryJobRequest {
            job_id: self.job_id,
            from_stage: self.from_stage.unwrap_or_default(),
            request_id: Some(request_id.clone()),
            expected_version: self.version.expected_version,
            ..Default::default()
        };
        let answer = client.applied(&request_id, client.jobs().retry_job(client.ask(request))).await?;
        let run = |job: &proto::Job| format!("{}  {}, run {}", job.job_id, job_state(job.state()), job.run);
        print(output, &answer, |answer| line(answer.job.as_ref(), run))
    }
}

impl SteeredJob {
    pub(super) async fn pause(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::PauseJobRequest {
            job_id: self.job_id,
            request_id: Some(request_id.clone()),
            expected_version: self.version.expected_version,
            ..Default::default()
        };
        let answer = client.applied(&request_id, client.jobs().pause_job(client.ask(request))).await?;
        print(output, &answer, |answer| line(answer.job.as_ref(), |job| steered(job, answer.applied)))
    }

    pub(super) async fn resume(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::ResumeJobRequest {
            job_id: self.job_id,
            request_id: Some(request_id.clone()),
            expected_version: self.version.expected_version,
            ..Default::default()
        };
        let answer = client.applied(&request_id, client.jobs().resume_job(client.ask(request))).await?;
        print(output, &answer, |answer| line(answer.job.as_ref(), |job| steered(job, answer.applied)))
    }

    pub(super) async fn delete(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::DeleteJobRequest {
            job_id: self.job_id.clone(),
            request_id: Some(request_id.clone()),
            expected_version: self.version.expected_version,
            ..Default::default()
        };
        let answer = client.applied(&request_id, client.jobs().delete_job(client.ask(request))).await?;
        print(output, &answer, |_| vec![format!("{}  deleted", self.job_id)])
    }
}

/// The line about a job. None: the call is a repeat, and the job was deleted after the first one.
fn line(job: Option<&proto::Job>, line: impl FnOnce(&proto::Job) -> String) -> Vec<String> {
    vec![job.map_or_else(|| "applied before, and deleted since".to_owned(), line)]
}

fn steered(job: &proto::Job, applied: bool) -> String {
    let before = if applied { "" } else { ", as it was before" };
    format!("{}  {}{before}", job.job_id, job_state(job.state()))
}

fn cancelled(job: &proto::Job, applied: bool) -> String {
    let state = job_state(job.state());
    let before = if applied { "" } else { ", as it was before" };
    let until = match (job.state(), job.cancel_deadline_time) {
        (JobState::Cancelling, Some(deadline)) => format!(", workers have until {} to stop", time(Some(deadline))),
        _ => String::new(),
    };
    format!("{}  {state}{until}{before}", job.job_id)
}
