//! `interlock commit`: several operations as one.

use std::process::ExitCode;

use clap::Args;

use super::client::Connection;
use super::document::{message, parse, text_of_file};
use super::failure::EXIT_CODES;
use super::output::print;
use super::text::{count, job_state, stage_state, table, width};
use super::write::RepeatFlag;
use crate::proto::{self, CommitResult};

/// Apply several operations in order, all or none.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct CommitCommand {
    #[command(flatten)]
    connection: Connection,
    /// File with a CommitRequest in protobuf JSON, such as
    /// `{"operations":[{"submitJob":{"kind":"review"}},{"updateRecord":{"collection":"films","recordId":"a","operations":[…]}}]}`; `-` for the
    /// standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: String,
    #[command(flatten)]
    repeat: RepeatFlag,
}

impl CommitCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client()?;
        let text = text_of_file("--file", &self.file)?;
        let mut request: proto::CommitRequest = message("--file", parse("--file", &text)?)?;
        // The document may have an id of its own.
        let request_id = request.request_id.get_or_insert_with(|| self.repeat.id()).clone();
        let answer = client.applied(&request_id, client.transactions().commit(client.ask(request))).await?;
        let head = ["OPERATION", "APPLIED", "VERSION", "RESULT"];
        let rows = |answer: &proto::CommitResponse| answer.results.iter().enumerate().map(row).collect::<Vec<_>>();
        print(self.connection.output, &answer, |answer| table(&head, rows(answer), width()))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn row((index, result): (usize, &CommitResult)) -> Vec<String> {
    let job = result.job.as_ref().map(|job| format!("job {} {}", job.job_id, job_state(job.state())));
    let stage = result.stage.as_ref().map(|stage| format!("stage {} {}", stage.name, stage_state(stage.state())));
    let record = result.record.as_ref().map(|record| format!("record {} {}", record.collection, record.record_id));
    let stored = result.segments.iter().filter(|segment| segment.applied).count();
    let segments = (!result.segments.is_empty())
        .then(|| format!("{stored} of {} stored", count(result.segments.len(), "segment")));
    vec![
        index.to_string(),
        if result.applied { "yes" } else { "no change" }.to_owned(),
        result.applied_version.to_string(),
        [job, stage, record, segments].into_iter().flatten().collect::<Vec<_>>().join(", "),
    ]
}
