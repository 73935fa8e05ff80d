//! `interlock session append`: one segment by flags, or several as a document.

use clap::Args;
use serde_json::{Value, json};

use super::segment::{KindName, SegmentFlags};
use crate::cli::client::ApiClient;
use crate::cli::document::{message, parse, text_of};
use crate::cli::failure::Failed;
use crate::cli::output::{Output, print};
use crate::cli::text::bare;
use crate::cli::write::RepeatFlag;
use crate::proto::segment_content::Source;
use crate::proto::{self, Segment, SegmentContent, SegmentResult, SegmentSkip, SegmentStatus};

/// The session, and one segment by flags or several by `--segments`.
#[derive(Debug, Args)]
pub(super) struct AppendCommand {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    /// Key of the segment, unique in the session: appending it again changes nothing.
    #[arg(value_name = "KEY", required_unless_present = "segments", conflicts_with = "segments")]
    segment_key: Option<String>,
    #[command(flatten)]
    fields: SegmentFlags,
    /// Kind of the segment.
    #[arg(long, value_enum, default_value_t = KindName::Transcript)]
    kind: KindName,
    /// The segment is preliminary: an append of its key with a higher --sequence replaces it.
    #[arg(long)]
    interim: bool,
    /// Count of the states of this segment.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    sequence: i64,
    /// Where the recording or another file of the segment is stored.
    #[arg(long)]
    uri: Option<String>,
    /// A JSON array of objects with the fields of Segment, such as
    /// `[{"key":"1","kind":"SEGMENT_KIND_TRANSCRIPT","start":"1.5s","text":"Good morning"}]`, or @FILE, or @-.
    #[arg(
        long,
        value_name = "JSON",
        conflicts_with_all = SegmentFlags::IDS.into_iter().chain(["kind", "interim", "sequence", "uri"])
    )]
    segments: Option<String>,
    /// Refuse if the session does not exist [default: create it].
    #[arg(long)]
    existing: bool,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl AppendCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request_id = self.repeat.id();
        let (session_id, allow_missing) = (self.session_id.clone(), !self.existing);
        let segments = self.segments()?;
        let request =
            proto::AppendSegmentsRequest { session_id, segments, allow_missing, request_id: Some(request_id.clone()) };
        let answer = client.applied(&request_id, client.timelines().append_segments(client.ask(request))).await?;
        print(output, &answer, |answer| answer.results.iter().map(line).collect())
    }

    fn segments(self) -> Result<Vec<Segment>, Failed> {
        if let Some(text) = &self.segments {
            let segments @ Value::Array(_) = parse("--segments", &text_of("--segments", text)?)? else {
                return Err(Failed::usage("--segments: must be a JSON array of segments"));
            };
            let request: proto::AppendSegmentsRequest = message("--segments", json!({ "segments": segments }))?;
            return Ok(request.segments);
        }
        let content = self.uri.map(|uri| SegmentContent { source: Some(Source::Uri(uri)), ..Default::default() });
        let status = if self.interim { SegmentStatus::Interim } else { SegmentStatus::Final };
        let mut segment = Segment {
            key: self.segment_key.unwrap_or_default(),
            kind: self.kind as i32,
            status: status.into(),
            sequence: self.sequence,
            content,
            ..Default::default()
        };
        self.fields.set(&mut segment);
        Ok(vec![segment])
    }
}

/// What became of a segment.
fn line(result: &SegmentResult) -> String {
    let what = match (result.applied, result.skip()) {
        (true, _) => format!("stored, version {}", result.version),
        (false, SegmentSkip::Unspecified) => "not stored".to_owned(),
        (false, skip) => format!("not stored: {}", reason(skip)),
    };
    format!("{}  {what}", result.key)
}

fn reason(skip: SegmentSkip) -> String {
    match skip {
        SegmentSkip::Sequence => "an equal or higher sequence is stored".to_owned(),
        SegmentSkip::Final => "it is FINAL, `session correct` changes it".to_owned(),
        SegmentSkip::Deleted => "it was deleted".to_owned(),
        SegmentSkip::Unspecified => bare(skip.as_str_name(), "SEGMENT_SKIP_").to_lowercase(),
    }
}
