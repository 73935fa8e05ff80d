//! `interlock session search`: words in the texts of sessions.

use clap::Args;
use console::{Alignment, measure_text_width, pad_str, style, truncate_str};
use prost_types::Timestamp;

use super::offset::offset_text;
use super::segment::{KindName, StalenessFlag};
use crate::cli::client::ApiClient;
use crate::cli::output::Output;
use crate::cli::pages::Limit;
use crate::cli::text::{plain, table, width};
use crate::proto::{self, SearchResult};

/// What to search, and where. Conditions that are given must all hold.
#[derive(Debug, Args)]
pub(super) struct SearchCommand {
    /// Words to find, all of them, in any order. Within the query `"quoted words"` must follow each other, and `-word` must not be there: quote
    /// it for the shell, as in `'"good morning" -evening'`.
    #[arg(value_name = "QUERY", required = true)]
    query: Vec<String>,
    /// Filter of sessions, such as `labels.team = "acme"` [default: all].
    #[arg(long, default_value = "", hide_default_value = true)]
    filter: String,
    /// Only segments of this kind; may be repeated [default: all].
    #[arg(long = "kind", value_enum, value_name = "KIND")]
    kinds: Vec<KindName>,
    /// Only segments of this speaker; may be repeated [default: all].
    #[arg(long = "speaker", value_name = "SPEAKER")]
    speakers: Vec<String>,
    /// Only segments of this language; `en` includes `en-GB`; may be repeated [default: all].
    #[arg(long = "language", value_name = "TAG")]
    languages: Vec<String>,
    /// Only segments that were stored at this time or later, such as `2026-11-22T06:00:00Z` [default: all].
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only segments that were stored before this time [default: all].
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    #[command(flatten)]
    staleness: StalenessFlag,
    #[command(flatten)]
    limit: Limit,
}

impl SearchCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let page = async |page_size, page_token| {
            let request = self.request(page_size, page_token);
            client.answer(client.timelines().search_segments(client.ask(request))).await
        };
        let found = self.limit.pages(page).await?;
        self.limit.print(output, found, |found| lines(&found.results, width()))
    }

    fn request(&self, page_size: i32, page_token: String) -> proto::SearchSegmentsRequest {
        proto::SearchSegmentsRequest {
            query: self.query.join(" "),
            filter: self.filter.clone(),
            kinds: self.kinds.iter().map(|kind| *kind as i32).collect(),
            speakers: self.speakers.clone(),
            languages: self.languages.clone(),
            start_time: self.since,
            end_time: self.until,
            page_size,
            page_token,
            max_staleness: self.staleness.max_staleness,
        }
    }
}

/// A line for each result, with its matches marked.
fn lines(results: &[SearchResult], width: Option<usize>) -> Vec<String> {
    let columns = table(&["SESSION", "START", "SPEAKER", "KEY"], results.iter().map(row), None);
    let widest = columns.iter().map(|line| measure_text_width(line)).max().unwrap_or(0);
    let texts = std::iter::once("TEXT".to_owned()).chain(results.iter().map(marked));
    let line = |(columns, text): (&String, String)| {
        let line = format!("{}  {text}", pad_str(columns, widest, Alignment::Left, None));
        width.map_or(line.clone(), |width| truncate_str(&line, width, "…").into_owned())
    };
    columns.iter().zip(texts).map(line).collect()
}

fn row(result: &SearchResult) -> Vec<String> {
    let segment = result.segment.clone().unwrap_or_default();
    vec![result.session_id.clone(), offset_text(segment.start), segment.speaker, segment.key]
}

/// The snippet; on a terminal its matches are bold.
fn marked(result: &SearchResult) -> String {
    let letters: Vec<char> = plain(&result.snippet).chars().collect();
    let mut text = String::new();
    let mut done = 0;
    for found in &result.matches {
        let place = |at: i32| usize::try_from(at).unwrap_or_default().clamp(done, letters.len());
        let (start, end) = (place(found.start), place(found.end));
        text.extend(&letters[done..start]);
        let found: String = letters[start..end.max(start)].iter().collect();
        text += &style(found).bold().to_string();
        done = end.max(start);
    }
    text.extend(&letters[done..]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Segment, SnippetMatch};

    #[test]
    fn a_result_is_a_line_with_its_snippet() {
        let result = |session_id: &str, snippet: &str, matches: &[(i32, i32)]| SearchResult {
            segment: Some(Segment { key: "1".into(), speaker: "Ada".into(), ..Default::default() }),
            session_id: session_id.into(),
            snippet: snippet.into(),
            matches: matches.iter().map(|(start, end)| SnippetMatch { start: *start, end: *end }).collect(),
            ..Default::default()
        };
        let results = [result("standup", "größe\nund", &[(0, 5), (6, 9)]), result("x", "ü", &[(0, 70), (-1, 0)])];
        console::set_colors_enabled(false);
        let expected = [
            "SESSION  START  SPEAKER  KEY  TEXT",
            "standup         Ada      1    größe und",
            "x               Ada      1    ü",
        ];
        assert_eq!(lines(&results, None), expected);
        assert_eq!(lines(&results, Some(12))[1], "standup    …");
    }
}
