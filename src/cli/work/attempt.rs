//! One attempt: a program that runs while its lease is kept, and its outcome.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use prost_types::Struct;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::outcome::{AttemptOutcome, release, send};
use super::output::{Reported, SharedReport, beginning, nothing_reported, read_errors, read_output};
use super::renewal::{AttemptProgress, Renewals, StopReason};
use super::report::{AttemptReport, show};
use super::worker::{StdinFormat, Worker};
use crate::cli::failure::Failed;
use crate::cli::json;
use crate::cli::program::{Program, exit_text, failure_class};
use crate::cli::text::note;
use crate::proto::{Failure, FailureClass, Lease, SubmitJobRequest};

/// How long the pipes of a program may stay open after it has ended: by processes that it left behind.
const PIPES: Duration = Duration::from_secs(1);
/// Longest message of a failure, in bytes; the server takes four times as many.
const MESSAGE_BYTES: usize = 1_024;
/// A bound on the grace: how long before the end of a lease its program is killed.
const MARGIN: Duration = Duration::from_millis(500);

/// How a program ended.
#[derive(Clone, Copy, Debug)]
enum ProgramEnd {
    /// By itself.
    Exited(ExitStatus),
    /// After the request to stop.
    Stopped(StopReason, ExitStatus),
    /// It was killed because the worker stops at once.
    Killed,
}

/// Runs the program for a lease, and sends the outcome.
pub(super) async fn run(worker: &Worker, lease: Lease) {
    let started = Instant::now();
    let mut program = match Program::start_group(&mut command(worker, &lease)) {
        Ok(program) => program,
        Err(error) => {
            let name = worker.options.command.first().cloned().unwrap_or_default();
            worker.fail(Failed::usage(format!("cannot run {name:?}: {error}")));
            return release(worker, &lease.lease_token).await;
        }
    };
    worker.guard.add(program.group());
    let (sender, latest) = watch::channel(AttemptProgress::default());
    let report = nothing_reported();
    let readers = readers(&mut program, worker, &lease, &report, sender);
    let end = wait_for_end(worker, &mut program, Renewals::new(&worker.client, &lease, latest.clone())).await;
    close_pipes(&program, readers).await;
    worker.guard.remove(program.group());
    drop(program);
    let end = match end {
        Ok(end) => end,
        Err(error) => return note(format!("{}: cannot tell how the program ended: {error}", name(&lease))),
    };
    let outcome = outcome(end, &report.lock(), &latest.borrow());
    let sent = match &outcome {
        Some(outcome) => Some(send(worker, &lease.lease_token, outcome).await),
        None => None,
    };
    show(
        worker,
        &AttemptReport { lease: &lease, outcome: outcome.as_ref(), sent, seconds: started.elapsed().as_secs_f64() },
    );
}

/// The command, with the environment and the pipes of the protocol.
fn command(worker: &Worker, lease: &Lease) -> Command {
    let (options, client) = (&worker.options, &worker.client);
    let mut command = Command::new(options.command.first().map_or("".as_ref(), |name| name.as_os_str()));
    command.args(options.command.iter().skip(1));
    command.env("INTERLOCK_SERVER", &client.server).env("INTERLOCK_NAMESPACE", &client.namespace);
    command.env("INTERLOCK_WORKER_ID", &options.worker_id);
    for (name, value) in [
        ("INTERLOCK_JOB_ID", lease.job_id.clone()),
        ("INTERLOCK_STAGE", lease.stage_name.clone()),
        ("INTERLOCK_KIND", lease.kind.clone()),
        ("INTERLOCK_QUEUE", lease.queue.clone()),
        ("INTERLOCK_ATTEMPT", lease.attempt.to_string()),
        ("INTERLOCK_MAX_ATTEMPTS", lease.max_attempts.to_string()),
        ("INTERLOCK_LEASE_TOKEN", lease.lease_token.clone()),
        ("INTERLOCK_FENCING_TOKEN", lease.fencing_token.to_string()),
    ] {
        command.env(name, value);
    }
    let stdin = if options.stdin == StdinFormat::None { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the program reads, as one line. The token of the lease is in the environment.
fn input(worker: &Worker, lease: &Lease) -> String {
    let lease = Lease { lease_token: String::new(), ..lease.clone() };
    let value = json::value(&lease).unwrap_or_default();
    let value = match worker.options.stdin {
        StdinFormat::Input => value.get("input").cloned().unwrap_or_else(|| json!({})),
        StdinFormat::Lease | StdinFormat::None => value,
    };
    format!("{value}\n")
}

/// Tasks that feed and read the pipes until they close.
fn readers(
    program: &mut Program,
    worker: &Worker,
    lease: &Lease,
    report: &SharedReport,
    sender: watch::Sender<AttemptProgress>,
) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    let prefix = format!("{}: ", name(lease));
    if let Some(mut pipe) = program.child.stdin.take() {
        let input = input(worker, lease);
        readers.spawn(async move {
            // A program need not read its input.
            let _broken = pipe.write_all(input.as_bytes()).await;
        });
    }
    if let Some(pipe) = program.child.stdout.take() {
        readers.spawn(read_output(pipe, prefix.clone(), report.clone(), sender));
    }
    if let Some(pipe) = program.child.stderr.take() {
        readers.spawn(read_errors(pipe, prefix, report.clone()));
    }
    readers
}

/// Waits until the program has ended, and stops it if it must not go on.
async fn wait_for_end(
    worker: &Worker,
    program: &mut Program,
    mut renewals: Renewals<'_>,
) -> std::io::Result<ProgramEnd> {
    let reason = tokio::select! {
        biased;
        () = worker.stop_now.cancelled() => return kill(program).await,
        status = program.wait() => return status.map(ProgramEnd::Exited),
        reason = renewals.run() => reason,
    };
    let grace = match reason {
        StopReason::Cancelled => worker.options.grace.min(renewals.left().saturating_sub(MARGIN)),
        StopReason::Lost => worker.options.grace,
    };
    tokio::select! {
        biased;
        () = worker.stop_now.cancelled() => {}
        status = program.stop(grace) => return status.map(|status| ProgramEnd::Stopped(reason, status)),
    }
    kill(program).await
}

async fn kill(program: &mut Program) -> std::io::Result<ProgramEnd> {
    program.signal(Signal::KILL);
    program.wait().await.map(|_| ProgramEnd::Killed)
}

/// Waits until all that was written is read. Processes that the program left behind are killed, so that they keep no pipe open.
async fn close_pipes(program: &Program, mut readers: JoinSet<()>) {
    for _ in 0..2 {
        let all_read = async { while readers.join_next().await.is_some() {} };
        if tokio::time::timeout(PIPES, all_read).await.is_ok() {
            break;
        }
        program.signal(Signal::KILL);
    }
    // Dropped readers of pipes that are open nevertheless are aborted.
}

/// The outcome of an attempt. None: the lease is lost, and there is none.
fn outcome(end: ProgramEnd, report: &Reported, progress: &AttemptProgress) -> Option<AttemptOutcome> {
    match end {
        ProgramEnd::Killed => Some(AttemptOutcome::Released),
        ProgramEnd::Exited(status) => Some(of_status(status, report, progress)),
        // Work that was done nevertheless still counts, unless another worker has leased the stage.
        ProgramEnd::Stopped(_, status) if status.success() => Some(of_status(status, report, progress)),
        ProgramEnd::Stopped(StopReason::Cancelled, _) => Some(AttemptOutcome::Released),
        ProgramEnd::Stopped(StopReason::Lost, _) => None,
    }
}

fn of_status(status: ExitStatus, report: &Reported, progress: &AttemptProgress) -> AttemptOutcome {
    let Some(class) = failure_class(status) else {
        return completed(report, progress).unwrap_or_else(|why| {
            let failure = Failure {
                failure_class: FailureClass::ClientError.into(),
                code: "artifacts".to_owned(),
                message: why,
                ..Default::default()
            };
            AttemptOutcome::Failed(Box::new(failure))
        });
    };
    let code = exit_text(status);
    let message = report.errors.last().map_or_else(|| format!("the program ended with {code}"), str::to_owned);
    let traceback = report.errors.text();
    AttemptOutcome::Failed(Box::new(Failure {
        failure_class: class.into(),
        message: beginning(&message, MESSAGE_BYTES).to_owned(),
        details: (!traceback.is_empty()).then(|| document(json!({ "traceback": traceback })).ok()).flatten(),
        retry_after: report.retry_after.and_then(|wait| wait.try_into().ok()),
        code,
        ..Default::default()
    }))
}

/// The completion of an attempt.
///
/// # Errors
/// Why its artifacts cannot be stored.
fn completed(report: &Reported, progress: &AttemptProgress) -> Result<AttemptOutcome, String> {
    if report.is_too_long {
        return Err("the last line of the output that begins with { has more than 256 KiB".to_owned());
    }
    let artifacts = report.artifacts.clone().map(document).transpose()?;
    Ok(AttemptOutcome::Completed(artifacts, progress.message.clone()))
}

/// A JSON object as a document.
fn document(object: Value) -> Result<Struct, String> {
    let request: SubmitJobRequest = json::read("", json!({ "payload": object }))?;
    Ok(request.payload.unwrap_or_default())
}

/// The name of a stage for people.
fn name(lease: &Lease) -> String {
    format!("{}/{}", lease.job_id, lease.stage_name)
}
