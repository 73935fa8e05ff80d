//! `interlock work`: makes a worker of any program.

mod attempt;
mod outcome;
mod output;
mod poll;
mod renewal;
mod report;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use self::poll::Poller;
use self::worker::{StdinFormat, Worker, WorkerOptions};
use super::client::Connection;
use super::failure::Failed;
use super::program::own_name;
use super::text::{count, duration, note};

/// Stages that one call leases at most.
const STAGES: usize = 100;
/// What a shell reports for a process that was ended by SIGINT.
const INTERRUPTED: u8 = 130;

/// Lease stages of queues, and run a program for each.
#[derive(Debug, Args)]
#[command(after_help = concat_help())]
pub struct WorkCommand {
    #[command(flatten)]
    connection: Connection,
    /// Queues to take from, separated by commas or repeated.
    #[arg(long = "queue", value_name = "QUEUE", value_delimiter = ',', default_value = "default")]
    queues: Vec<String>,
    /// Maximum number of programs that run at once, 1 to 1000.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    concurrency: u16,
    /// Name of the worker, for people and the history [default: the host and the process id].
    #[arg(long, value_name = "NAME")]
    worker_id: Option<String>,
    /// How long a lease lasts without a heartbeat, 1s to 24h; that of the stage takes precedence [default: 90s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lease_duration: Option<prost_types::Duration>,
    /// Time between SIGTERM and SIGKILL if the job is cancelled or the lease is lost.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// End when no stage was ready for this long and no program runs [default: never].
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    exit_when_idle: Option<Duration>,
    /// What the program reads from its standard input.
    #[arg(long, value_enum, default_value_t = StdinFormat::Lease)]
    stdin: StdinFormat,
    /// Program to run for each stage, with its arguments.
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
}

/// The protocol between worker and program, and the exit codes of both.
fn concat_help() -> String {
    format!("{PROTOCOL}\n\n{}\n\n{}", super::program::EXIT_TABLE, super::failure::EXIT_CODES)
}

const PROTOCOL: &str = "\
COMMAND reads the lease as one JSON object from its standard input: jobId, stageName, kind, queue, attempt, input, payload, dependencies with
their artifacts, labels. Its environment has INTERLOCK_JOB_ID, INTERLOCK_STAGE, INTERLOCK_KIND, INTERLOCK_QUEUE, INTERLOCK_ATTEMPT,
INTERLOCK_MAX_ATTEMPTS, INTERLOCK_FENCING_TOKEN, INTERLOCK_LEASE_TOKEN, INTERLOCK_WORKER_ID, INTERLOCK_SERVER and INTERLOCK_NAMESPACE.

Lines of its standard output:
  ::progress 0.5 TEXT     progress of the attempt, 0 to 1, and what it is doing
  ::message TEXT          what it is doing
  ::retry-after 30s       if it fails, the wait before the next attempt
  {…}                     the last line that is a JSON object is the artifacts of the stage (64 KiB at most)
  any other               copied to the standard error
If it fails, the last line of its standard error is the message of the failure, and the last 8 KiB are its traceback (`interlock job get`).

If the job is cancelled or the lease is lost, its process group gets SIGTERM, and SIGKILL after --grace. The first Ctrl-C or SIGTERM drains:
no more stages are leased, and programs that run may end. The second one kills them, and gives their stages back.";

impl WorkCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        let slots = usize::from(self.concurrency);
        let options = WorkerOptions {
            output: self.connection.output,
            queues: self.queues,
            worker_id: self.worker_id.unwrap_or_else(own_name),
            lease_duration: self.lease_duration,
            grace: self.grace,
            exit_when_idle: self.exit_when_idle,
            stdin: self.stdin,
            command: self.command,
        };
        let worker = Arc::new(Worker::start(client, options)?);
        let attempts = TaskTracker::new();
        let slots = Slots { free: Arc::new(Semaphore::new(slots)), count: slots };
        let leased = lease_and_run(&worker, &attempts, &slots).await;
        if let Err(failed) = &leased
            && !attempts.is_empty()
        {
            note(format!("{failed}; {} may end", count(attempts.len(), "program")));
        }
        attempts.close();
        attempts.wait().await;
        leased?;
        match worker.take_fault() {
            Some(fault) => Err(fault.into()),
            None if worker.stop_now.is_cancelled() => Ok(INTERRUPTED.into()),
            None => Ok(ExitCode::SUCCESS),
        }
    }
}

/// Places for programs.
struct Slots {
    free: Arc<Semaphore>,
    count: usize,
}

impl Slots {
    /// Waits for a free place, and returns all that are free, as far as one call can use them. None: the semaphore is closed, which it never is.
    async fn take(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let mut taken = vec![Arc::clone(&self.free).acquire_owned().await.ok()?];
        while taken.len() < STAGES
            && let Ok(place) = Arc::clone(&self.free).try_acquire_owned()
        {
            taken.push(place);
        }
        Some(taken)
    }

    /// Waits until no program runs.
    async fn all_free(&self) {
        let all = u32::try_from(self.count).unwrap_or(u32::MAX);
        let _all = self.free.acquire_many(all).await;
    }

    fn is_idle(&self, taken: usize) -> bool {
        self.free.available_permits() + taken == self.count
    }
}

/// Leases stages and starts their programs until the worker drains.
async fn lease_and_run(worker: &Arc<Worker>, attempts: &TaskTracker, slots: &Slots) -> Result<(), Failed> {
    let mut poller = Poller::new(worker);
    loop {
        let taken = tokio::select! {
            biased;
            () = worker.drain.cancelled() => return Ok(()),
            taken = slots.take() => taken,
        };
        let Some(mut taken) = taken else { return Ok(()) };
        let Some(leases) = poller.lease(taken.len(), || slots.is_idle(taken.len())).await? else { return Ok(()) };
        let is_isolated = leases.iter().any(|lease| lease.isolated);
        for lease in leases {
            let (worker, place) = (Arc::clone(worker), taken.pop());
            attempts.spawn(async move {
                attempt::run(&worker, lease).await;
                drop(place);
            });
        }
        drop(taken);
        if is_isolated {
            // Its last attempt may have killed its worker: nothing else shall be lost with it.
            tokio::select! {
                biased;
                () = worker.drain.cancelled() => return Ok(()),
                () = slots.all_free() => {}
            }
        }
    }
}
