//! Failures: classes, reports of workers, and what the server records.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::retry::RetryBudget;
use super::time::Timestamp;

/// Class of a failure, by which the retry policy decides. Numbers are those of the wire and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureClass {
    /// The called service failed (HTTP 5xx).
    ServerError = 1,
    /// The called service asked to slow down (HTTP 429).
    RateLimited = 2,
    /// The called service was not reached.
    Network = 3,
    /// The call was invalid (HTTP 4xx); repeating it fails again.
    ClientError = 4,
    /// The attempt or the call took too long.
    Timeout = 5,
    /// The attempt was cancelled.
    Cancelled = 6,
    /// A defect of the worker itself.
    Internal = 7,
    /// The lease expired without a heartbeat. Set by the server only.
    LeaseExpired = 8,
}

impl FailureClass {
    /// All classes, in the order of their numbers.
    pub const ALL: [FailureClass; 8] = [
        Self::ServerError,
        Self::RateLimited,
        Self::Network,
        Self::ClientError,
        Self::Timeout,
        Self::Cancelled,
        Self::Internal,
        Self::LeaseExpired,
    ];

    /// The class with this number. `None`: there is no such class.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as i32 == number)
    }
}

/// A failure as a worker reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureReport {
    /// Class of the failure.
    pub class: FailureClass,
    /// Error code of the called service or of the worker. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Description for people. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Wait that the called service asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
    /// Further details, as the text of a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// A recorded failure: the report, and what the server decided on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Report of the worker, or of the server if the worker sent none.
    #[serde(flatten)]
    pub report: FailureReport,
    /// Name of the stage. Empty: the failure is of the job as a whole.
    pub stage_name: String,
    /// Attempt that failed, from 1; 0 for a failure of the job as a whole.
    pub attempt: u32,
    /// Attempts that the policy allowed in total at that time.
    pub max_attempts: u32,
    /// Budget that the failure counts against. `None`: it is not of an attempt, or a server wrote it that had no budgets yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudget>,
    /// Wait before the next attempt. `None`: there is no further attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_wait: Option<Duration>,
    /// Time of the record; stored as microseconds since 1970.
    #[serde(with = "micros")]
    pub failure_time: Timestamp,
}

mod micros {
    use super::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(at.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp)
    }
}
