//! `interlock job cancel` and `interlock job retry`.

use clap::Args;
use uuid::Uuid;

use super::submit::advised;
use crate::cli::client::ApiClient;
use crate::cli::text::{duration, job_state, say, time};
use crate::cli::{Output, json};
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
    /// Idempotency key: repeated requests with the same id make one run [default: a new one].
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
}

impl CancelCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request = proto::CancelJobRequest {
            job_id: self.job_id,
            reason: self.reason,
            grace_period: self.grace,
            ..Default::default()
        };
        let answer = client.message(client.jobs().cancel_job(client.ask(request)).await)?;
        match (output, &answer.job) {
            (Output::Json, _) => say(json::text(&answer)?)?,
            (Output::Table, Some(job)) => say(cancelled(job, answer.applied))?,
            (Output::Table, None) => {}
        }
        Ok(())
    }
}

impl RetryCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.request_id.unwrap_or_else(Uuid::new_v4).to_string();
        let request = proto::RetryJobRequest {
            job_id: self.job_id,
            from_stage: self.from_stage.unwrap_or_default(),
            request_id: Some(request_id.clone()),
            ..Default::default()
        };
        let answer = client.jobs().retry_job(client.ask(request)).await;
        let answer = client.message(answer).map_err(|failed| advised(failed, &request_id))?;
        match (output, &answer.job) {
            (Output::Json, _) => say(json::text(&answer)?)?,
            (Output::Table, Some(job)) => {
                say(format!("{}  {}, run {}", job.job_id, job_state(job.state()), job.run))?;
            }
            (Output::Table, None) => say("retried before, and deleted since")?,
        }
        Ok(())
    }
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
