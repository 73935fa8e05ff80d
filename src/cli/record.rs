//! `interlock record`: the commands about records.

mod get;
mod set;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::Connection;
use super::failure::EXIT_CODES;
use super::pages::Limit;

/// Show, list, change, watch and delete records.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct RecordCommand {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show a record.
    Get(get::RecordArgs),
    /// List the records of a collection.
    List(get::RecordList),
    /// List the collections that have records, by name.
    Collections(Limit),
    /// Change fields of a record, all or none; creates the record if it does not exist.
    Set(Box<set::SetCommand>),
    /// Watch records: each as it is, then its changes, until it is interrupted.
    Watch(watch::Watched),
    /// Delete a record.
    Delete(set::DeleteCommand),
}

impl RecordCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (client, output) = (self.connection.client()?, self.connection.output);
        match self.verb {
            Verb::Get(verb) => verb.get(&client, output).await?,
            Verb::List(verb) => verb.run(&client, output).await?,
            Verb::Collections(limit) => get::collections(limit, &client, output).await?,
            Verb::Set(verb) => verb.run(&client, output).await?,
            Verb::Watch(verb) => verb.run(&client, output).await?,
            Verb::Delete(verb) => verb.run(&client, output).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
