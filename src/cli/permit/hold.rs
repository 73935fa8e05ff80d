//! A permit that is held while a command runs: renewed, and released with the outcome.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tonic::Status;
use uuid::Uuid;

use crate::cli::client::ApiClient;
use crate::cli::failure::{Failed, error_line, reason};
use crate::cli::program::{Program, exit_code, failure_class};
use crate::cli::retry::RetrySchedule;
use crate::cli::text::{note, seconds_of};
use crate::proto::{self, Permit};

/// The longest time between two renewals.
const RENEWAL: Duration = Duration::from_secs(10);
/// Delay before a renewal that failed is tried again, and the deadline of one.
const RETRY: Duration = Duration::from_secs(1);
/// How long a release that fails is tried again.
const RELEASE: Duration = Duration::from_secs(20);

/// A held permit.
pub(super) struct PermitHold<'a> {
    client: &'a ApiClient,
    token: String,
    fencing_token: i64,
    /// How long a renewal lasts; None: the permit ends with a lease.
    ttl: Option<Duration>,
    /// How long it was asked for; None: the server's default.
    asked: Option<prost_types::Duration>,
}

/// How the command ended.
enum CommandEnd {
    /// By itself, or by a signal that was passed on.
    Exited(ExitStatus),
    /// It was stopped because the permit was lost.
    Lost,
}

impl<'a> PermitHold<'a> {
    /// A permit that was just granted.
    pub(super) fn new(client: &'a ApiClient, permit: &Permit, request: &proto::AcquirePermitRequest) -> Self {
        Self {
            client,
            token: permit.permit_token.clone(),
            fencing_token: permit.grants.first().map_or(0, |grant| grant.fencing_token),
            ttl: permit.ttl.map(|ttl| Duration::from_secs_f64(seconds_of(ttl).max(0.0))),
            asked: request.ttl,
        }
    }

    /// Runs the command while the permit is renewed, and releases the permit. Returns the exit code of the command.
    pub(super) async fn run(self, command: &[OsString], grace: Duration) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let Some((name, arguments)) = command.split_first() else { return Ok(ExitCode::SUCCESS) };
        let mut command = Command::new(name);
        command.args(arguments);
        command.env("INTERLOCK_PERMIT_TOKEN", &self.token);
        command.env("INTERLOCK_FENCING_TOKEN", self.fencing_token.to_string());
        let mut program = match Program::start(&mut command) {
            Ok(program) => program,
            Err(error) => {
                let outcome =
                    proto::PermitOutcome { failure_class: proto::FailureClass::Cancelled.into(), ..Default::default() };
                let _logged = self.release(outcome).await;
                return Err(Failed::usage(format!("cannot run {name:?}: {error}")).into());
            }
        };
        match self.end(&mut program, grace).await? {
            CommandEnd::Lost => Err(Failed::lost("the permit was lost, and the command was stopped").into()),
            CommandEnd::Exited(status) => {
                let outcome = proto::PermitOutcome {
                    failure_class: failure_class(status).map_or(0, Into::into),
                    latency: started.elapsed().try_into().ok(),
                    ..Default::default()
                };
                self.release(outcome).await?;
                Ok(exit_code(status).into())
            }
        }
    }

    /// Waits until the command has ended. Signals to this process are passed on.
    async fn end(&self, program: &mut Program, grace: Duration) -> anyhow::Result<CommandEnd> {
        let [mut interrupt, mut terminate] = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
        let mut renewals = std::pin::pin!(self.renew());
        loop {
            tokio::select! {
                status = program.wait() => return Ok(CommandEnd::Exited(status?)),
                () = &mut renewals => {
                    program.stop(grace).await?;
                    return Ok(CommandEnd::Lost);
                }
                // At a terminal the command gets Ctrl-C too.
                _ = interrupt.recv() => if !std::io::stdin().is_terminal() { program.signal(Signal::INT) },
                _ = terminate.recv() => program.signal(Signal::TERM),
            }
        }
    }

    /// Renews the permit until it is lost: the server says so, or there was no renewal in time.
    async fn renew(&self) {
        let interval = self.ttl.map_or(RENEWAL, |ttl| (ttl / 3).min(RENEWAL));
        let mut expires = self.ttl.map(|ttl| Instant::now() + ttl);
        let mut is_warned = false;
        let mut wait = interval;
        loop {
            tokio::time::sleep(wait).await;
            let asked = Instant::now();
            match self.renewal(interval.max(RETRY)).await {
                Ok(status) if status.lost => return,
                Ok(_) => {
                    (wait, is_warned) = (interval, false);
                    expires = self.ttl.map(|ttl| asked + ttl);
                }
                Err(status) => {
                    if !std::mem::replace(&mut is_warned, true) {
                        note(format!("{}; the permit is renewed again soon", error_line(&self.client.server, &status)));
                    }
                    wait = RETRY.min(interval);
                }
            }
            if expires.is_some_and(|expires| Instant::now() >= expires) {
                return;
            }
        }
    }

    async fn renewal(&self, bound: Duration) -> Result<proto::PermitStatus, Status> {
        let request = proto::RenewPermitsRequest { permit_tokens: vec![self.token.clone()], ttl: self.asked };
        let answer = self.client.permits().renew_permits(self.client.ask_within(bound, request)).await?;
        Ok(answer.into_inner().statuses.into_iter().next().unwrap_or_default())
    }

    /// Releases the permit; tries again while the server is away.
    async fn release(&self, outcome: proto::PermitOutcome) -> Result<(), Failed> {
        let request = proto::ReleasePermitRequest {
            permit_token: self.token.clone(),
            outcome: Some(outcome),
            request_id: Some(Uuid::new_v4().to_string()),
        };
        let mut retry = RetrySchedule::within(RELEASE);
        loop {
            let request = self.client.ask_within(RELEASE, request.clone());
            let Err(status) = self.client.permits().release_permit(request).await else { return Ok(()) };
            if reason(&status).as_deref() == Some("PERMIT_LOST") {
                return Err(Failed::lost("the permit was lost before the command ended"));
            }
            let Some(wait) = retry.after(&status) else {
                let line = error_line(&self.client.server, &status);
                note(format!("warning: the permit was not released and ends when it expires: {line}"));
                return Ok(());
            };
            tokio::time::sleep(wait).await;
        }
    }
}
