//! The only mapping from [`Error`] to a gRPC status.
//!
//! **Invariants.** Every status carries `ErrorInfo` with our domain, a reason and the `outcome`. All text is cut to what
//! fits into trailers, since many clients drop a call whose trailers exceed 8 KiB. `RetryInfo` and the pushback trailer
//! are there exactly where the same call can succeed later without a risk of being applied twice.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt, pb};

use crate::domain::current::ComparedState;
use crate::domain::refusal::Refusal;
use crate::error::{Error, WriteOutcome};
use crate::figures::door::REASON_HEADER;
use crate::rpc::convert::current;
use crate::rpc::convert::path::beginning;

/// The domain of all our reasons.
pub const DOMAIN: &str = "interlock";
/// Trailer with the time that a client's own retries have to wait, in milliseconds; −1 forbids them.
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The wait after a conflict with other writers: they are done within a few commits.
const CONFLICT_WAIT: Duration = Duration::from_millis(100);
/// The wait while a server or its database comes back.
const OUTAGE_WAIT: Duration = Duration::from_secs(1);
/// The longest message, in bytes. Not ASCII, it is up to three times as long in the trailer.
const MESSAGE_BYTES: usize = 768;
/// The longest value of metadata and the longest field path, in bytes.
const VALUE_BYTES: usize = 256;

/// The reason of an error, for programs. The names are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the protos document each")]
pub enum Reason {
    InvalidField,
    RequestIdReused,
    JobNotFound,
    RecordNotFound,
    SessionNotFound,
    SessionAlreadyExists,
    SegmentNotFound,
    StageNotFound,
    NamespaceNotFound,
    RoleDenied,
    KeyNotFound,
    KeyAlreadyExists,
    JobAlreadyExists,
    StageAlreadyExists,
    NamespaceAlreadyExists,
    NamespaceNotEmpty,
    VersionInFuture,
    StreamLimit,
    VersionMismatch,
    WrongType,
    LimitExceeded,
    Conflict,
    LeaseLost,
    PermitLost,
    PermitDenied,
    ResourceNotFound,
    ResourceInUse,
    InvalidTransition,
    Overloaded,
    DeadlineExceeded,
    StoreUnavailable,
    Draining,
    OutcomeUnknown,
    Internal,
}

impl Reason {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidField => "INVALID_FIELD",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::JobNotFound => "JOB_NOT_FOUND",
            Self::RecordNotFound => "RECORD_NOT_FOUND",
            Self::SessionNotFound => "SESSION_NOT_FOUND",
            Self::SessionAlreadyExists => "SESSION_ALREADY_EXISTS",
            Self::SegmentNotFound => "SEGMENT_NOT_FOUND",
            Self::StageNotFound => "STAGE_NOT_FOUND",
            Self::NamespaceNotFound => "NAMESPACE_NOT_FOUND",
            Self::RoleDenied => "ROLE_DENIED",
            Self::KeyNotFound => "KEY_NOT_FOUND",
            Self::KeyAlreadyExists => "KEY_ALREADY_EXISTS",
            Self::JobAlreadyExists => "JOB_ALREADY_EXISTS",
            Self::StageAlreadyExists => "STAGE_ALREADY_EXISTS",
            Self::NamespaceAlreadyExists => "NAMESPACE_ALREADY_EXISTS",
            Self::NamespaceNotEmpty => "NAMESPACE_NOT_EMPTY",
            Self::VersionInFuture => "VERSION_IN_FUTURE",
            Self::StreamLimit => "STREAM_LIMIT",
            Self::VersionMismatch => "VERSION_MISMATCH",
            Self::WrongType => "WRONG_TYPE",
            Self::LimitExceeded => "LIMIT_EXCEEDED",
            Self::Conflict => "CONFLICT",
            Self::LeaseLost => "LEASE_LOST",
            Self::PermitLost => "PERMIT_LOST",
            Self::PermitDenied => "PERMIT_DENIED",
            Self::ResourceNotFound => "RESOURCE_NOT_FOUND",
            Self::ResourceInUse => "RESOURCE_IN_USE",
            Self::InvalidTransition => "INVALID_TRANSITION",
            Self::Overloaded => "OVERLOADED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::Draining => "DRAINING",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::Internal => "INTERNAL",
        }
    }
}

/// What the automatic retries of a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// No retry information: the code alone decides.
    Unspecified,
    /// The same call can succeed after this time.
    After(Duration),
    /// Retry only if the call carried a `request_id`.
    Forbidden,
}

/// The parts of a status.
struct StatusBuilder {
    code: Code,
    reason: Reason,
    outcome: WriteOutcome,
    retry: Retry,
    metadata: Vec<(&'static str, String)>,
    violation: Option<(String, String)>,
}

impl StatusBuilder {
    /// The status of a call that changed nothing, and that the same call would get again.
    fn refused(code: Code, reason: Reason) -> Self {
        let (retry, outcome) = (Retry::Unspecified, WriteOutcome::NotApplied);
        Self { code, reason, outcome, retry, metadata: Vec::new(), violation: None }
    }

    /// The status of a call that changed nothing and can succeed when it is repeated after `wait`.
    fn retry_after(code: Code, reason: Reason, wait: Duration) -> Self {
        Self { retry: Retry::After(wait), ..Self::refused(code, reason) }
    }

    fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// Adds the path of a field whose value is valid, but not in the current state.
    fn because_of(self, path: &str, why: &str) -> Self {
        Self { violation: Some((path.to_owned(), why.to_owned())), ..self }.with("path", path)
    }

    /// The same status as that of one of several items; field paths start with `path`.
    fn within(mut self, index: usize, path: &str) -> Self {
        if let Some((inner, _)) = &mut self.violation {
            *inner = if inner.is_empty() { path.to_owned() } else { format!("{path}.{inner}") };
        }
        let whole = self.violation.as_ref().map_or(path, |(whole, _)| whole).to_owned();
        self.metadata.retain(|(key, _)| *key != "path");
        for (key, value) in &mut self.metadata {
            if *key == "field" && self.reason == Reason::InvalidField {
                value.clone_from(&whole);
            }
        }
        self.with("path", whole).with("index", index)
    }

    fn field(path: &str, why: &str) -> Self {
        let violation = Some((path.to_owned(), why.to_owned()));
        Self { violation, ..Self::refused(Code::InvalidArgument, Reason::InvalidField) }.with("field", path)
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::Refused(refusal) => Self::of_refusal(refusal),
            Error::Conflict => Self::retry_after(Code::Aborted, Reason::Conflict, CONFLICT_WAIT),
            Error::Overloaded { retry_after, .. } => {
                Self::retry_after(Code::ResourceExhausted, Reason::Overloaded, *retry_after)
            }
            Error::DeadlineExceeded(outcome) => {
                Self { outcome: *outcome, ..Self::refused(Code::DeadlineExceeded, Reason::DeadlineExceeded) }
            }
            Error::StoreUnavailable | Error::StoreReadOnly => {
                Self::retry_after(Code::Unavailable, Reason::StoreUnavailable, OUTAGE_WAIT)
            }
            Error::Draining => Self::retry_after(Code::Unavailable, Reason::Draining, OUTAGE_WAIT),
            // UNAVAILABLE is what clients repeat by themselves, and without a request_id that could apply it twice.
            Error::OutcomeUnknown => Self {
                outcome: WriteOutcome::Unknown,
                retry: Retry::Forbidden,
                ..Self::refused(Code::Unavailable, Reason::OutcomeUnknown)
            },
            Error::InvalidCursor { path, why } => Self::field(path, why),
            // Where a bug struck is not known here, so neither is whether it was before the commit.
            Error::Bug { id } => {
                Self { outcome: WriteOutcome::Unknown, ..Self::refused(Code::Internal, Reason::Internal) }
                    .with("error_id", id)
            }
        }
    }

    /// Something that does not exist, with its name.
    fn absent(reason: Reason, key: &'static str, name: &impl ToString) -> Self {
        Self::refused(Code::NotFound, reason).with(key, name.to_string())
    }

    /// Something that exists already, with its name.
    fn existing(reason: Reason, key: &'static str, name: &impl ToString) -> Self {
        Self::refused(Code::AlreadyExists, reason).with(key, name.to_string())
    }

    fn of_refusal(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::InvalidField { path, why } => Self::field(path, why),
            Refusal::JobNotFound { job_id } => Self::absent(Reason::JobNotFound, "job_id", job_id),
            Refusal::RecordNotFound { collection, record_id } => Self::refused(Code::NotFound, Reason::RecordNotFound)
                .with("collection", collection)
                .with("record_id", record_id),
            Refusal::SessionNotFound { session_id } => Self::absent(Reason::SessionNotFound, "session_id", session_id),
            Refusal::SessionAlreadyExists { session_id, .. } => {
                Self::existing(Reason::SessionAlreadyExists, "session_id", session_id)
            }
            Refusal::SegmentNotFound { session_id, key } => {
                Self::refused(Code::NotFound, Reason::SegmentNotFound).with("session_id", session_id).with("key", key)
            }
            Refusal::FieldVersionMismatch { path, field, expected, actual } => {
                Self::refused(Code::Aborted, Reason::VersionMismatch)
                    .because_of(path, &refusal.to_string())
                    .with("field", field)
                    .with("expected", expected)
                    .with("actual", actual)
            }
            Refusal::WrongType { path, field, needs, is } => Self::refused(Code::FailedPrecondition, Reason::WrongType)
                .because_of(path, &format!("the field is {is}, the operation needs {needs}"))
                .with("field", field)
                .with("expected", needs)
                .with("actual", is),
            Refusal::LimitExceeded { path, why } => {
                Self::refused(Code::FailedPrecondition, Reason::LimitExceeded).because_of(path, why)
            }
            Refusal::At { index, path, refusal } => Self::of_refusal(refusal).within(*index, path),
            Refusal::WithCurrent { refusal, .. } => Self::of_refusal(refusal),
            Refusal::StageNotFound { job_id, stage_name } => Self::refused(Code::NotFound, Reason::StageNotFound)
                .with("job_id", job_id)
                .with("stage_name", stage_name),
            Refusal::NamespaceNotFound { name } => Self::absent(Reason::NamespaceNotFound, "namespace", name),
            Refusal::JobAlreadyExists { job_id } => Self::existing(Reason::JobAlreadyExists, "job_id", job_id),
            Refusal::StageAlreadyExists { stage_name } => {
                Self::existing(Reason::StageAlreadyExists, "stage_name", stage_name)
            }
            Refusal::NamespaceAlreadyExists { name } => {
                Self::existing(Reason::NamespaceAlreadyExists, "namespace", name)
            }
            Refusal::NamespaceInUse { name, .. } => {
                Self::refused(Code::FailedPrecondition, Reason::NamespaceNotEmpty).with("namespace", name)
            }
            Refusal::RoleDenied { principal, roles, .. } => Self::refused(Code::PermissionDenied, Reason::RoleDenied)
                .with("principal", principal)
                .with("roles", roles),
            Refusal::KeyNotFound { key_id } => Self::absent(Reason::KeyNotFound, "key_id", key_id),
            Refusal::KeyAlreadyExists { .. } => Self::refused(Code::AlreadyExists, Reason::KeyAlreadyExists),
            Refusal::TooManyKeys { limit } => {
                Self::refused(Code::FailedPrecondition, Reason::LimitExceeded).with("limit", limit)
            }
            Refusal::RevisionInFuture { from, actual } => Self::refused(Code::OutOfRange, Reason::VersionInFuture)
                .with("from_version", from)
                .with("actual", actual),
            Refusal::TooManyWatched { limit } => {
                Self::refused(Code::ResourceExhausted, Reason::StreamLimit).with("limit", limit)
            }
            Refusal::VersionMismatch { expected, actual } => {
                Self::refused(Code::Aborted, Reason::VersionMismatch).with("expected", expected).with("actual", actual)
            }
            Refusal::LeaseLost => Self::refused(Code::FailedPrecondition, Reason::LeaseLost),
            Refusal::PermitLost => Self::refused(Code::FailedPrecondition, Reason::PermitLost),
            Refusal::PermitDenied { stage_name, resource, reason, retry_after } => {
                let (code, why) = (Code::FailedPrecondition, Reason::PermitDenied);
                let answer =
                    retry_after.map_or_else(|| Self::refused(code, why), |wait| Self::retry_after(code, why, wait));
                answer.with("stage_name", stage_name).with("resource", resource).with("blocked_by", reason)
            }
            Refusal::ResourceNotFound { name } => Self::absent(Reason::ResourceNotFound, "resource", name),
            Refusal::ResourceInUse { name } => {
                Self::refused(Code::FailedPrecondition, Reason::ResourceInUse).with("resource", name)
            }
            Refusal::InvalidTransition { state, .. } => {
                Self::refused(Code::FailedPrecondition, Reason::InvalidTransition).with("state", state)
            }
            Refusal::RequestIdReused => {
                let why = "was used before with other content or for another rpc: use a new UUID for a new request"
                    .to_owned();
                let violation = Some(("request_id".to_owned(), why));
                Self { violation, ..Self::refused(Code::InvalidArgument, Reason::RequestIdReused) }
            }
        }
    }

    fn details(&self) -> ErrorDetails {
        let outcome = match self.outcome {
            WriteOutcome::NotApplied => "NOT_APPLIED",
            WriteOutcome::Unknown => "UNKNOWN",
        };
        let mut metadata = HashMap::from([("outcome".to_owned(), outcome.to_owned())]);
        metadata.extend(self.metadata.iter().map(|(key, value)| ((*key).to_owned(), cut(value, VALUE_BYTES))));
        let mut details = ErrorDetails::with_error_info(self.reason.name(), DOMAIN, metadata);
        if let Some((path, why)) = &self.violation {
            details.add_bad_request_violation(cut(path, VALUE_BYTES), cut(why, MESSAGE_BYTES));
        }
        if let Retry::After(wait) = self.retry {
            details.set_retry_info(Some(wait));
        }
        details
    }

    fn trailers(&self) -> MetadataMap {
        let mut trailers = MetadataMap::new();
        trailers.insert(REASON_HEADER, MetadataValue::from_static(self.reason.name()));
        let pushback = match self.retry {
            Retry::Unspecified => return trailers,
            Retry::After(wait) => i64::try_from(wait.as_millis()).unwrap_or(i64::MAX),
            Retry::Forbidden => -1,
        };
        trailers.insert(PUSHBACK, MetadataValue::from(pushback));
        trailers
    }
}

/// The status of an error.
pub fn status(error: &Error) -> Status {
    let answer = StatusBuilder::of(error);
    let message = cut(&error.to_string(), MESSAGE_BYTES);
    let status = Status::with_error_details_and_metadata(answer.code, message, answer.details(), answer.trailers());
    match error {
        Error::Refused(refusal) => with_current(status, refusal),
        _ => status,
    }
}

/// The status with the current state as one more detail, where the refusal has it.
fn with_current(status: Status, refusal: &Refusal) -> Status {
    let current = match refusal {
        Refusal::At { refusal, .. } => return with_current(status, refusal),
        Refusal::WithCurrent { current, .. } => current,
        _ => return status,
    };
    let Some(current) = current.get::<ComparedState>() else { return status };
    let (Ok(detail), Ok(mut message)) = (current::detail(current), pb::Status::decode(status.details())) else {
        return status;
    };
    message.details.push(detail);
    let details = message.encode_to_vec().into();
    Status::with_details_and_metadata(status.code(), status.message(), details, status.metadata().clone())
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status(&error)
    }
}

/// The beginning of a text, at most `bytes` long, with a sign that something is missing.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}…", beginning(text, bytes - '…'.len_utf8()))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
