//! The reason why no connection to the database was made: with hosts for the log, without them as an error for callers.

use std::fmt;

use super::connection::{DbError, Explained};
use super::tls;
use crate::error::Error;

/// Why no connection was made.
#[derive(Debug)]
pub enum NoConnection {
    /// Every host failed: its name and error, in the order of the failures.
    Failed(Vec<(String, DbError)>),
    /// The hosts that responded accept no writes.
    ReadOnly {
        /// The names of these hosts.
        hosts: Vec<String>,
    },
    /// The connection goes through a pooler that the server cannot work with.
    Pooled {
        /// The name of the host.
        host: String,
        /// What is wrong, and what to do.
        fault: &'static str,
    },
    /// No host answered in time.
    TimedOut,
}

impl NoConnection {
    /// The reason, given the error of each host.
    pub(in crate::store) fn of(failures: Vec<(String, DbError)>) -> Self {
        let read_only = failures.iter().filter(|(_, error)| is_read_only(error));
        let hosts: Vec<String> = read_only.map(|(host, _)| host.clone()).collect();
        if hosts.is_empty() { Self::Failed(failures) } else { Self::ReadOnly { hosts } }
    }

    /// Whether a host returned an error, as opposed to no response.
    pub(in crate::store) fn is_refusal(&self) -> bool {
        match self {
            Self::Failed(failures) => {
                failures.iter().any(|(_, error)| error.code().is_some() || tls::is_refusal(error))
            }
            Self::ReadOnly { .. } | Self::Pooled { .. } => true,
            Self::TimedOut => false,
        }
    }
}

/// Whether the driver skipped a host because it accepts no writes.
fn is_read_only(error: &DbError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    // Errors of the operating system have a number.
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied && cause.raw_os_error().is_none())
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failures) => {
                for (place, (host, error)) in failures.iter().enumerate() {
                    write!(f, "{}{host}: {}", if place > 0 { "; " } else { "" }, Explained(error))?;
                    if let Some(advice) = tls::advice(error) {
                        write!(f, " ({advice})")?;
                    }
                }
                Ok(())
            }
            Self::ReadOnly { hosts } => write!(f, "the database takes no writes at {}", hosts.join(", ")),
            Self::Pooled { host, fault } => write!(f, "the database at {host} {fault}"),
            Self::TimedOut => f.write_str("no host answered in time"),
        }
    }
}

impl std::error::Error for NoConnection {}

impl From<NoConnection> for Error {
    fn from(none: NoConnection) -> Self {
        match none {
            NoConnection::ReadOnly { .. } => Self::StoreReadOnly,
            NoConnection::Failed(_) | NoConnection::Pooled { .. } | NoConnection::TimedOut => Self::StoreUnavailable,
        }
    }
}
