//! `interlock session correct` and `interlock session delete-segment`.

use clap::{ArgGroup, Args};
use prost_types::FieldMask;
use serde_json::{Map, Value};

use super::segment::{SegmentFlags, lines};
use crate::cli::client::ApiClient;
use crate::cli::document::{message, parse, text_of};
use crate::cli::failure::Failed;
use crate::cli::output::{Output, print};
use crate::cli::write::{RepeatFlag, VersionFlag};
use crate::proto::{self, Segment, SegmentStatus};

/// The segment, and what changes of it.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true).args(SegmentFlags::IDS))]
pub(super) struct CorrectCommand {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    /// Key of the segment.
    #[arg(value_name = "KEY")]
    segment_key: String,
    #[command(flatten)]
    fields: SegmentFlags,
    /// Make an interim segment final.
    #[arg(long = "final", group = "change")]
    is_final: bool,
    /// Remove a field, such as `end`; may be repeated.
    #[arg(long, value_name = "FIELD", group = "change")]
    clear: Vec<String>,
    /// Other fields: a JSON object with fields of Segment, such as `{"words":[],"metadata":{"by":"ada"}}`, or @FILE, or @-; null removes a
    /// field.
    #[arg(long = "fields", id = "json", value_name = "JSON", group = "change")]
    document: Option<String>,
    /// Refuse unless the segment has this version [default: the version that it has].
    #[arg(long, value_name = "VERSION")]
    expected_version: Option<i64>,
    #[command(flatten)]
    repeat: RepeatFlag,
}

/// The segment to delete.
#[derive(Debug, Args)]
pub(super) struct DeletedSegment {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    /// Key of the segment.
    #[arg(value_name = "KEY")]
    segment_key: String,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl CorrectCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let expected_version = match self.expected_version {
            Some(version) => version,
            None => self.version(client).await?,
        };
        let session_id = self.session_id.clone();
        let (segment, paths) = self.segment()?;
        let request = proto::UpdateSegmentRequest {
            session_id,
            segment: Some(segment),
            update_mask: Some(FieldMask { paths }),
            expected_version,
            request_id: Some(request_id.clone()),
        };
        // A repeat has to name the same version.
        let repeat = format!("{request_id} --expected-version {expected_version}");
        let answer = client.applied(&repeat, client.timelines().update_segment(client.ask(request))).await?;
        print(output, &answer, |answer| match &answer.segment {
            Some(segment) => lines(segment),
            None => vec!["applied before, and deleted since".to_owned()],
        })
    }

    /// The version that the segment has now.
    async fn version(&self, client: &ApiClient) -> Result<i64, Failed> {
        let request = proto::GetSegmentRequest {
            session_id: self.session_id.clone(),
            key: self.segment_key.clone(),
            max_staleness: None,
        };
        let answer = client.answer(client.timelines().get_segment(client.ask(request))).await?;
        Ok(answer.segment.unwrap_or_default().version)
    }

    /// The new values, and the names of the fields that change.
    fn segment(self) -> Result<(Segment, Vec<String>), Failed> {
        let document = self.document.as_deref().map(document).transpose()?.unwrap_or_default();
        let mut paths: Vec<_> = document.keys().map(|name| snake_case(name)).collect();
        let read: Segment = message("--fields", Value::Object(document))?;
        let mut segment = Segment { key: self.segment_key, ..read };
        paths.extend(self.fields.set(&mut segment).into_iter().map(str::to_owned));
        if self.is_final {
            segment.status = SegmentStatus::Final.into();
            paths.push("status".to_owned());
        }
        if let Some(both) = self.clear.iter().find(|name| paths.contains(name)) {
            return Err(Failed::usage(format!("--clear {both}: is set by another flag")));
        }
        paths.extend(self.clear);
        Ok((segment, paths))
    }
}

fn document(text: &str) -> Result<Map<String, Value>, Failed> {
    match parse("--fields", &text_of("--fields", text)?)? {
        Value::Object(document) => Ok(document),
        _ => Err(Failed::usage("--fields: must be a JSON object, such as '{\"metadata\":{\"by\":\"ada\"}}'")),
    }
}

/// The name of a field as in the proto: `parentKey` is `parent_key`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

impl DeletedSegment {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let request = proto::DeleteSegmentRequest {
            session_id: self.session_id.clone(),
            key: self.segment_key.clone(),
            expected_version: self.version.expected_version,
            request_id: Some(request_id.clone()),
        };
        let answer = client.applied(&request_id, client.timelines().delete_segment(client.ask(request))).await?;
        print(output, &answer, |_| vec![format!("{} {}  deleted", self.session_id, self.segment_key)])
    }
}
