//! What all attempts of a worker share: options, connection, and the stop by signals.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use clap::ValueEnum;
use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::client::ApiClient;
use crate::cli::failure::Failed;
use crate::cli::output::Output;
use crate::cli::program::Guard;
use crate::cli::text::note;

/// What a program reads from its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StdinFormat {
    /// The lease, with input, payload and dependencies.
    Lease,
    /// The input of the stage; `{}` if it has none.
    Input,
    /// Nothing.
    None,
}

/// The options of a worker, as its flags have them.
#[derive(Debug)]
pub(super) struct WorkerOptions {
    pub output: Output,
    pub queues: Vec<String>,
    pub worker_id: String,
    /// None: the server's default.
    pub lease_duration: Option<prost_types::Duration>,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// None: the worker never ends by itself.
    pub exit_when_idle: Option<Duration>,
    pub stdin: StdinFormat,
    /// The program and its arguments; not empty.
    pub command: Vec<OsString>,
}

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub client: ApiClient,
    pub options: WorkerOptions,
    pub guard: Guard,
    /// No more stages are leased.
    pub drain: CancellationToken,
    /// Programs are killed.
    pub stop_now: CancellationToken,
    fault: Mutex<Option<Failed>>,
}

impl Worker {
    /// A worker that stops at signals.
    pub(super) fn start(client: ApiClient, options: WorkerOptions) -> io::Result<Self> {
        let (drain, stop_now) = (CancellationToken::new(), CancellationToken::new());
        let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(stop_at_signals(signals, drain.clone(), stop_now.clone()));
        Ok(Self { client, options, guard: Guard::start()?, drain, stop_now, fault: Mutex::new(None) })
    }

    /// Drains because no attempt can succeed here.
    pub(super) fn fail(&self, fault: Failed) {
        self.fault.lock().get_or_insert(fault);
        self.drain.cancel();
    }

    /// Why no attempt can succeed here. None: nothing is known.
    pub(super) fn take_fault(&self) -> Option<Failed> {
        self.fault.lock().take()
    }
}

async fn stop_at_signals(
    (mut interrupt, mut terminate): (Signal, Signal),
    drain: CancellationToken,
    stop_now: CancellationToken,
) {
    for (token, line) in [
        (drain, "draining: no more stages are leased, programs that run may end; a second signal kills them"),
        (stop_now, "stopping: programs are killed, and their stages are given back"),
    ] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        note(line);
        token.cancel();
    }
}
