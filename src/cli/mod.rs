//! The command line: one command per file.

mod admin;
mod audit;
mod bench;
mod client;
mod commit;
mod completion;
mod demo;
mod dev;
mod doctor;
mod document;
mod failure;
mod flags;
mod init;
mod job;
mod json;
mod key;
mod migrate;
mod namespace;
mod output;
mod pages;
mod pending;
mod permit;
mod program;
mod queue;
mod record;
mod retry;
mod run_server;
mod serve;
mod session;
mod stage;
mod stream;
mod text;
mod top;
mod work;
mod worker;
mod write;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};

/// A gRPC coordination server over Postgres.
#[derive(Debug, Parser)]
#[command(name = "interlock", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a server with a Postgres of its own, to try it.
    Dev(Box<dev::Dev>),
    /// Run a server over an existing Postgres.
    Serve(Box<serve::Serve>),
    /// Measure the server against one transaction per request.
    Bench(bench::Bench),
    /// Migrate the schema of a database, and exit.
    Migrate(Box<migrate::Migrate>),
    /// Make a narrated film with three Python workers, or hold a meeting with live captions, on a running server.
    Demo(demo::Demo),
    /// Write a worker project in Python, TypeScript or Go.
    Init(init::InitCommand),
    /// Submit, list, show, watch, change, cancel, retry and delete jobs.
    Job(Box<job::JobCommand>),
    /// Explain what a job or one of its stages waits for, or what it does.
    Explain(Box<job::Explain>),
    /// Lease stages of queues, and run a program for each.
    Work(Box<work::WorkCommand>),
    /// Lease stages, renew leases, and complete, fail or release attempts.
    Stage(Box<stage::StageCommand>),
    /// List queues with their ready, waiting, leased and delayed stages.
    Queue(Box<queue::QueueCommand>),
    /// List workers with the leases that they hold.
    Worker(Box<worker::WorkerCommand>),
    /// Show, list, change, watch and delete records.
    Record(Box<record::RecordCommand>),
    /// Acquire and release permits; show, watch and set the rules of resources.
    Permit(Box<permit::PermitCommand>),
    /// Create, show, fill, search, export and watch sessions and their timelines.
    Session(Box<session::SessionCommand>),
    /// Apply several operations in order, all or none.
    Commit(Box<commit::CommitCommand>),
    /// Create, list and delete namespaces.
    Namespace(Box<namespace::NamespaceCommand>),
    /// Check a database and a server, and say what to do about each finding.
    Doctor(Box<doctor::Doctor>),
    /// Show ready and running stages by queue, worker and job.
    Top(Box<top::Top>),
    /// Create, list, revoke and rotate API keys, through a server or in the database.
    Key(Box<key::KeyCommand>),
    /// Show the audit log, through a server or from the database.
    Audit(Box<audit::Audit>),
    /// Print a script that completes commands and flags in a shell.
    Completion(completion::Completion),
    /// Stop programs when the standard input ends; started by `work`.
    #[command(hide = true)]
    GuardPrograms(program::GuardCommand),
}

/// Runs the command of the arguments, and prints why it failed.
pub fn main() -> ExitCode {
    let ran = match Cli::try_parse() {
        Ok(command) => command.verb(),
        // Help and the version: clap itself would not notice that they cannot be written.
        Err(help) if !help.use_stderr() => say_help(&help),
        Err(usage) => usage.exit(),
    };
    // What a command has printed must be written before it succeeds.
    let ended = ran.and_then(|code| Ok(text::flush().map(|()| code)?));
    ended.unwrap_or_else(|error| failed(&error))
}

fn say_help(help: &clap::Error) -> anyhow::Result<ExitCode> {
    let text = help.render();
    let text = if io::stdout().is_terminal() { text.ansi().to_string() } else { text.to_string() };
    text::say_bytes(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints why a command failed. Returns its exit code.
fn failed(error: &anyhow::Error) -> ExitCode {
    let fault = error.downcast_ref::<text::OutputFault>();
    // The reader has closed the pipe, as in `interlock job list | head`.
    let written = fault.map(|fault| &fault.0).or_else(|| error.downcast_ref::<io::Error>());
    if written.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    text::note(format!("error: {error:#}"));
    let usage = fault.map(|_| failure::Exit::Usage);
    let exit = error.downcast_ref::<failure::Failed>().map(|failed| failed.exit).or(usage);
    exit.map_or(ExitCode::FAILURE, ExitCode::from)
}

impl Cli {
    fn verb(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let result = runtime.block_on(async {
            match self.verb {
                Verb::Job(verb) => return verb.run().await,
                Verb::Doctor(verb) => return verb.run().await,
                Verb::Top(verb) => return verb.run().await,
                Verb::Key(verb) => return verb.run().await,
                Verb::Audit(verb) => return verb.run().await,
                Verb::Explain(verb) => return verb.run().await,
                Verb::Work(verb) => return verb.run().await,
                Verb::Stage(verb) => return verb.run().await,
                Verb::Queue(verb) => return verb.run().await,
                Verb::Worker(verb) => return verb.run().await,
                Verb::Record(verb) => return verb.run().await,
                Verb::Permit(verb) => return verb.run().await,
                Verb::Session(verb) => return verb.run().await,
                Verb::Commit(verb) => return verb.run().await,
                Verb::Namespace(verb) => return verb.run().await,
                Verb::Completion(verb) => verb.run(Self::command()),
                Verb::GuardPrograms(verb) => verb.run().await,
                Verb::Dev(verb) => verb.run().await,
                Verb::Serve(verb) => verb.run().await,
                Verb::Bench(verb) => verb.run().await,
                Verb::Migrate(verb) => verb.run().await,
                Verb::Demo(verb) => verb.run(),
                Verb::Init(verb) => verb.run(),
            }
            .map(|()| ExitCode::SUCCESS)
        });
        // No one waits for tasks that still run then.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_all_commands_fit_together() {
        Cli::command().debug_assert();
    }
}
