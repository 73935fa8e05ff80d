//! `interlock stage`: the commands of workers and orchestrators about single stages.

mod heartbeat;
mod lease;
mod outcome;
mod show;
mod target;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::Connection;
use super::failure::EXIT_CODES;

/// Lease stages, renew leases, and complete, fail or release attempts.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct StageCommand {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show a stage with its input.
    Get(show::Get),
    /// Lease ready stages of queues.
    Lease(lease::LeaseCommand),
    /// Renew a lease, and report progress.
    Heartbeat(heartbeat::HeartbeatCommand),
    /// Complete a stage with its artifacts.
    Complete(outcome::Complete),
    /// Report that the attempt of a stage failed.
    Fail(outcome::Fail),
    /// Give a stage back without an outcome; the attempt is not counted.
    Release(outcome::ReleaseStage),
}

impl StageCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (client, output) = (self.connection.client()?, self.connection.output);
        match self.verb {
            Verb::Get(verb) => verb.run(&client, output).await?,
            Verb::Lease(verb) => verb.run(&client, output).await?,
            Verb::Heartbeat(verb) => verb.run(&client, output).await?,
            Verb::Complete(verb) => verb.run(&client, output).await?,
            Verb::Fail(verb) => verb.run(&client, output).await?,
            Verb::Release(verb) => verb.run(&client, output).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
