//! `interlock record get`, `interlock record list` and `interlock record collections`.

use clap::Args;
use serde_json::Value;

use crate::cli::client::ApiClient;
use crate::cli::json;
use crate::cli::output::{Output, print};
use crate::cli::pages::Limit;
use crate::cli::text::{bounded, facts, plain, table, time, width};
use crate::proto::{self, Collection, Record};

/// A record.
#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// Collection of the record.
    #[arg(value_name = "COLLECTION")]
    pub collection: String,
    /// Id of the record within the collection.
    #[arg(value_name = "ID")]
    pub record_id: String,
}

/// Collection, filter, order and limit of the list.
#[derive(Debug, Args)]
pub(super) struct RecordList {
    /// Collection to list.
    #[arg(value_name = "COLLECTION")]
    collection: String,
    /// Filter, such as `fields.status = done AND fields.seconds >= 30` [default: all].
    #[arg(long, default_value = "", hide_default_value = true)]
    filter: String,
    /// Order: `record_id`, `create_time` or `update_time`, followed by ` desc` for descending [default: record_id].
    #[arg(long, default_value = "", hide_default_value = true)]
    order_by: String,
    #[command(flatten)]
    limit: Limit,
}

impl RecordArgs {
    pub(super) async fn get(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request =
            proto::GetRecordRequest { collection: self.collection, record_id: self.record_id, ..Default::default() };
        let answer = client.answer(client.records().get_record(client.ask(request))).await?;
        print(output, &answer, |answer| answer.record.as_ref().map(lines).unwrap_or_default())
    }
}

impl RecordList {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let page = async |page_size, page_token| {
            let request = proto::ListRecordsRequest {
                collection: self.collection.clone(),
                filter: self.filter.clone(),
                order_by: self.order_by.clone(),
                page_size,
                page_token,
                ..Default::default()
            };
            client.answer(client.records().list_records(client.ask(request))).await
        };
        let found = self.limit.pages(page).await?;
        let head = ["RECORD", "VERSION", "UPDATED", "FIELDS"];
        self.limit.print(output, found, |found| table(&head, found.records.iter().map(row), width()))
    }
}

/// Lists collections.
pub(super) async fn collections(limit: Limit, client: &ApiClient, output: Output) -> anyhow::Result<()> {
    let page = async |page_size, page_token| {
        let request = proto::ListCollectionsRequest { page_size, page_token, ..Default::default() };
        client.answer(client.records().list_collections(client.ask(request))).await
    };
    let found = limit.pages(page).await?;
    let row = |collection: &Collection| {
        vec![collection.name.clone(), bounded(collection.record_count, collection.record_count_capped)]
    };
    limit.print(output, found, |found| table(&["COLLECTION", "RECORDS"], found.collections.iter().map(row), width()))
}

fn row(record: &Record) -> Vec<String> {
    vec![record.record_id.clone(), record.version.to_string(), time(record.update_time), in_line(record)]
}

/// A record line by line: what it is, then its fields.
pub(super) fn lines(record: &Record) -> Vec<String> {
    let mut lines = facts([
        ("record", format!("{} {}", record.collection, record.record_id)),
        ("version", record.version.to_string()),
        ("created", time(record.create_time)),
        ("updated", time(record.update_time)),
    ]);
    lines.push(String::new());
    let version = |name: &str| record.field_versions.get(name).map(ToString::to_string).unwrap_or_default();
    let row = |(name, value): (String, Value)| vec![name.clone(), version(&name), value.to_string()];
    lines.extend(table(&["FIELD", "VERSION", "VALUE"], fields(record).into_iter().map(row), width()));
    lines
}

/// The fields of a record in one line, each as `NAME=JSON`.
pub(super) fn in_line(record: &Record) -> String {
    let fields: Vec<_> = fields(record).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    plain(&fields.join(" "))
}

/// The fields as JSON, by name.
fn fields(record: &Record) -> Vec<(String, Value)> {
    let shown = json::value(record).unwrap_or_default();
    let fields = shown.get("fields").and_then(Value::as_object).cloned().unwrap_or_default();
    fields.into_iter().collect()
}
