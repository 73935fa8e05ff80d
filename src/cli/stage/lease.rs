//! `interlock stage lease`: leases ready stages, and prints their tokens.

use std::time::Duration;

use clap::Args;

use crate::cli::client::ApiClient;
use crate::cli::failure::Failed;
use crate::cli::json;
use crate::cli::output::{Output, print};
use crate::cli::pending::PendingStages;
use crate::cli::program::own_name;
use crate::cli::text::{duration, facts, note, time};
use crate::cli::write::RepeatFlag;
use crate::proto::{self, Lease};

/// How much later than its wait a call is given up.
const MARGIN: Duration = Duration::from_secs(10);
/// Jobs whose stages are listed for a hint, and the deadline of each of these calls.
const HINT: (usize, Duration) = (16, Duration::from_secs(2));

/// The queues to lease from, and how.
#[derive(Debug, Args)]
pub(super) struct LeaseCommand {
    /// Queues to take from, separated by commas or repeated.
    #[arg(long = "queue", value_name = "QUEUE", value_delimiter = ',', default_value = "default")]
    queues: Vec<String>,
    /// Maximum number of stages, 1 to 100.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=100))]
    max_stages: i32,
    /// Time to wait for the first stage, at most 55s.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// How long a lease lasts without a renewal, 1s to 24h; that of the stage takes precedence [default: 90s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lease_duration: Option<prost_types::Duration>,
    /// Name of the worker, for people and the history [default: the host and the process id].
    #[arg(long, value_name = "NAME")]
    worker_id: Option<String>,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl LeaseCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::LeaseStagesRequest {
            worker_id: self.worker_id.unwrap_or_else(own_name),
            queues: self.queues.clone(),
            max_stages: self.max_stages,
            wait: self.wait.try_into().ok(),
            lease_duration: self.lease_duration,
            request_id: Some(request_id.clone()),
            ..Default::default()
        };
        let mut workers = client.workers();
        let call = workers.lease_stages(client.ask_within(self.wait + MARGIN, request));
        let answer = if self.wait.is_zero() { client.noticed(call).await } else { call.await };
        let answer = answer
            .map(tonic::Response::into_inner)
            .map_err(|status| Failed::call(&client.server, &status).repeatable(&request_id))?;
        print(output, &answer, |answer| answer.leases.iter().flat_map(lines).collect())?;
        if answer.leases.is_empty() {
            note(none_ready(client, &self.queues).await);
        }
        Ok(())
    }
}

/// Says that no stage is ready, and where one is.
async fn none_ready(client: &ApiClient, queues: &[String]) -> String {
    let (jobs, bound) = HINT;
    let pending = PendingStages::read(client, jobs, bound).await.ok();
    let hint = pending.and_then(|pending| pending.elsewhere(queues));
    hint.unwrap_or_else(|| format!("no stage is ready in {}", queues.join(", ")))
}

/// A lease line by line; the last line is its token.
fn lines(lease: &Lease) -> Vec<String> {
    let shown = json::value(lease).unwrap_or_default();
    let document = |name| shown.get(name).map(ToString::to_string).unwrap_or_default();
    let mut lines = facts([
        ("job", lease.job_id.clone()),
        ("stage", lease.stage_name.clone()),
        ("kind", lease.kind.clone()),
        ("queue", lease.queue.clone()),
        ("attempt", format!("{} of {}", lease.attempt, lease.max_attempts)),
        ("input", document("input")),
        ("payload", document("payload")),
        ("dependencies", document("dependencies")),
        ("fencing token", lease.fencing_token.to_string()),
        ("expires", time(lease.expire_time)),
    ]);
    lines.push(lease.lease_token.clone());
    lines
}
