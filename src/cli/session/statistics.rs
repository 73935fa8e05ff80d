//! `interlock session statistics`: figures of a session.

use clap::Args;

use super::offset::offset_text;
use super::segment::{StalenessFlag, kind_text};
use crate::cli::client::ApiClient;
use crate::cli::output::{Output, print};
use crate::cli::text::{table, width};
use crate::proto::{GetSessionStatisticsRequest, GetSessionStatisticsResponse};

/// Name of a speaker or language that is not known.
const UNKNOWN: &str = "(not known)";

/// The session.
#[derive(Debug, Args)]
pub(super) struct StatisticsCommand {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    #[command(flatten)]
    staleness: StalenessFlag,
}

impl StatisticsCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request =
            GetSessionStatisticsRequest { session_id: self.session_id, max_staleness: self.staleness.max_staleness };
        let answer = client.answer(client.timelines().get_session_statistics(client.ask(request))).await?;
        print(output, &answer, lines)
    }
}

fn lines(answer: &GetSessionStatisticsResponse) -> Vec<String> {
    let name = |name: &String| if name.is_empty() { UNKNOWN.to_owned() } else { name.clone() };
    let others = |count: i64| (count > 0).then(|| vec!["(others)".to_owned(), count.to_string()]);
    let speakers = answer.speakers.iter().map(|of| {
        let numbers = [of.segment_count, of.word_count].map(|number| number.to_string());
        let untimed = if of.untimed_count == 0 { String::new() } else { of.untimed_count.to_string() };
        [vec![name(&of.speaker)], numbers.to_vec(), vec![offset_text(of.spoken), untimed]].concat()
    });
    let languages = answer
        .languages
        .iter()
        .map(|of| vec![name(&of.language), of.segment_count.to_string(), of.word_count.to_string()]);
    let kinds = answer
        .kinds
        .iter()
        .map(|of| vec![kind_text(of.kind()).to_owned(), of.segment_count.to_string(), of.interim_count.to_string()]);
    let speakers = speakers.chain(others(answer.other_speakers_segment_count)).collect();
    let languages = languages.chain(others(answer.other_languages_segment_count)).collect();
    let tables: [(&[&str], Vec<Vec<String>>); 3] = [
        (&["SPEAKER", "SEGMENTS", "WORDS", "SPOKEN", "UNTIMED"], speakers),
        (&["LANGUAGE", "SEGMENTS", "WORDS"], languages),
        (&["KIND", "SEGMENTS", "INTERIM"], kinds.collect()),
    ];
    let mut lines = Vec::new();
    for (head, rows) in tables.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(table(head, rows, width()));
    }
    if lines.is_empty() { vec!["no segments".to_owned()] } else { lines }
}
