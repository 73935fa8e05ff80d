//! What is due by the clock: leases of silent workers, delayed starts, backoffs, timeouts, the ends of grace and retention.

use std::time::{Duration, Instant};

use super::Chore;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::operation::reap::Reap;
use crate::operation::wake::Wake;

/// What a loop takes at once.
const BATCH: i64 = 500;

/// Takes stages from workers that have fallen silent.
pub struct Reaper {
    engine: Engine,
    grace: Duration,
    /// Since when the database has been there without a break.
    since: Instant,
}

impl Reaper {
    /// A reaper that waits for `grace` after it starts and after each loss of the database.
    pub fn new(engine: Engine, grace: Duration) -> Self {
        Self { engine, grace, since: Instant::now() }
    }
}

impl Chore for Reaper {
    const NAME: &'static str = "reaper";
    const EVERY: Duration = Duration::from_millis(500);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        let store = &self.engine.shared().store;
        let due = match store.due_leases(BATCH).await {
            Ok(due) => due,
            Err(error) => {
                self.since = Instant::now();
                return Err(error);
            }
        };
        if self.since.elapsed() < self.grace {
            return Ok(0);
        }
        let reaps = due.into_iter().map(|(key, stage_no, token_secret)| Reap { key, stage_no, token_secret });
        execute_all(&self.engine, reaps).await
    }

    fn interrupted(&mut self) {
        self.since = Instant::now();
    }
}

/// Wakes jobs and stages when their time has come.
pub struct Scheduler {
    engine: Engine,
}

impl Scheduler {
    /// A scheduler.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for Scheduler {
    const NAME: &'static str = "scheduler";
    const EVERY: Duration = Duration::from_millis(200);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        let due = self.engine.shared().store.due_timers(BATCH).await?;
        let wakes = due.into_iter().map(|(key, stage_no)| Wake { key, stage_no, jitter: rand::random() });
        execute_all(&self.engine, wakes).await
    }
}

/// Runs operations side by side, so that they share groups. Those that were refused have been overtaken, which is no fault.
pub(super) async fn execute_all(engine: &Engine, operations: impl Iterator<Item = impl Operation>) -> Result<usize> {
    let outcomes = futures::future::join_all(operations.map(|operation| engine.execute(operation, None))).await;
    let mut applied = 0;
    for outcome in outcomes {
        match outcome {
            Ok(reply) => applied += usize::from(reply.applied),
            Err(Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(applied)
}
