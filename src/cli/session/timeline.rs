//! `interlock session timeline`: segments in order of time.

use clap::{Args, ValueEnum};
use prost_types::Duration;

use super::offset::{offset_text, parse_offset};
use super::segment::{KindName, StalenessFlag, StatusName, kind_text, status_text};
use crate::cli::client::ApiClient;
use crate::cli::output::Output;
use crate::cli::pages::Limit;
use crate::cli::text::{table, width};
use crate::proto::{self, Segment};

/// The session, and the part of its timeline. Conditions that are given must all hold.
#[derive(Debug, Args)]
pub(super) struct TimelineRange {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    /// Only segments that may last longer than to this time, such as `1m30s`; an unknown end counts as later [default: from the
    /// beginning].
    #[arg(long, value_name = "TIME", value_parser = parse_offset)]
    start: Option<Duration>,
    /// Only segments that start before this time [default: to the end].
    #[arg(long, value_name = "TIME", value_parser = parse_offset)]
    end: Option<Duration>,
    /// What to do with segments whose start is not known; they come last.
    #[arg(long, value_enum, default_value_t = UntimedName::Include)]
    untimed: UntimedName,
    /// Only segments of this kind; may be repeated [default: all].
    #[arg(long = "kind", value_enum, value_name = "KIND")]
    kinds: Vec<KindName>,
    /// Only segments of this language; `en` includes `en-GB`; may be repeated [default: all].
    #[arg(long = "language", value_name = "TAG")]
    languages: Vec<String>,
    /// Only segments of this speaker; may be repeated [default: all].
    #[arg(long = "speaker", value_name = "SPEAKER")]
    speakers: Vec<String>,
    /// Only segments of this status [default: all].
    #[arg(long = "status", value_enum, value_name = "STATUS")]
    statuses: Vec<StatusName>,
    #[command(flatten)]
    staleness: StalenessFlag,
    #[command(flatten)]
    limit: Limit,
}

/// The treatment of segments whose start is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum UntimedName {
    /// They match any range.
    Include = 1,
    /// They do not match.
    Exclude = 2,
    /// Only they match; the range must not be given.
    Only = 3,
}

impl TimelineRange {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let mut version = None;
        let page = async |page_size, page_token| {
            let request = self.request(page_size, page_token);
            let answer = client.answer(client.timelines().query_timeline(client.ask(request))).await?;
            // A watch that begins at the version of the first page misses nothing.
            version.get_or_insert(answer.session_version);
            Ok(answer)
        };
        let mut found = self.limit.pages(page).await?;
        found.session_version = version.unwrap_or_default();
        let head = ["START", "END", "SPEAKER", "LANGUAGE", "KIND", "STATUS", "KEY", "TEXT"];
        self.limit.print(output, found, |found| table(&head, found.segments.iter().map(row), width()))
    }

    fn request(&self, page_size: i32, page_token: String) -> proto::QueryTimelineRequest {
        proto::QueryTimelineRequest {
            session_id: self.session_id.clone(),
            start: self.start,
            end: self.end,
            untimed: self.untimed as i32,
            kinds: self.kinds.iter().map(|kind| *kind as i32).collect(),
            languages: self.languages.clone(),
            speakers: self.speakers.clone(),
            statuses: self.statuses.iter().map(|status| *status as i32).collect(),
            page_size,
            page_token,
            max_staleness: self.staleness.max_staleness,
        }
    }
}

fn row(segment: &Segment) -> Vec<String> {
    vec![
        offset_text(segment.start),
        offset_text(segment.end),
        segment.speaker.clone(),
        segment.language.clone(),
        kind_text(segment.kind()).to_owned(),
        status_text(segment.status()).to_owned(),
        segment.key.clone(),
        segment.text.clone(),
    ]
}
