//! `interlock worker`: lists workers.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::{ApiClient, Connection};
use super::failure::EXIT_CODES;
use super::output::Output;
use super::pages::Limit;
use super::text::{bounded, table, time, width};
use crate::proto::{self, WorkerLeases};

/// List workers with the leases that they hold.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct WorkerCommand {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the workers that hold leases, by name, with their oldest lease, last renewal and next expiry. A `+` after a number: there are more.
    List(Limit),
}

impl WorkerCommand {
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
        let request = proto::ListWorkersRequest { page_size, page_token, ..Default::default() };
        client.answer(client.workers().list_workers(client.ask(request))).await
    };
    let found = limit.pages(page).await?;
    let head = ["WORKER", "LEASES", "OLDEST LEASE", "LAST RENEWAL", "NEXT EXPIRY", "QUEUES"];
    limit.print(output, found, |found| table(&head, found.workers.iter().map(row), width()))
}

fn row(worker: &WorkerLeases) -> Vec<String> {
    let more = if worker.queues_capped { " …" } else { "" };
    vec![
        worker.worker_id.clone(),
        bounded(worker.lease_count, worker.lease_count_capped),
        time(worker.oldest_lease_time),
        time(worker.last_renew_time),
        time(worker.next_expire_time),
        format!("{}{more}", worker.queues.join(" ")),
    ]
}
