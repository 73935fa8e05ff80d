//! `interlock record set` and `interlock record delete`.

use clap::Args;
use serde_json::{Value, json};

use super::get::{RecordArgs, lines};
use crate::cli::client::ApiClient;
use crate::cli::document::{message, pair, parse, text_of, value_or_text};
use crate::cli::failure::Failed;
use crate::cli::output::{Output, print};
use crate::cli::write::{RepeatFlag, VersionFlag};
use crate::proto;

/// The record, and the operations on its fields. They are applied in the order of this help; `--operations` has an order of its own, and
/// comes last.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("operation").required(true).multiple(true))]
pub(super) struct SetCommand {
    #[command(flatten)]
    record: RecordArgs,
    /// Fields to set; a value that is JSON is stored as such (`views=3`, `done=true`, `tags=["a"]`), any other as text.
    #[arg(value_name = "FIELD=VALUE", value_parser = pair, group = "operation")]
    set: Vec<(String, String)>,
    /// Remove a field.
    #[arg(long, value_name = "FIELD", group = "operation")]
    unset: Vec<String>,
    /// Add to a number; a missing one counts as 0.
    #[arg(long, value_name = "FIELD=NUMBER", value_parser = pair, group = "operation")]
    increment: Vec<(String, String)>,
    /// Add a value, or the values of a JSON array, to the end of a list.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = pair, group = "operation")]
    append: Vec<(String, String)>,
    /// Add those of these values that are not in the list yet.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = pair, group = "operation")]
    add_to_set: Vec<(String, String)>,
    /// Remove a value, or the values of a JSON array, from a list.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = pair, group = "operation")]
    remove: Vec<(String, String)>,
    /// Raise a number to at least this.
    #[arg(long, value_name = "FIELD=NUMBER", value_parser = pair, group = "operation")]
    maximum: Vec<(String, String)>,
    /// Lower a number to at most this.
    #[arg(long, value_name = "FIELD=NUMBER", value_parser = pair, group = "operation")]
    minimum: Vec<(String, String)>,
    /// Merge a JSON object into the object of a field; null removes a member.
    #[arg(long, value_name = "FIELD=JSON", value_parser = pair, group = "operation")]
    merge: Vec<(String, String)>,
    /// A JSON array with the fields of FieldOperation, such as `[{"field":"views","increment":1}]`, or @FILE, or @-.
    #[arg(long, value_name = "JSON", group = "operation")]
    operations: Option<String>,
    /// Refuse if the record does not exist [default: create it].
    #[arg(long)]
    existing: bool,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

/// The record to delete.
#[derive(Debug, Args)]
pub(super) struct DeleteCommand {
    #[command(flatten)]
    record: RecordArgs,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl SetCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let operations: proto::UpdateRecordRequest =
            message("record set", json!({ "operations": self.operations()? }))?;
        let request = proto::UpdateRecordRequest {
            collection: self.record.collection,
            record_id: self.record.record_id,
            expected_version: self.version.expected_version,
            allow_missing: !self.existing,
            request_id: Some(request_id.clone()),
            ..operations
        };
        let answer = client.applied(&request_id, client.records().update_record(client.ask(request))).await?;
        print(output, &answer, |answer| match &answer.record {
            Some(record) => lines(record),
            None => vec!["applied before, and deleted since".to_owned()],
        })
    }

    /// All operations, as protobuf JSON.
    fn operations(&self) -> Result<Vec<Value>, Failed> {
        let mut operations = Vec::new();
        let mut add = |name: &str, pairs: &[(String, String)], value: fn(&str) -> Value| {
            operations.extend(pairs.iter().map(|(field, text)| json!({ "field": field, name: value(text) })));
        };
        add("set", &self.set, value_or_text);
        let unset: Vec<_> = self.unset.iter().map(|field| (field.clone(), String::new())).collect();
        add("unset", &unset, |_| json!({}));
        add("increment", &self.increment, value_or_text);
        add("append", &self.append, list);
        add("addToSet", &self.add_to_set, list);
        add("remove", &self.remove, list);
        add("maximum", &self.maximum, value_or_text);
        add("minimum", &self.minimum, value_or_text);
        add("merge", &self.merge, value_or_text);
        if let Some(text) = &self.operations {
            let Value::Array(more) = parse("--operations", &text_of("--operations", text)?)? else {
                return Err(Failed::usage("--operations: must be a JSON array of operations"));
            };
            operations.extend(more);
        }
        Ok(operations)
    }
}

/// The values of a list: those of a JSON array, or the one value.
fn list(text: &str) -> Value {
    match value_or_text(text) {
        values @ Value::Array(_) => values,
        value => json!([value]),
    }
}

impl DeleteCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let (collection, record_id) = (self.record.collection, self.record.record_id);
        let line = format!("{collection} {record_id}  deleted");
        let request = proto::DeleteRecordRequest {
            collection,
            record_id,
            expected_version: self.version.expected_version,
            request_id: Some(request_id.clone()),
            ..Default::default()
        };
        let answer = client.applied(&request_id, client.records().delete_record(client.ask(request))).await?;
        print(output, &answer, |_| vec![line])
    }
}
