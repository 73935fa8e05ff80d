//! The one error of the crate below the edge: why a call was not answered with what it asked for.
//! `rpc::status` maps it to a gRPC status; nothing else does.

use std::time::Duration;

use thiserror::Error;

use crate::domain::refusal::Refusal;

/// Whether a write that failed can have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Surely not.
    NotApplied,
    /// It may have been; the same `request_id` tells.
    Unknown,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Error {
    /// The decision said no; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Other writers were faster each time.
    #[error("other writers changed the same rows each time")]
    Conflict,
    /// A bounded queue is full, or the wait in it was too long.
    #[error("the server is overloaded: {why}")]
    Overloaded {
        /// Which bound was reached.
        why: &'static str,
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The caller's deadline passed.
    #[error("the deadline passed")]
    DeadlineExceeded(WriteOutcome),
    /// The database cannot be reached or refuses; nothing was committed.
    #[error("the database is not available")]
    StoreUnavailable,
    /// The database is there and takes no writes, as a standby does; nothing was committed.
    #[error("the database takes no writes")]
    StoreReadOnly,
    /// The server is going away and takes no new work.
    #[error("the server is draining")]
    Draining,
    /// The connection was lost during a commit and its outcome could not be found out.
    #[error("the outcome of the write is not known")]
    OutcomeUnknown,
    /// A page token that is none of ours, or of another query.
    #[error("{path}: {why}")]
    InvalidCursor {
        /// The field.
        path: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A fault in the server; what is known of it is in the log under this id.
    #[error("internal error {id}")]
    Bug {
        /// Opaque, also in the log.
        id: uuid::Uuid,
    },
}

impl Error {
    /// Logs a fault of ours and gives it an id that the caller may quote.
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

/// A result of the crate.
pub type Result<T> = std::result::Result<T, Error>;
