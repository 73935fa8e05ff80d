//! Why an attempt did not succeed.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::retry::Budget;
use super::time::Timestamp;

/// What kind of failure it was; the retry policy decides by it. The numbers are those of the wire and of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureClass {
    /// The called service failed (HTTP 5xx).
    ServerError = 1,
    /// The called service asked to slow down (HTTP 429).
    RateLimited = 2,
    /// The call did not get through.
    Network = 3,
    /// The call was wrong (HTTP 4xx); the same call will be wrong again.
    ClientError = 4,
    /// It took too long.
    Timeout = 5,
    /// Somebody decided that it shall stop.
    Cancelled = 6,
    /// A fault in the worker itself.
    Internal = 7,
    /// The holder fell silent. Only the server says this.
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

    /// The class of a number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as i32 == number)
    }
}

/// A failure as a worker reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureReport {
    /// What kind of failure.
    pub class: FailureClass,
    /// The vendor's or worker's own code.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// For a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How long the vendor asked to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
    /// Anything else, as the text of a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// A recorded failure: the report, and what the server made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What the worker said, or the server about a silent one.
    #[serde(flatten)]
    pub report: FailureReport,
    /// The stage that failed.
    pub stage_name: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// How many attempts the policy allowed in all, as things stood then.
    pub max_attempts: u32,
    /// The budget it counts against; `None` where it is not of an attempt, or older than budgets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The wait before the next attempt; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_wait: Option<Duration>,
    /// When it was recorded, microseconds since 1970.
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
