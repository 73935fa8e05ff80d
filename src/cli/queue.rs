//! `interlock queue`: lists queues.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::{ApiClient, Connection};
use super::failure::EXIT_CODES;
use super::output::Output;
use super::pages::Limit;
use super::text::{bounded, table, time, width};
use crate::proto::{self, Queue};

/// List queues with their ready, waiting, leased and delayed stages.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct QueueCommand {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the queues that have ready, waiting, leased or delayed stages, by name. A `+` after a number: there are more.
    List(Limit),
}

impl QueueCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (client, output) = (self.connection.client()?, self.connection.output);
        match self.verb {
            Verb::List(limit) => list(limit, &client, output).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(limit: Limit, client: &ApiClient, output: Output) -> anyhow::Result<()> {
    let page = async |page_size, page_token| {
        let request = proto::ListQueuesRequest { page_size, page_token, ..Default::default() };
        client.answer(client.jobs().list_queues(client.ask(request))).await
    };
    let found = limit.pages(page).await?;
    let head = ["QUEUE", "READY", "OLDEST READY", "WAIT FOR PERMIT", "LEASED", "DELAYED"];
    limit.print(output, found, |found| table(&head, found.queues.iter().map(row), width()))
}

fn row(queue: &Queue) -> Vec<String> {
    vec![
        queue.name.clone(),
        bounded(queue.ready_count, queue.ready_count_capped),
        time(queue.oldest_ready_time),
        bounded(queue.waiting_count, queue.waiting_count_capped),
        bounded(queue.leased_count, queue.leased_count_capped),
        bounded(queue.delayed_count, queue.delayed_count_capped),
    ]
}
