//! `interlock permit`: the commands about permits and the resources that they are for.

mod acquire;
mod hold;
mod operate;
mod policy;
mod read;
mod release;
mod waiters;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::Connection;
use super::failure::EXIT_CODES;

/// Acquire and release permits; show, watch and set the rules of resources.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct PermitCommand {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List resources by name.
    List(read::ResourceList),
    /// Show a resource with its policy, its use and its holders.
    Get(read::ResourceName),
    /// List the callers and the stages that wait for a permit of a resource, in the order of the wait queue.
    Waiters(waiters::WaiterList),
    /// Acquire a permit: print its token, or hold it while a command runs.
    Acquire(Box<acquire::Acquire>),
    /// Renew permits.
    Renew(release::Renew),
    /// Release a permit and report the outcome of its use.
    Release(release::Release),
    /// Take a permit away from its holder.
    Revoke(operate::Revoke),
    /// Set the policy of a resource, or show it.
    Policy(policy::PolicyCommand),
    /// Close the breaker of a resource.
    ResetBreaker(operate::ResetBreaker),
    /// Watch a resource: as it is, then its changes, until it is interrupted.
    Watch(watch::WatchedResource),
    /// Delete a resource that is not in use.
    Delete(operate::DeleteResource),
}

impl PermitCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (client, output) = (self.connection.client()?, self.connection.output);
        match self.verb {
            Verb::Acquire(verb) => return verb.run(&client, output).await,
            Verb::List(verb) => verb.run(&client, output).await?,
            Verb::Get(verb) => verb.get(&client, output).await?,
            Verb::Waiters(verb) => verb.run(&client, output).await?,
            Verb::Renew(verb) => verb.run(&client, output).await?,
            Verb::Release(verb) => verb.run(&client, output).await?,
            Verb::Revoke(verb) => verb.run(&client, output).await?,
            Verb::Policy(verb) => verb.run(&client, output).await?,
            Verb::ResetBreaker(verb) => verb.run(&client, output).await?,
            Verb::Watch(verb) => verb.run(&client, output).await?,
            Verb::Delete(verb) => verb.run(&client, output).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
