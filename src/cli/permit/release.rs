//! `interlock permit release` and `interlock permit renew`.

use clap::Args;

use crate::cli::client::ApiClient;
use crate::cli::failure::Failed;
use crate::cli::output::{Output, print};
use crate::cli::program::ClassName;
use crate::cli::text::{duration, time};
use crate::cli::write::RepeatFlag;
use crate::proto;

/// The permit to release, and the outcome of its use.
#[derive(Debug, Args)]
pub(super) struct Release {
    /// Token of the permit.
    #[arg(value_name = "TOKEN", env = "INTERLOCK_PERMIT_TOKEN", hide_env_values = true)]
    permit_token: String,
    /// How its use failed [default: it succeeded].
    #[arg(long, value_name = "CLASS", value_enum)]
    failure_class: Option<ClassName>,
    /// Duration of its use [default: the time from the grant to the release].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    latency: Option<prost_types::Duration>,
    /// Wait that the called service asked for.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retry_after: Option<prost_types::Duration>,
    #[command(flatten)]
    repeat: RepeatFlag,
}

/// The permits to renew.
#[derive(Debug, Args)]
pub(super) struct Renew {
    /// Tokens of the permits.
    #[arg(value_name = "TOKEN", env = "INTERLOCK_PERMIT_TOKEN", hide_env_values = true, required = true)]
    permit_tokens: Vec<String>,
    /// How long each lasts from now on, 1s to 24h [default: the duration with which it was acquired].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<prost_types::Duration>,
}

impl Release {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let outcome = proto::PermitOutcome {
            failure_class: self.failure_class.map_or(0, |class| class.failure_class().into()),
            latency: self.latency,
            retry_after: self.retry_after,
        };
        let request = proto::ReleasePermitRequest {
            permit_token: self.permit_token,
            outcome: (outcome != proto::PermitOutcome::default()).then_some(outcome),
            request_id: Some(request_id.clone()),
        };
        let answer = client.applied(&request_id, client.permits().release_permit(client.ask(request))).await?;
        let line = |answer: &proto::ReleasePermitResponse| {
            if answer.applied { "released" } else { "was released before, or is not known" }.to_owned()
        };
        print(output, &answer, |answer| vec![line(answer)])
    }
}

impl Renew {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request = proto::RenewPermitsRequest { permit_tokens: self.permit_tokens, ttl: self.ttl };
        let answer = client.answer(client.permits().renew_permits(client.ask(request))).await?;
        let line = |status: &proto::PermitStatus| match (status.lost, status.expire_time) {
            (true, _) => "lost".to_owned(),
            (false, None) => "ends with its lease".to_owned(),
            (false, expire_time) => format!("expires at {}", time(expire_time)),
        };
        print(output, &answer, |answer| answer.statuses.iter().map(line).collect())?;
        if answer.statuses.iter().any(|status| status.lost) {
            return Err(Failed::lost("the permit is lost").into());
        }
        Ok(())
    }
}
