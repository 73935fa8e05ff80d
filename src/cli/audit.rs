//! `interlock audit`: lists the audit log.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::admin::{Admin, AdminAccess};
use super::failure::EXIT_CODES;
use super::json;
use super::output::Output;
use super::text::{note, say, table, time, width};
use crate::proto::{AuditEvent, ListAuditEventsRequest, ListAuditEventsResponse};

/// Page size of the list.
const PAGE: u32 = 1_000;

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
    /// Maximum number of entries.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
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
        let mut found = ListAuditEventsResponse::default();
        loop {
            let left = self.limit - u32::try_from(found.events.len()).unwrap_or(self.limit);
            let request = ListAuditEventsRequest {
                page_size: i32::try_from(left.min(PAGE)).unwrap_or_default(),
                page_token: found.next_page_token,
                principal: self.principal.clone(),
                method: self.method.clone(),
                ..Default::default()
            };
            let page = admin.list_audit_events(request).await?;
            found.events.extend(page.events);
            found.next_page_token = page.next_page_token;
            if found.next_page_token.is_empty() || found.events.len() >= self.limit as usize {
                break;
            }
        }
        if output == Output::Json {
            return Ok(say(json::text(&found)?)?);
        }
        let head = ["TIME", "PRINCIPAL", "METHOD", "NAMESPACE", "TARGET", "DETAILS"];
        for line in table(&head, found.events.iter().map(row), width()) {
            say(line)?;
        }
        if !found.next_page_token.is_empty() {
            note(format!("there are more: --limit is {}", self.limit));
        }
        Ok(())
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
