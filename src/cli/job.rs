//! `interlock job`: the commands about jobs.

mod bars;
mod change;
mod details;
mod events;
mod explain;
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
use super::failure::EXIT_CODES;
pub use explain::Explain;

/// Submit, list, show, watch, change, cancel, retry and delete jobs.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
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
    /// Pause a job: no more of its stages are leased.
    Pause(steer::SteeredJob),
    /// End the pause of a job.
    Resume(steer::SteeredJob),
    /// Change the labels, the priority or the context of a job.
    Update(change::Update),
    /// Delete a job that has ended, with its history.
    Delete(steer::SteeredJob),
    /// List the history of a job: changes of state, attempts and failures, the oldest first.
    Events(events::Events),
    /// Explain what a job waits for, or what it does.
    Explain(explain::ExplainTarget),
}

impl JobCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (client, output) = (self.connection.client()?, self.connection.output);
        match self.verb {
            Verb::Submit(verb) => return verb.run(&client, output).await,
            Verb::Watch(verb) => return verb.run(&client, output).await,
            Verb::List(verb) => verb.run(&client, output).await?,
            Verb::Get(verb) => verb.get(&client, output).await?,
            Verb::Explain(verb) => verb.run(&client, output).await?,
            Verb::Cancel(verb) => verb.run(&client, output).await?,
            Verb::Retry(verb) => verb.run(&client, output).await?,
            Verb::Pause(verb) => verb.pause(&client, output).await?,
            Verb::Resume(verb) => verb.resume(&client, output).await?,
            Verb::Update(verb) => verb.run(&client, output).await?,
            Verb::Delete(verb) => verb.delete(&client, output).await?,
            Verb::Events(verb) => verb.run(&client, output).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
