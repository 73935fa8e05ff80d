//! `interlock record watch`: records as they change.

use std::collections::BTreeMap;

use clap::Args;
use prost_types::Timestamp;

use super::get::in_line;
use crate::cli::client::ApiClient;
use crate::cli::json;
use crate::cli::output::Output;
use crate::cli::retry::Patience;
use crate::cli::stream::SteadyStream;
use crate::cli::text::{plain, say};
use crate::proto::watch_records_response::Update;
use crate::proto::{self, Record, RecordChange};

/// The records to watch.
#[derive(Debug, Args)]
pub(super) struct Watched {
    /// Collection of the records.
    #[arg(value_name = "COLLECTION")]
    collection: String,
    /// Ids of the records, 1 to 100; they need not exist yet.
    #[arg(value_name = "ID", required = true)]
    record_ids: Vec<String>,
    #[command(flatten)]
    patience: Patience,
}

/// The last version of each record that was received, with the creation of that record.
type Seen = BTreeMap<String, (i64, Option<Timestamp>)>;

impl Watched {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let mut stream = SteadyStream::new(client, &self.patience);
        let mut seen = Seen::new();
        loop {
            let open = async || {
                let request = self.request(&seen);
                client.records().watch_records(client.open(request)).await
            };
            let response = stream.next(open).await?;
            let line = response.update.as_ref().and_then(line);
            match output {
                Output::Json => say(json::text(&response)?)?,
                Output::Text => line.iter().try_for_each(say)?,
            }
            remember(&mut seen, response.update);
        }
    }

    fn request(&self, seen: &Seen) -> proto::WatchRecordsRequest {
        let record = |record_id: &String| {
            let (from_version, from_create_time) = seen.get(record_id).copied().unwrap_or_default();
            let (collection, record_id) = (self.collection.clone(), record_id.clone());
            proto::WatchedRecord { collection, record_id, from_version, from_create_time }
        };
        proto::WatchRecordsRequest { records: self.record_ids.iter().map(record).collect() }
    }
}

fn remember(seen: &mut Seen, update: Option<Update>) {
    match update {
        Some(Update::Record(record)) => drop(seen.insert(record.record_id, (record.version, record.create_time))),
        Some(Update::Change(change)) => seen.entry(change.record_id).or_default().0 = change.version,
        Some(Update::Removal(removal)) => drop(seen.remove(&removal.record_id)),
        Some(Update::Keepalive(_)) | None => {}
    }
}

/// The line about a message. None: it says nothing about a record.
fn line(update: &Update) -> Option<String> {
    match update {
        Update::Record(record) => Some(version_line(&record.record_id, record.version, &in_line(record))),
        Update::Change(change) => Some(version_line(&change.record_id, change.version, &changed(change))),
        Update::Removal(removal) => Some(format!("{}  does not exist", removal.record_id)),
        Update::Keepalive(_) => None,
    }
}

fn version_line(record_id: &str, version: i64, fields: &str) -> String {
    format!("{record_id}  version {version}  {fields}").trim_end().to_owned()
}

/// The fields that changed, and those that were removed.
fn changed(change: &RecordChange) -> String {
    let mut line = in_line(&Record { fields: change.fields.clone(), ..Default::default() });
    for field in &change.removed_fields {
        line += &format!(" -{field}");
    }
    plain(line.trim_start())
}
