//! `interlock permit waiters`: callers and stages in the wait queue of a resource.

use clap::Args;

use crate::cli::client::ApiClient;
use crate::cli::output::Output;
use crate::cli::pages::Limit;
use crate::cli::text::{bare, table, time, width};
use crate::proto::{self, PermitWaiter};

/// A resource, and the limit of the list.
#[derive(Debug, Args)]
pub(super) struct WaiterList {
    /// Name of the resource.
    #[arg(value_name = "RESOURCE")]
    name: String,
    #[command(flatten)]
    limit: Limit,
}

impl WaiterList {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let mut newest = proto::ListWaitersResponse::default();
        let page = async |page_size, page_token| {
            let request = proto::ListWaitersRequest { name: self.name.clone(), page_size, page_token };
            let page = client.answer(client.permits().list_waiters(client.ask(request))).await?;
            newest = proto::ListWaitersResponse { waiters: Vec::new(), ..page.clone() };
            Ok(page)
        };
        let found = self.limit.pages(page).await?;
        let found = proto::ListWaitersResponse { waiters: found.waiters, ..newest };
        let head = ["WAITER", "QUEUE", "PRIORITY", "MODE", "AMOUNT", "SINCE", "UNTIL"];
        self.limit.print(output, found, |found| table(&head, found.waiters.iter().map(row), width()))
    }
}

fn row(waiter: &PermitWaiter) -> Vec<String> {
    let name = if waiter.job_id.is_empty() {
        waiter.holder.clone()
    } else {
        format!("{} / {}", waiter.job_id, waiter.stage_name)
    };
    vec![
        name,
        waiter.queue.clone(),
        waiter.priority.to_string(),
        bare(waiter.mode().as_str_name(), "PERMIT_MODE_").to_owned(),
        waiter.amount.to_string(),
        time(waiter.wait_start_time),
        time(waiter.expire_time),
    ]
}
