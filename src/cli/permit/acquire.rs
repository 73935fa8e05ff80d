//! `interlock permit acquire`: a permit, and optionally a command that runs while it is held.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::hold::PermitHold;
use crate::cli::client::ApiClient;
use crate::cli::document::{message, parse, text_of};
use crate::cli::failure::Failed;
use crate::cli::output::{Output, print};
use crate::cli::text::{bare, duration, plain, seconds_of, time};
use crate::cli::write::RepeatFlag;
use crate::proto::acquire_permit_response::Result as Answer;
use crate::proto::{self, PermitMode};

/// The longest wait of one call; longer ones are several calls.
const WAIT: Duration = Duration::from_secs(50);
/// How much later than its wait a call is given up.
const MARGIN: Duration = Duration::from_secs(10);

/// The resources to use, and how.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Acquire {
    /// Names of the resources, 1 to 32; all are granted or none.
    #[arg(value_name = "RESOURCE", required_unless_present = "claims")]
    resources: Vec<String>,
    /// Amount of the capacity and of the tokens of each resource.
    #[arg(long, default_value_t = 1)]
    amount: i64,
    /// Share each resource with other holders. The default where it has a policy.
    #[arg(long, conflicts_with = "exclusive")]
    shared: bool,
    /// Use each resource alone. The default where it has no policy.
    #[arg(long)]
    exclusive: bool,
    /// A JSON array with the fields of PermitClaim in place of names, such as `[{"resource":"gpu","amount":2}]`, or @FILE, or @-.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["resources", "amount", "shared", "exclusive"])]
    claims: Option<String>,
    /// Time to wait for the permit, in the wait queue of each resource.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// How long the permit lasts without a renewal, 1s to 24h [default: 60s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<prost_types::Duration>,
    /// Name of the holder, for people [default: the host and the process id].
    #[arg(long, value_name = "NAME")]
    holder: Option<String>,
    /// Priority in the wait queue, -1000 to 1000; a higher one is served first.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    priority: i32,
    /// Token of a lease with which the permit ends.
    #[arg(long, value_name = "TOKEN")]
    lease_token: Option<String>,
    /// Time that the command gets to stop after SIGTERM if the permit is lost, before SIGKILL.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    grace: Duration,
    #[command(flatten)]
    repeat: RepeatFlag,
    /// Command to run while the permit is held [default: print the token and exit].
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<OsString>,
}

const HELP: &str = "\
With a COMMAND the permit is renewed while it runs, and released when it ends; its exit code tells the outcome, as for `interlock work`, and
is the exit code of this command (128 plus the number of the signal that killed it). The command finds the permit in INTERLOCK_PERMIT_TOKEN,
and the fencing token of the first resource in INTERLOCK_FENCING_TOKEN. If the permit is lost, the command is stopped and the exit code is 5.
A denied permit is exit code 3.";

impl Acquire {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<ExitCode> {
        let request = self.request(self.repeat.id())?;
        let response = self.acquire(client, &request).await?;
        match &response.result {
            Some(Answer::Permit(permit)) if !self.command.is_empty() => {
                PermitHold::new(client, permit, &request).run(&self.command, self.grace).await
            }
            Some(Answer::Permit(_)) => {
                print(output, &response, |response| shown(response.result.as_ref()))?;
                Ok(ExitCode::SUCCESS)
            }
            Some(Answer::Denial(denial)) => {
                if output == Output::Json {
                    print(output, &response, |_| Vec::new())?;
                }
                Err(Failed::refused(denied(denial)).into())
            }
            None => Err(Failed::refused("the server sent neither a permit nor a denial").into()),
        }
    }

    /// Waits for the permit; a wait that is too long for one call is several calls.
    async fn acquire(
        &self,
        client: &ApiClient,
        request: &proto::AcquirePermitRequest,
    ) -> Result<proto::AcquirePermitResponse, Failed> {
        let until = Instant::now() + self.wait;
        let (mut wait, mut request) = (self.wait.min(WAIT), request.clone());
        loop {
            request.wait = wait.try_into().ok();
            let mut permits = client.permits();
            let call = permits.acquire_permit(client.ask_within(wait + MARGIN, request.clone()));
            let answer = if wait.is_zero() { client.noticed(call).await } else { call.await };
            let response = answer.map(tonic::Response::into_inner).map_err(|status| {
                Failed::call(&client.server, &status).repeatable(request.request_id.as_deref().unwrap_or_default())
            })?;
            wait = until.saturating_duration_since(Instant::now()).min(WAIT);
            if wait.is_zero() || !matches!(response.result, Some(Answer::Denial(_))) {
                return Ok(response);
            }
            // A call with another wait is not a repeat.
            request.request_id = Some(Uuid::new_v4().to_string());
        }
    }

    fn request(&self, request_id: String) -> Result<proto::AcquirePermitRequest, Failed> {
        let mode = match (self.shared, self.exclusive) {
            (true, _) => PermitMode::Shared,
            (false, true) => PermitMode::Exclusive,
            (false, false) => PermitMode::Unspecified,
        };
        let claim = |resource: &String| proto::PermitClaim {
            resource: resource.clone(),
            amount: self.amount,
            mode: mode.into(),
        };
        let read: proto::AcquirePermitRequest = match &self.claims {
            Some(text) => message("--claims", json!({ "claims": parse("--claims", &text_of("--claims", text)?)? }))?,
            None => {
                let claims = self.resources.iter().map(claim).collect();
                proto::AcquirePermitRequest { claims, ..Default::default() }
            }
        };
        let is_bound = self.lease_token.is_some();
        Ok(proto::AcquirePermitRequest {
            ttl: self.ttl,
            holder: self
                .holder
                .clone()
                .unwrap_or_else(|| if is_bound { String::new() } else { crate::cli::program::own_name() }),
            priority: self.priority,
            lease_token: self.lease_token.clone(),
            request_id: Some(request_id),
            ..read
        })
    }
}

/// A permit line by line; the last line is its token.
fn shown(answer: Option<&Answer>) -> Vec<String> {
    let Some(Answer::Permit(permit)) = answer else { return Vec::new() };
    let grant =
        |grant: &proto::PermitGrant| plain(&format!("{}  fencing token {}", grant.resource, grant.fencing_token));
    let mut lines: Vec<_> = permit.grants.iter().map(grant).collect();
    lines.extend(permit.expire_time.map(|at| format!("expires at {} unless it is renewed", time(Some(at)))));
    lines.push(permit.permit_token.clone());
    lines
}

fn denied(denial: &proto::PermitDenial) -> String {
    let after = |wait: Option<prost_types::Duration>| {
        wait.map(|wait| format!(", try again in {:.1} s", seconds_of(wait))).unwrap_or_default()
    };
    let blocker = |blocker: &proto::PermitBlocker| {
        let reason = bare(blocker.reason().as_str_name(), "PERMIT_BLOCK_REASON_");
        format!("{:?} is blocked: {reason}{}", blocker.resource, after(blocker.retry_after))
    };
    let blockers: Vec<_> = denial.blockers.iter().map(blocker).collect();
    plain(&format!("the permit was denied: {}", blockers.join("; ")))
}
