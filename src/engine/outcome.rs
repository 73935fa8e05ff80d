//! How the commit of a group ended.

use crate::error::Error;
use crate::figures::Sparse;
use crate::store::commit::{CommitError, Committed};
use crate::store::connection::Fault;

/// How the commit of a group ended.
pub enum CommitOutcome {
    /// Some components were applied, or proved where they write nothing.
    Applied(Committed),
    /// Nothing was written, because another writer committed first.
    Conflict,
    /// Nothing was written, because another session held a row or a table.
    Blocked,
    /// Nothing was written, and a retry at once would fail too.
    Failed(Error),
    /// Nothing was written, because Postgres refused the content of a row.
    InvalidData(String),
    /// The connection was lost; the group may have been written.
    Indeterminate,
}

impl From<Fault> for CommitOutcome {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Conflict => Self::Conflict,
            Fault::Blocked => Self::Blocked,
            Fault::InvalidData(what) => Self::InvalidData(what),
            Fault::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<CommitError> for CommitOutcome {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::RolledBack(fault) => fault.into(),
            CommitError::Lost(error) => {
                static LINES: Sparse = Sparse::of(1);
                if let Some(suppressed) = LINES.pass() {
                    tracing::warn!(%error, suppressed, "the connection was lost during a commit");
                }
                Self::Indeterminate
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lost_connection_leaves_the_outcome_unknown() {
        let of = |error: CommitError| CommitOutcome::from(error);
        assert!(matches!(of(CommitError::Lost("reset".to_owned())), CommitOutcome::Indeterminate));
        assert!(matches!(of(CommitError::RolledBack(Fault::Conflict)), CommitOutcome::Conflict));
        assert!(matches!(of(CommitError::RolledBack(Fault::Blocked)), CommitOutcome::Blocked));
        let failed = of(CommitError::RolledBack(Fault::Failed(Error::StoreReadOnly)));
        assert!(matches!(failed, CommitOutcome::Failed(Error::StoreReadOnly)));
        let invalid = of(CommitError::RolledBack(Fault::InvalidData("22001".to_owned())));
        assert!(matches!(invalid, CommitOutcome::InvalidData(what) if what == "22001"));
    }
}
