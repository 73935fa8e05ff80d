//! The outcome of a commit whose connection was lost.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::Lane;
use crate::engine::outcome::CommitOutcome;
use crate::failpoint;
use crate::store::commit::Committed;
use crate::store::commit::resolve::resolve_commit;
use crate::store::connection::Explained;

/// Time after which the outcome stays unknown.
const RESOLVE_FOR: Duration = Duration::from_secs(10);
/// Time that one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(50);

impl Lane {
    /// Looks up whether a group was committed, over new connections. [`CommitOutcome::Indeterminate`]: it could not be found out.
    pub(super) async fn resolve(&mut self, group_id: Uuid) -> CommitOutcome {
        let until = Instant::now() + RESOLVE_FOR;
        while Instant::now() < until {
            if failpoint::hit("settle") {
                self.connection.discard();
            } else if let Ok(open) = self.connection.open().await {
                match timeout(ATTEMPT_TIMEOUT, resolve_commit(&open.client, group_id)).await {
                    Ok(Ok(Some(components))) => return CommitOutcome::Applied(Committed { components, clock: None }),
                    // It was not committed and never will be.
                    Ok(Ok(None)) => return CommitOutcome::Conflict,
                    Ok(Err(error)) => {
                        tracing::debug!(error = %Explained(&error), "the outcome of a lost commit is not known yet");
                        self.connection.discard();
                    }
                    Err(_) => self.connection.discard(),
                }
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
        CommitOutcome::Indeterminate
    }
}
