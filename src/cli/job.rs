//! `interlock job`: what authors and operators do with jobs.

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

/// Submit, look at and steer jobs of a server that runs.
#[derive(Debug, Args)]
pub struct Job {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Submit a job.
    Submit(submit::Submit),
    /// List jobs, the newest first.
    List(read::List),
    /// Show a job, its stages and the details of their failures, such as tracebacks.
    Get(read::Named),
    /// Follow a job to its end; the exit code tells how it ended.
    Watch(watch::Watch),
    /// Cancel a job.
    Cancel(steer::Cancel),
    /// Run a job that has ended once more.
    Retry(steer::Retry),
    /// Say why a job does not move, or what it does.
    Explain(read::Named),
}

impl Job {
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
