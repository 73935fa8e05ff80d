//! Text for people: tables, percentages, durations, and text from others without control characters.

use std::io::{self, Write};

use comfy_table::Table;
use console::{Term, truncate_str};
use prost_types::Timestamp;

use crate::proto::{JobState, StageState};

/// The standard output cannot be written: the disk is full, or the reader has closed the pipe.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to the standard output: {0}")]
pub struct OutputFault(pub io::Error);

/// Prints a line on the standard output. Unlike `println!` it does not panic if the reader has closed the pipe.
///
/// # Errors
/// If the output cannot be written.
pub fn say(line: impl AsRef<str>) -> Result<(), OutputFault> {
    writeln!(io::stdout().lock(), "{}", line.as_ref()).map_err(OutputFault)
}

/// Prints bytes on the standard output.
///
/// # Errors
/// If the output cannot be written.
pub fn say_bytes(data: &[u8]) -> Result<(), OutputFault> {
    io::stdout().lock().write_all(data).map_err(OutputFault)
}

/// Writes what is still buffered for the standard output.
///
/// # Errors
/// If the output cannot be written.
pub fn flush() -> Result<(), OutputFault> {
    io::stdout().lock().flush().map_err(OutputFault)
}

/// Prints the first lines of a server. It serves also if they cannot be written; then the standard error says so.
pub fn announce(text: impl AsRef<str>) {
    if let Err(fault) = say(text) {
        note(format!("warning: {fault}"));
    }
}

/// Prints a line on the standard error. Nothing happens if it is closed. Other tasks go on if it is a pipe that is full.
pub fn note(line: impl AsRef<str>) {
    tokio::task::block_in_place(|| {
        let _closed = writeln!(io::stderr().lock(), "{}", line.as_ref());
    });
}

/// Reads a duration of the command line, such as `90d` or `1h 30m`.
///
/// # Errors
/// If the text is no duration, or one that a message cannot hold.
pub fn duration(text: &str) -> Result<prost_types::Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    duration.try_into().map_err(|_| "more than 315,576,000,000 seconds".to_owned())
}

/// Replaces control characters, by which a message of a worker could control the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Whole percent, rounded down: 100 % only when done.
pub fn percent(progress: f64) -> String {
    format!("{:.0}%", (progress.clamp(0.0, 1.0) * 100.0).floor())
}

/// The state of a job without the prefix of the enum.
pub fn job_state(state: JobState) -> &'static str {
    let name = state.as_str_name();
    name.strip_prefix("JOB_STATE_").unwrap_or(name)
}

/// The state of a stage without the prefix of the enum.
pub fn stage_state(state: StageState) -> &'static str {
    let name = state.as_str_name();
    name.strip_prefix("STAGE_STATE_").unwrap_or(name)
}

/// RFC 3339 in whole seconds; empty for None.
pub fn time(time: Option<Timestamp>) -> String {
    time.map(|time| Timestamp { nanos: 0, ..time }.to_string()).unwrap_or_default()
}

/// A duration of a message in seconds.
pub fn seconds_of(duration: prost_types::Duration) -> f64 {
    duration.seconds as f64 + f64::from(duration.nanos) / 1e9
}

/// A line for each fact with its name, aligned; none for a fact that is empty.
pub fn facts(facts: impl IntoIterator<Item = (&'static str, String)>) -> Vec<String> {
    let facts: Vec<_> = facts.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(10) + 1;
    facts.into_iter().map(|(name, value)| format!("{name:<width$}{}", plain(&value))).collect()
}

/// The name of an enum's value without the prefix of the enum.
pub fn bare(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// A number with its noun, as `1 stage` and `2 stages`.
pub fn count(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// A count that ends at a bound, with `+` where there are more.
pub fn bounded(count: i32, is_capped: bool) -> String {
    format!("{count}{}", if is_capped { "+" } else { "" })
}

/// A duration in its largest units.
pub fn seconds(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

/// Width of the terminal. None: the output is no terminal, and lines are not truncated.
pub fn width() -> Option<usize> {
    let term = Term::stdout();
    term.is_term().then(|| usize::from(term.size().1))
}

/// The lines of a table with a header and without borders, truncated to `width`. None: not truncated.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>, width: Option<usize>) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(head.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let cut = |line: &str| width.map_or(line.to_owned(), |width| truncate_str(line, width, "…").into_owned());
    table.trim_fmt().lines().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_never_more_than_was_done() {
        assert_eq!([0.0, 0.999, 1.0, 7.0].map(percent), ["0%", "99%", "100%", "100%"]);
    }

    #[test]
    fn a_worker_cannot_steer_the_terminal() {
        let rows = [vec!["a".to_owned(), "\x1b[2Jred\nline".to_owned()]];
        assert_eq!(table(&["ID", "MESSAGE"], rows.clone(), None), ["ID  MESSAGE", "a    [2Jred line"]);
        assert_eq!(table(&["ID", "MESSAGE"], rows, Some(8)), ["ID  MES…", "a    [2…"]);
    }

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(time(Some(Timestamp { seconds: 1_700_000_000, nanos: 5 })), "2023-11-14T22:13:20Z");
        assert_eq!(time(None), "");
        assert_eq!([-1, 119, 120, 7_200].map(seconds), ["0 s", "119 s", "2 min", "2 h"]);
    }
}
