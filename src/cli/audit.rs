//! `interlock audit`: lists the audit log.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::admin::{Admin, AdminAccess};
use super::failure::EXIT_CODES;
use super::json;
use super::output::Output;
use super::pages::Limit;
use super::text::{table, time, width};
use crate::proto::{AuditEvent, ListAuditEventsRequest};

/// Show the audit log, through a server or from the database.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Audit {
    #[command(flatten)]
    access: AdminAccess,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List entries of the audit log, the newest first.
    List(List),
}

#[derive(Debug, Args)]
struct List {
    /// Only entries of this principal, such as `key:abcd1234` [default: all].
    #[arg(long, default_value = "", hide_default_value = true)]
    principal: String,
    /// Only entries of this rpc, such as `AdminService/CreateKey` [default: all].
    #[arg(long, default_value = "", hide_default_value = true)]
    method: String,
    #[command(flatten)]
    limit: Limit,
}

impl Audit {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let admin = self.access.open().await?;
        let output = self.access.connection.output;
        let Verb::List(verb) = self.verb;
        let done = verb.run(&admin, output).await;
        admin.close().await;
        done.map(|()| ExitCode::SUCCESS)
    }
}

impl List {
    async fn run(self, admin: &Admin, output: Output) -> anyhow::Result<()> {
        let page = async |page_size, page_token| {
            let (principal, method) = (self.principal.clone(), self.method.clone());
            let request = ListAuditEventsRequest { page_size, page_token, principal, method, ..Default::default() };
            admin.list_audit_events(request).await
        };
        let found = self.limit.pages(page).await?;
        let head = ["TIME", "PRINCIPAL", "METHOD", "NAMESPACE", "TARGET", "DETAILS"];
        self.limit.print(output, found, |found| table(&head, found.events.iter().map(row), width()))
    }
}

fn row(event: &AuditEvent) -> Vec<String> {
    let shown = json::value(event).unwrap_or_default();
    let details = shown.get("details").map(ToString::to_string).filter(|details| details != "{}");
    vec![
        time(event.event_time),
        event.principal.clone(),
        event.method.clone(),
        event.namespace.clone(),
        event.target.clone(),
        details.unwrap_or_default(),
    ]
}
