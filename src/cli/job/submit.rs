//! `interlock job submit`: sends a new job, and optionally watches it.

use std::process::ExitCode;

use clap::Args;

use super::follow::Follow;
use super::stages::stages;
use super::watch;
use crate::cli::client::ApiClient;
use crate::cli::document::{object, pair, text_of};
use crate::cli::failure::Failed;
use crate::cli::output::{Output, print};
use crate::cli::retry::Patience;
use crate::cli::text::{count, job_state};
use crate::cli::write::RepeatFlag;
use crate::proto;

/// The job to submit.
#[derive(Debug, Args)]
pub(super) struct Submit {
    /// Kind of the job.
    #[arg(long)]
    kind: String,
    /// Id of the job [default: the server generates one].
    #[arg(long, value_name = "ID")]
    job_id: Option<String>,
    /// Payload that all stages can read: a JSON object, @FILE, or @- for the standard input.
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// Stages of the job: a JSON array of objects with the fields of StageSpec (`[{"name":"a"},{"name":"b","depends_on":["a"]}]`)
    /// or of names, or @FILE, or @-, or `a,b,c` for stages that can all run at once [default: one stage named main].
    #[arg(long, value_name = "JSON")]
    stages: Option<String>,
    /// Label to find the job by; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Priority, -1000 to 1000; jobs with a higher one are leased first.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    priority: i32,
    #[command(flatten)]
    repeat: RepeatFlag,
    /// Watch the job to its end, like `job watch`.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    patience: Patience,
}

impl Submit {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<ExitCode> {
        let request_id = self.repeat.id();
        let request = self.request(request_id.clone())?;
        let answer = client.applied(&request_id, client.jobs().submit_job(client.ask(request))).await?;
        let job_id = answer.job.as_ref().map(|job| job.job_id.clone());
        print(output, &answer, |answer| vec![summary(answer)])?;
        let Some(job_id) = job_id.filter(|_| self.watch) else { return Ok(ExitCode::SUCCESS) };
        watch::run(Follow::begun(client.clone(), job_id, &self.patience), output).await
    }

    fn request(&self, request_id: String) -> Result<proto::SubmitJobRequest, Failed> {
        let read_stages = |value: &str| stages(&text_of("--stages", value)?);
        if [&self.payload, &self.stages].iter().all(|value| value.as_deref() == Some("@-")) {
            return Err(Failed::usage("--stages: only one document can come in by @-"));
        }
        Ok(proto::SubmitJobRequest {
            request_id: Some(request_id),
            job_id: self.job_id.clone(),
            kind: self.kind.clone(),
            payload: self.payload.as_deref().map(|value| object("--payload", value)).transpose()?,
            labels: self.labels.iter().cloned().collect(),
            priority: self.priority,
            stages: self.stages.as_deref().map(read_stages).transpose()?.unwrap_or_default(),
            ..Default::default()
        })
    }
}

fn summary(answer: &proto::SubmitJobResponse) -> String {
    let Some(job) = &answer.job else { return "submitted before, and deleted since".to_owned() };
    let stages = count(job.stage_counts.as_ref().map_or(0, |counts| counts.total.unsigned_abs() as usize), "stage");
    let before = if answer.replayed { ", submitted before" } else { "" };
    format!("{}  {}, {stages}{before}", job.job_id, job_state(job.state()))
}
