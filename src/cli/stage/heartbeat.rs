//! `interlock stage heartbeat`: renews a lease and reports progress.

use clap::Args;

use crate::cli::client::ApiClient;
use crate::cli::failure::Failed;
use crate::cli::output::{Output, print};
use crate::cli::text::{bare, time};
use crate::proto::{self, LeaseDirective};

/// The lease, and the progress of its attempt.
#[derive(Debug, Args)]
pub(super) struct HeartbeatCommand {
    /// Token of the lease.
    #[arg(long, value_name = "TOKEN", env = "INTERLOCK_LEASE_TOKEN", hide_env_values = true)]
    token: String,
    /// Progress of the attempt, 0 to 1; a lower one than before changes nothing [default: as before].
    #[arg(long)]
    progress: Option<f64>,
    /// What the attempt is doing, for people [default: as before].
    #[arg(long)]
    message: Option<String>,
}

impl HeartbeatCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let renewal = proto::LeaseRenewal { lease_token: self.token, progress: self.progress, message: self.message };
        let request = proto::HeartbeatRequest { renewals: vec![renewal] };
        let answer = client.answer(client.workers().heartbeat(client.ask(request))).await?;
        print(output, &answer, |answer| answer.statuses.iter().map(line).collect())?;
        if answer.statuses.iter().any(|status| status.directive() == LeaseDirective::Lost) {
            return Err(Failed::lost("the lease is lost: stop the work").into());
        }
        Ok(())
    }
}

fn line(status: &proto::LeaseStatus) -> String {
    let directive = bare(status.directive().as_str_name(), "LEASE_DIRECTIVE_");
    let until = status.expire_time.map(|at| format!(", the lease ends at {}", time(Some(at)))).unwrap_or_default();
    format!("{directive}{until}")
}
