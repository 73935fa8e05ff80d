//! `interlock job`: the commands about jobs.

mod bars;
mod details;
mod follow;
mod lines;
mod picture;
mod plan;
mod read;
mod stages;
mod steer;
mod submit;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::Connection;

/// Submit, list, show, watch, cancel and retry jobs of a running server.
#[derive(Debug, Args)]
pub struct JobCommand {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Submit a new job.
    Submit(submit::Submit),
    /// List jobs, the newest first.
    List(read::List),
    /// Show a job, its stages and the details of their failures, such as tracebacks.
    Get(read::Named),
    /// Follow a job to its end; the exit code is 1 if it did not succeed.
    Watch(watch::WatchCommand),
    /// Cancel a job; its workers get time to stop.
    Cancel(steer::CancelCommand),
    /// Run a job again that has ended.
    Retry(steer::RetryCommand),
    /// Explain what a job waits for, or what it does.
    Explain(read::Named),
}

impl JobCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (client, output) = (self.connection.client()?, self.connection.output);
        match self.verb {
            Verb::Submit(verb) => return verb.run(&client, output).await,
            Verb::Watch(verb) => return verb.run(&client, output).await,
            Verb::List(verb) => verb.run(&client, output).await?,
            Verb::Get(verb) => verb.get(&client, output).await?,
            Verb::Explain(verb) => verb.explain(&client, output).await?,
            Verb::Cancel(verb) => verb.run(&client, output).await?,
            Verb::Retry(verb) => verb.run(&client, output).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
