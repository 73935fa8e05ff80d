//! The error type of the crate below the rpc layer: why a call failed.
//! `rpc::status` maps it to a gRPC status; nothing else does.

use std::time::Duration;

use thiserror::Error;

use crate::domain::refusal::Refusal;

/// Whether a write that failed can have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The write was not applied and will not be.
    NotApplied,
    /// The write may have been applied; a retry with the same `request_id` finds out.
    Unknown,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Error {
    /// The operation was refused; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Every attempt lost to a concurrent write.
    #[error("other writers changed the same rows each time")]
    Conflict,
    /// A bounded queue is full, or the wait in it timed out.
    #[error("the server is overloaded: {why}")]
    Overloaded {
        /// The bound that was reached.
        why: &'static str,
        /// Delay after which a retry makes sense.
        retry_after: Duration,
    },
    /// The deadline of the call passed.
    #[error("the deadline passed")]
    DeadlineExceeded(WriteOutcome),
    /// The database cannot be reached or refuses connections; nothing was committed.
    #[error("the database is not available")]
    StoreUnavailable,
    /// The database accepts no writes, like a standby; nothing was committed.
    #[error("the database takes no writes")]
    StoreReadOnly,
    /// The server drains and accepts no new work.
    #[error("the server is draining")]
    Draining,
    /// The connection was lost during a commit, and the outcome is unknown.
    #[error("the outcome of the write is not known")]
    OutcomeUnknown,
    /// A page token that is invalid or belongs to another query.
    #[error("{path}: {why}")]
    InvalidCursor {
        /// Path of the field.
        path: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A bug in the server; the log has details under this id.
    #[error("internal error {id}")]
    Bug {
        /// Opaque id, also in the log.
        id: uuid::Uuid,
    },
}

impl Error {
    /// Logs a bug of the server under a new id that the caller can quote.
    pub fn bug(what: impl std::fmt::Display) -> Self {
        let id = uuid::Uuid::new_v4();
        tracing::error!(%id, %what, "internal error");
        Self::Bug { id }
    }
}

/// The error for a caller whose write was committed when something after it failed. Errors that say that nothing was applied become
/// [`Error::OutcomeUnknown`].
pub fn after_commit(error: Error) -> Error {
    match error {
        Error::StoreUnavailable
        | Error::StoreReadOnly
        | Error::Overloaded { .. }
        | Error::Conflict
        | Error::Draining => Error::OutcomeUnknown,
        Error::Refused(_)
        | Error::DeadlineExceeded(_)
        | Error::OutcomeUnknown
        | Error::InvalidCursor { .. }
        | Error::Bug { .. } => error,
    }
}

/// Result with the error of the crate.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_commit_no_error_says_that_nothing_was_applied() {
        assert_eq!(after_commit(Error::StoreUnavailable), Error::OutcomeUnknown);
        let refused = Error::Refused(Refusal::LeaseLost);
        assert_eq!(after_commit(refused.clone()), refused);
    }
}
