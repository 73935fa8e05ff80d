//! What a background job is, and how jobs execute operations.

use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::operation::Operation;

/// Maximum number of items in one run of a job, and of operations that one executes at once.
pub(super) const BATCH: usize = 500;

/// A job that runs at intervals.
pub(super) trait BackgroundJob: Send + 'static {
    /// Name in statistics and metrics.
    const NAME: &'static str;
    /// Time between two runs.
    const EVERY: Duration;

    /// Whether the leader alone runs the job, for all servers. If not, every server runs it for itself.
    const SINGLETON: bool = true;

    /// Runs once, bounded. Returns the number of items it dealt with.
    fn run(&mut self) -> impl Future<Output = Result<usize>> + Send;

    /// Number of items from which on a run has left some over, and the next run follows at once.
    const FULL: usize = usize::MAX;

    /// The leader could not be determined, because the database does not answer.
    fn interrupted(&mut self) {}
}

/// Executes operations at once, at most [`BATCH`] of them, so that they share groups. Returns how many changed something. A refusal is no
/// failure: the state changed after it was found.
///
/// # Errors
/// The first error of an operation that was not refused.
pub(super) async fn execute_all(
    engine: &Engine,
    mut operations: impl Iterator<Item = impl Operation>,
) -> Result<usize> {
    let mut applied = 0;
    loop {
        let some = operations.by_ref().take(BATCH).map(|operation| engine.execute(operation, None));
        let outcomes = futures::future::join_all(some).await;
        if outcomes.is_empty() {
            return Ok(applied);
        }
        for outcome in outcomes {
            match outcome {
                Ok(reply) => applied += usize::from(reply.applied),
                Err(Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
