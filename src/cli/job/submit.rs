//! `interlock job submit`

use std::process::ExitCode;

use clap::Args;
use uuid::Uuid;

use super::follow::Follow;
use super::stages::{label, payload, stages, text_of};
use super::watch;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failed};
use crate::cli::retry::Patience;
use crate::cli::text::{count, job_state, say};
use crate::cli::{Output, json};
use crate::proto;

/// A new job.
#[derive(Debug, Args)]
pub(super) struct Submit {
    /// What sort of job it is.
    #[arg(long)]
    kind: String,
    /// Its id [default: the server chooses one].
    #[arg(long, value_name = "ID")]
    job_id: Option<String>,
    /// What all its stages get to see: a JSON object, or @FILE, or @- for what comes in.
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// Its stages: a JSON array of objects with the fields of StageSpec (`[{"name":"a"},{"name":"b","depends_on":["a"]}]`)
    /// or of names, or @FILE, or @-, or `a,b,c` for stages that can all run at once [default: one stage named main].
    #[arg(long, value_name = "JSON")]
    stages: Option<String>,
    /// A label to find it by; can be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Jobs with a higher one go first, -1000 to 1000.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    priority: i32,
    /// Makes it safe to submit again: with the same id the job is made once [default: a fresh one].
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
    /// Follow it to its end, as `job watch` does.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    patience: Patience,
}

impl Submit {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<ExitCode> {
        let request_id = self.request_id.unwrap_or_else(Uuid::new_v4).to_string();
        let request = self.request(request_id.clone())?;
        let answer = client.jobs().submit_job(client.ask(request)).await;
        let answer = client.told(answer).map_err(|failed| advised(failed, &request_id))?;
        let job_id = answer.job.as_ref().map(|job| job.job_id.clone());
        match output {
            Output::Json => say(json::text(&answer)?)?,
            Output::Table => say(told(&answer))?,
        }
        let Some(job_id) = job_id.filter(|_| self.watch) else { return Ok(ExitCode::SUCCESS) };
        watch::run(Follow::begun(client.clone(), job_id, &self.patience), output).await
    }

    fn request(&self, request_id: String) -> Result<proto::SubmitJobRequest, Failed> {
        let text = |flag, value: &Option<String>| value.as_deref().map(|value| text_of(flag, value)).transpose();
        if [&self.payload, &self.stages].iter().all(|value| value.as_deref() == Some("@-")) {
            return Err(Failed::usage("--stages: only one document can come in by @-"));
        }
        Ok(proto::SubmitJobRequest {
            request_id: Some(request_id),
            job_id: self.job_id.clone(),
            kind: self.kind.clone(),
            payload: text("--payload", &self.payload)?.map(|text| payload(&text)).transpose()?,
            labels: self.labels.iter().cloned().collect(),
            priority: self.priority,
            stages: text("--stages", &self.stages)?.map(|text| stages(&text)).transpose()?.unwrap_or_default(),
            ..Default::default()
        })
    }
}

/// Where it is not known whether the job was made, the same request id finds out.
pub(super) fn advised(failed: Failed, request_id: &str) -> Failed {
    match failed.exit {
        Exit::Unreachable => failed.advise(&format!("it is safe to repeat this with --request-id {request_id}")),
        Exit::NotSucceeded | Exit::Usage | Exit::Refused => failed,
    }
}

fn told(answer: &proto::SubmitJobResponse) -> String {
    let Some(job) = &answer.job else { return "submitted before, and deleted since".to_owned() };
    let stages = count(job.stage_counts.as_ref().map_or(0, |counts| counts.total.unsigned_abs() as usize), "stage");
    let before = if answer.replayed { ", submitted before" } else { "" };
    format!("{}  {}, {stages}{before}", job.job_id, job_state(job.state()))
}
