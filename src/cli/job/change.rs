//! `interlock job update`: labels, priority and context.

use clap::Args;
use serde_json::json;

use crate::cli::client::ApiClient;
use crate::cli::document::{message, pair, parse, text_of};
use crate::cli::failure::Failed;
use crate::cli::output::{Output, print};
use crate::cli::text::job_state;
use crate::cli::write::{RepeatFlag, VersionFlag};
use crate::proto;

/// The job, and what changes of it.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct Update {
    /// Id of the job.
    #[arg(value_name = "ID")]
    job_id: String,
    /// Label that it has from now on; may be repeated. Those that are not named are removed.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair, group = "change")]
    labels: Vec<(String, String)>,
    /// Remove all labels.
    #[arg(long, conflicts_with = "labels", group = "change")]
    clear_labels: bool,
    /// Priority, -1000 to 1000.
    #[arg(long, allow_hyphen_values = true, group = "change")]
    priority: Option<i32>,
    /// Operations on the fields of its context: a JSON array with the fields of FieldOperation, such as
    /// `[{"field":"budget","increment":-5}]`, or @FILE, or @-.
    #[arg(long, value_name = "JSON", group = "change")]
    context: Option<String>,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl Update {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = self.request(request_id.clone())?;
        let answer = client.applied(&request_id, client.jobs().update_job(client.ask(request))).await?;
        print(output, &answer, |answer| {
            let before = if answer.applied { "" } else { ", as it was before" };
            let line = |job: &proto::Job| {
                format!("{}  {}, version {}{before}", job.job_id, job_state(job.state()), job.version)
            };
            vec![answer.job.as_ref().map_or_else(|| "applied before, and deleted since".to_owned(), line)]
        })
    }

    fn request(self, request_id: String) -> Result<proto::UpdateJobRequest, Failed> {
        let operations = match &self.context {
            Some(value) => parse("--context", &text_of("--context", value)?)?,
            None => json!([]),
        };
        let read: proto::UpdateJobRequest = message("--context", json!({ "contextOperations": operations }))?;
        let changes = [("labels", !self.labels.is_empty() || self.clear_labels), ("priority", self.priority.is_some())];
        let paths: Vec<_> =
            changes.into_iter().filter(|(_, is_given)| *is_given).map(|(path, _)| path.to_owned()).collect();
        Ok(proto::UpdateJobRequest {
            job_id: self.job_id,
            labels: self.labels.into_iter().collect(),
            priority: self.priority,
            update_mask: (!paths.is_empty()).then_some(prost_types::FieldMask { paths }),
            expected_version: self.version.expected_version,
            request_id: Some(request_id),
            ..read
        })
    }
}
