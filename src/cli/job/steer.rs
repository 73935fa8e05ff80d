//! `interlock job cancel` and `interlock job retry`

use clap::Args;
use uuid::Uuid;

use super::submit::advised;
use crate::cli::client::Client;
use crate::cli::text::{job_state, say, time};
use crate::cli::{Output, json};
use crate::config::Span;
use crate::proto::{self, JobState};

/// Which job, and how it is cancelled.
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The job.
    #[arg(value_name = "ID")]
    job_id: String,
    /// Why, for people.
    #[arg(long, default_value = "")]
    reason: String,
    /// How long workers have to stop [default: 30s].
    #[arg(long, value_name = "TIME")]
    grace: Option<Span>,
}

/// Which job, and what of it is run again.
#[derive(Debug, Args)]
pub(super) struct Retry {
    /// The job.
    #[arg(value_name = "ID")]
    job_id: String,
    /// Do this stage again, whatever became of it, and all that depends on it [default: only what has not succeeded].
    #[arg(long, value_name = "STAGE")]
    from_stage: Option<String>,
    /// Makes it safe to ask again: with the same id there is one run more [default: a fresh one].
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
}

impl Cancel {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let request = proto::CancelJobRequest {
            job_id: self.job_id,
            reason: self.reason,
            grace_period: self.grace.map(duration),
            ..Default::default()
        };
        let answer = client.told(client.jobs().cancel_job(client.ask(request)).await)?;
        match (output, &answer.job) {
            (Output::Json, _) => say(json::text(&answer)?)?,
            (Output::Table, Some(job)) => say(cancelled(job, answer.applied))?,
            (Output::Table, None) => {}
        }
        Ok(())
    }
}

impl Retry {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let request_id = self.request_id.unwrap_or_else(Uuid::new_v4).to_string();
        let request = proto::RetryJobRequest {
            job_id: self.job_id,
            from_stage: self.from_stage.unwrap_or_default(),
            request_id: Some(request_id.clone()),
            ..Default::default()
        };
        let answer = client.jobs().retry_job(client.ask(request)).await;
        let answer = client.told(answer).map_err(|failed| advised(failed, &request_id))?;
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

fn duration(span: Span) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.get().as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.get().subsec_nanos()).unwrap_or_default(),
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
