//! The two output formats of all commands.

use clap::ValueEnum;
use prost::Name;

use super::json;
use super::text::say;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines and aligned columns, for people.
    #[value(alias = "table")]
    Text,
    /// One JSON object per line, for programs.
    Json,
}

/// Prints a message: as one line of protobuf JSON, or as the lines that `lines` makes of it.
///
/// # Errors
/// If the output cannot be written.
pub fn print<T: Name>(output: Output, message: &T, lines: impl FnOnce(&T) -> Vec<String>) -> anyhow::Result<()> {
    match output {
        Output::Json => say(json::text(message)?)?,
        Output::Text => lines(message).iter().try_for_each(say)?,
    }
    Ok(())
}
