//! `interlock stage complete|fail|release`: how an attempt ended.

use clap::Args;
use serde_json::json;

use super::target::{TargetFlags, line};
use crate::cli::client::ApiClient;
use crate::cli::document::{message, object, parse, text_of};
use crate::cli::output::{Output, print};
use crate::cli::program::ClassName;
use crate::cli::text::duration;
use crate::cli::write::{RepeatFlag, VersionFlag};
use crate::proto;

/// The stage, and what it has produced.
#[derive(Debug, Args)]
pub(super) struct Complete {
    #[command(flatten)]
    target: TargetFlags,
    /// Artifacts of the stage: a JSON object, @FILE, or @- [default: none].
    #[arg(long, value_name = "JSON")]
    artifacts: Option<String>,
    /// Result of the job: a JSON object, @FILE, or @- [default: as before].
    #[arg(long, value_name = "JSON")]
    job_result: Option<String>,
    /// Stages to add to the job: a JSON array with the fields of StageSpec, @FILE, or @- [default: none].
    #[arg(long, value_name = "JSON")]
    add_stages: Option<String>,
    /// Last message, for people [default: as before].
    #[arg(long)]
    message: Option<String>,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

/// The stage, and why its attempt failed.
#[derive(Debug, Args)]
pub(super) struct Fail {
    #[command(flatten)]
    target: TargetFlags,
    /// Class of the failure, which decides whether the stage is tried again.
    #[arg(long, value_name = "CLASS", value_enum, default_value = "server-error")]
    class: ClassName,
    /// Code of your own choice, such as `503` [default: none].
    #[arg(long, default_value = "", hide_default_value = true)]
    code: String,
    /// Message, for people [default: none].
    #[arg(long, default_value = "", hide_default_value = true)]
    message: String,
    /// Wait that the called service asked for, 0s to 24h [default: the backoff of the retry policy].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retry_after: Option<prost_types::Duration>,
    /// Further details: a JSON object, @FILE, or @-; `job get` shows a text under `traceback` line by line [default: none].
    #[arg(long, value_name = "JSON")]
    details: Option<String>,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

/// The stage to give back.
#[derive(Debug, Args)]
pub(super) struct ReleaseStage {
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl Complete {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let read = |flag, text: &Option<String>| text.as_deref().map(|text| object(flag, text)).transpose();
        let stages = match &self.add_stages {
            Some(text) => parse("--add-stages", &text_of("--add-stages", text)?)?,
            None => json!([]),
        };
        let added: proto::CompleteStageRequest = message("--add-stages", json!({ "addStages": stages }))?;
        let request = proto::CompleteStageRequest {
            artifacts: read("--artifacts", &self.artifacts)?,
            job_result: read("--job-result", &self.job_result)?,
            target: self.target.target()?,
            message: self.message,
            expected_version: self.version.expected_version,
            request_id: Some(request_id.clone()),
            ..added
        };
        let answer = client.applied(&request_id, client.workers().complete_stage(client.ask(request))).await?;
        print(output, &answer, |answer| line(answer.stage.as_ref(), answer.applied))
    }
}

impl Fail {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let failure = proto::Failure {
            failure_class: self.class.failure_class().into(),
            code: self.code,
            message: self.message,
            retry_after: self.retry_after,
            details: self.details.as_deref().map(|text| object("--details", text)).transpose()?,
            ..Default::default()
        };
        let request = proto::FailStageRequest {
            target: self.target.target()?,
            failure: Some(failure),
            expected_version: self.version.expected_version,
            request_id: Some(request_id.clone()),
            ..Default::default()
        };
        let answer = client.applied(&request_id, client.workers().fail_stage(client.ask(request))).await?;
        print(output, &answer, |answer| line(answer.stage.as_ref(), answer.applied))
    }
}

impl ReleaseStage {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::ReleaseStageRequest {
            target: self.target.target()?,
            expected_version: self.version.expected_version,
            request_id: Some(request_id.clone()),
            ..Default::default()
        };
        let answer = client.applied(&request_id, client.workers().release_stage(client.ask(request))).await?;
        print(output, &answer, |answer| line(answer.stage.as_ref(), answer.applied))
    }
}
