//! States of a stage by name and number.

use serde::{Deserialize, Serialize};

/// State of a stage without its data. Numbers are those of the wire and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "they are those of StageState")]
pub enum StagePhase {
    Blocked = 1,
    Ready = 2,
    Running = 3,
    Backoff = 4,
    Succeeded = 5,
    Failed = 6,
    Cancelled = 7,
    Skipped = 8,
}

impl StagePhase {
    /// All, in the order of their numbers.
    pub const ALL: [StagePhase; 8] = [
        Self::Blocked,
        Self::Ready,
        Self::Running,
        Self::Backoff,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// The phase of a number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| *phase as i32 == number)
    }

    /// The name on the wire without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocked => "BLOCKED",
            Self::Ready => "READY",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Skipped => "SKIPPED",
        }
    }

    /// Whether nothing more happens to the stage within the run.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Skipped)
    }
}
