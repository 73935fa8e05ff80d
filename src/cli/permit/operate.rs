//! `interlock permit revoke|reset-breaker|delete`: what operators do.

use clap::Args;

use super::read::ResourceName;
use crate::cli::client::ApiClient;
use crate::cli::output::{Output, print};
use crate::cli::write::{RepeatFlag, VersionFlag};
use crate::proto;

/// The operator and the reason, stored with the change.
#[derive(Debug, Args)]
pub(super) struct Requester {
    /// Name of the operator, stored with the change [default: the user of this machine].
    #[arg(
        long,
        value_name = "NAME",
        env = "USER",
        default_value = "interlock",
        hide_env = true,
        hide_default_value = true
    )]
    requester: String,
    /// Reason, stored with the change.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// The permit to take away.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    resource: ResourceName,
    /// Fencing token of the permit at this resource, as `permit get` shows it.
    #[arg(value_name = "FENCING_TOKEN")]
    fencing_token: i64,
    #[command(flatten)]
    requester: Requester,
    #[command(flatten)]
    repeat: RepeatFlag,
}

/// The breaker to close.
#[derive(Debug, Args)]
pub(super) struct ResetBreaker {
    #[command(flatten)]
    resource: ResourceName,
    #[command(flatten)]
    requester: Requester,
    #[command(flatten)]
    repeat: RepeatFlag,
}

/// The resource to delete.
#[derive(Debug, Args)]
pub(super) struct DeleteResource {
    #[command(flatten)]
    resource: ResourceName,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl Revoke {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::RevokePermitRequest {
            resource: self.resource.name,
            fencing_token: self.fencing_token,
            requester: self.requester.requester,
            reason: self.requester.reason,
            request_id: Some(request_id.clone()),
        };
        let answer = client.applied(&request_id, client.permits().revoke_permit(client.ask(request))).await?;
        let line = if answer.applied { "revoked" } else { "was not held any more" };
        print(output, &answer, |_| vec![format!("permit {}  {line}", self.fencing_token)])
    }
}

impl ResetBreaker {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let line = format!("{}  breaker CLOSED", self.resource.name);
        let request = proto::ResetBreakerRequest {
            name: self.resource.name,
            requester: self.requester.requester,
            reason: self.requester.reason,
            request_id: Some(request_id.clone()),
        };
        let answer = client.applied(&request_id, client.permits().reset_breaker(client.ask(request))).await?;
        print(output, &answer, |_| vec![line])
    }
}

impl DeleteResource {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let line = format!("{}  deleted", self.resource.name);
        let request = proto::DeleteResourceRequest {
            name: self.resource.name,
            expected_version: self.version.expected_version,
            request_id: Some(request_id.clone()),
        };
        let answer = client.applied(&request_id, client.permits().delete_resource(client.ask(request))).await?;
        print(output, &answer, |_| vec![line])
    }
}
