//! `interlock session`: the commands about sessions and their timelines.

mod append;
mod cache;
mod captions;
mod change;
mod correct;
mod export;
mod import;
mod list;
mod offset;
mod search;
mod segment;
mod statistics;
mod timeline;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::Connection;
use super::failure::EXIT_CODES;

/// Create, show, fill, search, export and watch sessions and their timelines.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct SessionCommand {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List sessions, the newest first.
    List(list::SessionList),
    /// Show a session, or one of its segments.
    Get(list::SessionOrSegment),
    /// Create a session.
    Create(change::SessionCreation),
    /// Change the title, the labels or the retention of a session.
    Update(change::SessionChange),
    /// End a session: segments are no longer appended to it.
    End(change::EndedSession),
    /// Delete a session with its segments.
    Delete(change::EndedSession),
    /// Show the segments of a session in order of time.
    Timeline(timeline::TimelineRange),
    /// Append segments to a session, all or none; creates the session if it does not exist.
    Append(Box<append::AppendCommand>),
    /// Import segments from a file of JSON lines, each for itself; importing again changes nothing.
    Import(import::ImportCommand),
    /// Correct a segment, also a final one.
    Correct(Box<correct::CorrectCommand>),
    /// Delete a segment; its key is not used again.
    DeleteSegment(correct::DeletedSegment),
    /// Search the texts of all sessions, or of those that match a filter.
    Search(search::SearchCommand),
    /// Export the final texts of one language as subtitles, text or JSON lines.
    Export(export::ExportCommand),
    /// Show segments, words and time spoken by speaker, and segments by language and kind.
    Statistics(statistics::StatisticsCommand),
    /// Remove the segments of a session from the cache of the server that answers; needs the role `operate`.
    ClearCache(cache::CachedSession),
    /// Watch a session to its end: its segments, then each change.
    Watch(watch::WatchedSession),
}

impl SessionCommand {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let (client, output) = (self.connection.client()?, self.connection.output);
        match self.verb {
            Verb::List(verb) => verb.run(&client, output).await?,
            Verb::Get(verb) => verb.run(&client, output).await?,
            Verb::Create(verb) => verb.run(&client, output).await?,
            Verb::Update(verb) => verb.run(&client, output).await?,
            Verb::End(verb) => verb.end(&client, output).await?,
            Verb::Delete(verb) => verb.delete(&client, output).await?,
            Verb::Timeline(verb) => verb.run(&client, output).await?,
            Verb::Append(verb) => verb.run(&client, output).await?,
            Verb::Import(verb) => verb.run(&client, output).await?,
            Verb::Correct(verb) => verb.run(&client, output).await?,
            Verb::DeleteSegment(verb) => verb.run(&client, output).await?,
            Verb::Search(verb) => verb.run(&client, output).await?,
            Verb::Export(verb) => verb.run(&client, output).await?,
            Verb::Statistics(verb) => verb.run(&client, output).await?,
            Verb::ClearCache(verb) => verb.clear(&client, output).await?,
            Verb::Watch(verb) => verb.run(&client, output).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
