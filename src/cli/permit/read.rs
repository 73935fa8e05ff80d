//! `interlock permit list` and `interlock permit get`.

use clap::Args;
use serde_json::Value;

use crate::cli::client::ApiClient;
use crate::cli::json;
use crate::cli::output::{Output, print};
use crate::cli::pages::Limit;
use crate::cli::text::{bare, facts, table, time, width};
use crate::proto::{self, BreakerState, Resource};

/// Prefix and limit of the list.
#[derive(Debug, Args)]
pub(super) struct ResourceList {
    /// Only resources with names that begin with this [default: all].
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    #[command(flatten)]
    limit: Limit,
}

/// A resource.
#[derive(Debug, Args)]
pub(super) struct ResourceName {
    /// Name of the resource.
    #[arg(value_name = "RESOURCE")]
    pub name: String,
}

impl ResourceList {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let page = async |page_size, page_token| {
            let request = proto::ListResourcesRequest { name_prefix: self.prefix.clone(), page_size, page_token };
            client.answer(client.permits().list_resources(client.ask(request))).await
        };
        let found = self.limit.pages(page).await?;
        let head = ["RESOURCE", "IN USE", "LIMIT", "PERMITS", "WAITING", "STAGES WAIT", "BREAKER", "UPDATED"];
        self.limit.print(output, found, |found| table(&head, found.resources.iter().map(row), width()))
    }
}

impl ResourceName {
    pub(super) async fn get(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request = proto::GetResourceRequest { name: self.name };
        let answer = client.answer(client.permits().get_resource(client.ask(request))).await?;
        print(output, &answer, |answer| answer.resource.as_ref().map(lines).unwrap_or_default())
    }
}

fn row(resource: &Resource) -> Vec<String> {
    vec![
        resource.name.clone(),
        resource.in_use.to_string(),
        limit(resource),
        resource.permit_count.to_string(),
        resource.waiter_count.to_string(),
        if resource.stages_waiting { "yes" } else { "" }.to_owned(),
        breaker(resource),
        time(resource.update_time),
    ]
}

/// A resource line by line, with its holders.
pub(super) fn lines(resource: &Resource) -> Vec<String> {
    let shown = json::value(resource).unwrap_or_default();
    let policy = shown.get("policy").map(ToString::to_string);
    let denials: Vec<_> = resource.denials.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
    let tokens: Vec<_> = resource.available_tokens.iter().map(ToString::to_string).collect();
    let mut lines = facts([
        ("resource", resource.name.clone()),
        ("policy", policy.unwrap_or_else(|| "none: it is a lock".to_owned())),
        ("in use", in_use(resource)),
        ("waiting", waiting(resource)),
        ("tokens", tokens.join(" ")),
        ("breaker", breaker(resource)),
        ("open until", time(resource.breaker_open_until_time)),
        ("throttled until", time(resource.throttled_until_time)),
        ("learned rate", resource.learned_rate.map(|rate| format!("{rate:.2}/s")).unwrap_or_default()),
        ("grants", resource.grant_count.to_string()),
        ("denials", denials.join(" ")),
        ("version", resource.version.to_string()),
        ("updated", time(resource.update_time)),
    ]);
    if !resource.holders.is_empty() {
        lines.push(String::new());
        let head = ["HOLDER", "MODE", "AMOUNT", "FENCING TOKEN", "GRANTED", "EXPIRES"];
        lines.extend(table(&head, resource.holders.iter().map(holder), width()));
    }
    lines.extend(operations(&shown));
    lines
}

/// What operators did: resets of the breaker and revocations, each as a line.
fn operations(shown: &Value) -> Vec<String> {
    let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let lines = |list: &str, moment: &'static str, what: &'static str| -> Vec<String> {
        let entries = shown.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let line = |entry: &Value| {
            let [at, by, why] = [moment, "requester", "reason"].map(|name| text(entry, name));
            let line = format!("{what} at {at} by {by}: {why}");
            crate::cli::text::plain(line.trim_end_matches(": "))
        };
        entries.iter().map(line).collect()
    };
    let mut done = lines("resets", "resetTime", "breaker reset");
    done.extend(lines("revocations", "revokeTime", "permit revoked"));
    if !done.is_empty() {
        done.insert(0, String::new());
    }
    done
}

/// A resource in one line.
pub(super) fn in_line(resource: &Resource) -> String {
    let breaker = breaker(resource);
    let breaker = if breaker.is_empty() { breaker } else { format!("  breaker {breaker}") };
    let line = format!(
        "{}  version {}  in use {}  waiting {}{breaker}",
        resource.name,
        resource.version,
        in_use(resource),
        waiting(resource)
    );
    crate::cli::text::plain(&line)
}

fn in_use(resource: &Resource) -> String {
    let of = if resource.limit.is_some() { format!(" of {}", limit(resource)) } else { String::new() };
    format!("{}{of}", resource.in_use)
}

fn waiting(resource: &Resource) -> String {
    let stages = if resource.stages_waiting { ", and stages" } else { "" };
    format!("{}{stages}", resource.waiter_count)
}

fn limit(resource: &Resource) -> String {
    resource.limit.map(|limit| limit.to_string()).unwrap_or_default()
}

fn breaker(resource: &Resource) -> String {
    match resource.breaker_state() {
        BreakerState::Unspecified => String::new(),
        state => bare(state.as_str_name(), "BREAKER_STATE_").to_owned(),
    }
}

fn holder(holder: &proto::PermitHolder) -> Vec<String> {
    vec![
        holder.holder.clone(),
        bare(holder.mode().as_str_name(), "PERMIT_MODE_").to_owned(),
        holder.amount.to_string(),
        holder.fencing_token.to_string(),
        time(holder.grant_time),
        time(holder.expire_time),
    ]
}
