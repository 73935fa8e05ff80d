//! `interlock session export`: the texts of a session as a file.

mod target;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tonic::Status;

use self::target::ExportTarget;
use super::segment::StalenessFlag;
use crate::cli::client::ApiClient;
use crate::cli::failure::Failed;
use crate::cli::output::Output;
use crate::proto;

/// Time without a part after which an export is given up.
const SILENCE: Duration = Duration::from_secs(45);

/// The session, and the file.
#[derive(Debug, Args)]
pub(super) struct ExportCommand {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    /// Format of the file [default: by the name of --output-file, else json-lines with `--output json`, else webvtt].
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// Language, as a BCP 47 tag; `en` includes `en-GB` [default: that of each transcript, without translations].
    #[arg(long, value_name = "TAG", default_value = "", hide_default_value = true)]
    language: String,
    /// File to write; it appears when all of it is there [default: the standard output].
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    #[command(flatten)]
    staleness: StalenessFlag,
}

/// The formats of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    /// WebVTT subtitles.
    Webvtt = 1,
    /// SubRip subtitles.
    Srt = 2,
    /// A line for each segment, with its speaker.
    Text = 3,
    /// A JSON object for each segment.
    JsonLines = 4,
}

impl ExportCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let request = proto::ExportTimelineRequest {
            format: self.format(output) as i32,
            session_id: self.session_id,
            language: self.language,
            max_staleness: self.staleness.max_staleness,
        };
        let mut stream = client.answer(client.timelines().export_timeline(client.open(request))).await?;
        let failed = |status: &Status| Failed::call(&client.server, status);
        let mut target = ExportTarget::open(self.output_file)?;
        loop {
            let part = tokio::time::timeout(SILENCE, stream.message()).await;
            let part = part.map_err(|_| failed(&Status::unavailable("no answer in time")))?;
            let Some(part) = part.map_err(|status| failed(&status))? else { break };
            target.write(&part.data)?;
        }
        target.finish()
    }

    fn format(&self, output: Output) -> FileFormat {
        let extension = self.output_file.as_ref().and_then(|path| path.extension()).and_then(|name| name.to_str());
        let by_name = match extension {
            Some("vtt") => Some(FileFormat::Webvtt),
            Some("srt") => Some(FileFormat::Srt),
            Some("txt") => Some(FileFormat::Text),
            Some("jsonl" | "ndjson") => Some(FileFormat::JsonLines),
            _ => None,
        };
        let usual = if output == Output::Json { FileFormat::JsonLines } else { FileFormat::Webvtt };
        self.format.or(by_name).unwrap_or(usual)
    }
}
