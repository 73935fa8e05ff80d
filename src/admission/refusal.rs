//! Builder of all errors that are made before a call reaches its service.

use std::collections::HashMap;
use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::Response;
use crate::figures::door::REASON_HEADER;

/// Domain of every `ErrorInfo`.
pub const DOMAIN: &str = "interlock";
/// Trailer with the retry delay for gRPC's own retry logic in clients.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Outcome of a refused write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The write was not applied and will not be.
    NotApplied,
    /// The write may have been applied; a retry with the same request_id finds out.
    Unknown,
}

/// An error under construction.
#[derive(Debug)]
#[must_use]
pub struct RefusalBuilder {
    code: Code,
    reason: &'static str,
    message: String,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
    never_retry: bool,
    violation: Option<(String, String)>,
}

/// Starts an error: status code, reason for programs, and a sentence for people.
pub fn refusal(code: Code, reason: &'static str, outcome: Outcome, message: impl Into<String>) -> RefusalBuilder {
    let outcome = match outcome {
        Outcome::NotApplied => "NOT_APPLIED",
        Outcome::Unknown => "UNKNOWN",
    };
    RefusalBuilder {
        code,
        reason,
        message: message.into(),
        metadata: HashMap::from([("outcome".to_owned(), outcome.to_owned())]),
        retry_after: None,
        never_retry: false,
        violation: None,
    }
}

impl RefusalBuilder {
    /// Adds an entry to the metadata of the `ErrorInfo`.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Names the field that is wrong by its path, and why. An empty path names none.
    pub fn at_field(mut self, path: &str, why: &str) -> Self {
        if path.is_empty() {
            return self;
        }
        self.violation = Some((path.to_owned(), why.to_owned()));
        self.with("field", path)
    }

    /// Sets the retry delay, in `RetryInfo` and in the trailer.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// States that the same call will never succeed.
    pub fn never_retry(mut self) -> Self {
        self.never_retry = true;
        self
    }

    /// Converts to a gRPC status.
    pub fn into_status(self) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(self.reason, DOMAIN, self.metadata);
        if let Some((path, why)) = self.violation {
            details.add_bad_request_violation(path, why);
        }
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        let mut status = Status::with_error_details(self.code, self.message, details);
        status.metadata_mut().insert(REASON_HEADER, MetadataValue::from_static(self.reason));
        if let Some(delay) = self.retry_after {
            // The delay is rounded up, so that a retry is not too early.
            let milliseconds = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            status.metadata_mut().insert(PUSHBACK, MetadataValue::from(milliseconds));
        } else if self.never_retry {
            status.metadata_mut().insert(PUSHBACK, MetadataValue::from(-1));
        }
        status
    }

    /// Converts to an HTTP response.
    pub fn into_response(self) -> Response {
        self.into_status().into_http()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_reason_outcome_and_retry() {
        let status = refusal(Code::ResourceExhausted, "OVERLOADED", Outcome::NotApplied, "full")
            .with("limit", "7")
            .retry_after(Duration::from_millis(1_500))
            .into_status();
        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("interlock", "OVERLOADED"));
        assert_eq!(info.metadata["outcome"], "NOT_APPLIED");
        assert_eq!(info.metadata["limit"], "7");
        let retry = details.retry_info().expect("a RetryInfo");
        assert_eq!(retry.retry_delay, Some(Duration::from_millis(1_500)));
        let pushback = status.metadata().get(PUSHBACK).expect("the trailer");
        assert_eq!(pushback.to_str().expect("digits"), "1500");
    }
}
