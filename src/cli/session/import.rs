//! `interlock session import`: segments from a file of JSON lines.

mod source;

use clap::Args;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use self::source::{SegmentSource, SourceEnd};
use crate::cli::client::ApiClient;
use crate::cli::failure::{Failed, error_line};
use crate::cli::output::{Output, print};
use crate::cli::text::{count, note};
use crate::proto::{ImportFault, ImportSegmentsResponse};

/// The session and the file.
#[derive(Debug, Args)]
pub(super) struct ImportCommand {
    /// Id of the session.
    #[arg(value_name = "SESSION")]
    session_id: String,
    /// File with a JSON object with the fields of Segment in each line, such as
    /// `{"key":"1","kind":"SEGMENT_KIND_TRANSCRIPT","start":"1.5s","text":"Good morning"}`, or `-` for the standard input. A file of `session
    /// export --format json-lines` is one.
    #[arg(value_name = "FILE")]
    file: String,
    /// Refuse if the session does not exist [default: create it].
    #[arg(long)]
    existing: bool,
}

impl ImportCommand {
    pub(super) async fn run(self, client: &ApiClient, output: Output) -> anyhow::Result<()> {
        let source = SegmentSource::open(&self.file, self.session_id.clone(), !self.existing)?;
        // One message is on its way while the next one is read.
        let (sender, receiver) = mpsc::channel(1);
        let reading = tokio::task::spawn_blocking(move || source.send(&sender));
        let request = client.open(ReceiverStream::new(receiver));
        let answer = client.timelines().import_segments(request).await.map_err(|status| failed(client, &status))?;
        let answer = answer.into_inner();
        let end = reading.await?;
        for fault in &answer.faults {
            note(fault_line(client, fault, &end));
        }
        print(output, &answer, |answer| vec![format!("{}  {}", self.session_id, counts(answer))])?;
        outcome(&answer, end).map_err(Into::into)
    }
}

fn failed(client: &ApiClient, status: &Status) -> Failed {
    let failed = Failed::call(&client.server, status);
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal | Code::DeadlineExceeded => {
            failed.advise("a part may be stored, and it is safe to import it again")
        }
        _ => failed,
    }
}

/// A segment that the server refused, by its line in the file.
fn fault_line(client: &ApiClient, fault: &ImportFault, end: &SourceEnd) -> String {
    let line = usize::try_from(fault.index).ok().and_then(|index| end.lines.line_of(index)).unwrap_or_default();
    let status = fault.status.clone().unwrap_or_default();
    let (code, details) = (Code::from(status.code), status.encode_to_vec());
    let status = Status::with_details(code, status.message, details.into());
    format!("line {line}: segment {:?}: {}", fault.key, error_line(&client.server, &status))
}

fn counts(answer: &ImportSegmentsResponse) -> String {
    let refused = if answer.failed_count > 0 { format!(", {} refused", answer.failed_count) } else { String::new() };
    format!("{} stored, {} unchanged{refused}", answer.applied_count, answer.unchanged_count)
}

/// How an import ended that the server has answered.
fn outcome(answer: &ImportSegmentsResponse, end: SourceEnd) -> Result<(), Failed> {
    if let Some(broken) = end.broken {
        return Err(broken);
    }
    let refused = usize::try_from(answer.failed_count).unwrap_or_default();
    if refused > 0 {
        let rest = if end.invalid > 0 { format!(", {} invalid", count(end.invalid, "line")) } else { String::new() };
        return Err(Failed::refused(format!("{} refused{rest}", count(refused, "segment"))));
    }
    if end.invalid > 0 {
        return Err(Failed::usage(format!("{} invalid, the others were imported", count(end.invalid, "line"))));
    }
    Ok(())
}
