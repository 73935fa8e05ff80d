//! `interlock permit policy`: the rules of a resource.

use clap::Args;
use serde_json::{Value, json};

use super::read::{ResourceName, lines};
use crate::cli::client::ApiClient;
use crate::cli::document::{message, parse, text_of};
use crate::cli::failure::Failed;
use crate::cli::output::{Output, print};
use crate::cli::write::{RepeatFlag, VersionFlag};
use crate::proto;

/// The resource, and its new policy.
#[derive(Debug, Args)]
pub(super) struct PolicyCommand {
    #[command(flatten)]
    resource: ResourceName,
    /// A JSON object with the fields of ResourcePolicy, such as `{"capacity":5,"rates":[{"tokens":300,"period":"60s"}]}`, or @FILE, or
    /// @- [default: show the resource].
    #[arg(value_name = "JSON", conflicts_with = "none")]
    policy: Option<String>,
    /// Remove the policy: the resource is a lock again.
    #[arg(long)]
    none: bool,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl PolicyCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        if self.policy.is_none() && !self.none {
            return self.resource.get(client, output).await;
        }
        let request_id = self.repeat.id();
        let request = proto::UpdateResourceRequest {
            policy: self.policy.as_deref().map(policy).transpose()?,
            name: self.resource.name,
            expected_version: self.version.expected_version,
            request_id: Some(request_id.clone()),
        };
        let answer = client.applied(&request_id, client.permits().update_resource(client.ask(request))).await?;
        print(output, &answer, |answer| match &answer.resource {
            Some(resource) => lines(resource),
            None => vec!["applied before, and deleted since".to_owned()],
        })
    }
}

fn policy(text: &str) -> Result<proto::ResourcePolicy, Failed> {
    let policy @ Value::Object(_) = parse("JSON", &text_of("JSON", text)?)? else {
        return Err(Failed::usage("JSON: must be an object, such as '{\"capacity\":5}'; --none removes the policy"));
    };
    let request: proto::UpdateResourceRequest = message("JSON", json!({ "policy": policy }))?;
    Ok(request.policy.unwrap_or_default())
}
