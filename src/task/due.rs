//! What is due by the clock: leases of silent workers, delayed starts, backoffs, timeouts, the ends of grace and retention.

use std::time::{Duration, Instant};

use super::Chore;
use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::engine::grace::Spared;
use crate::error::{Error, Result};
use crate::figures::sparse::INTERVAL;
use crate::operation::Operation;
use crate::operation::reap::Reap;
use crate::operation::wake::Wake;

/// What a loop takes at once.
const BATCH: i64 = 500;
/// Leases whose check one statement postpones.
const POSTPONED_BATCH: i64 = 2_000;
/// Such statements in one run of the reaper.
const POSTPONED_BATCHES: usize = 20;
/// How long an expired lease that is exempt goes without another check.
const EXEMPT_PAUSE: Duration = Duration::from_secs(5);

/// Takes stages from workers that have fallen silent, but those that are spared for now.
pub struct Reaper {
    engine: Engine,
    /// Leases that expired since the last line about them.
    unsaid: usize,
    said: Option<Instant>,
}

impl Reaper {
    /// A reaper.
    pub fn new(engine: Engine) -> Self {
        Self { engine, unsaid: 0, said: None }
    }

    /// Moves leases out of the way that are due for a check and have not expired, or are exempt.
    async fn postpone(&self, held_since: Option<Timestamp>) -> Result<()> {
        let shared = self.engine.shared();
        let pause = shared.grace.remaining().min(EXEMPT_PAUSE);
        for _ in 0..POSTPONED_BATCHES {
            let postponed = shared.store.postpone_leases(held_since, pause, POSTPONED_BATCH).await?;
            if i64::try_from(postponed).is_ok_and(|postponed| postponed < POSTPONED_BATCH) {
                break;
            }
        }
        Ok(())
    }

    /// One line in each interval, with the sum.
    fn say(&mut self, reaped: usize) {
        self.unsaid += reaped;
        if self.unsaid > 0 && self.said.is_none_or(|said| said.elapsed() >= INTERVAL) {
            tracing::info!(stages = self.unsaid, "leases expired: their workers sent no heartbeat in time");
            (self.unsaid, self.said) = (0, Some(Instant::now()));
        }
    }
}

impl Chore for Reaper {
    const NAME: &'static str = "reaper";
    const EVERY: Duration = Duration::from_millis(500);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        let shared = self.engine.shared();
        let held_since = match shared.grace.spared() {
            Spared::None => None,
            Spared::Before(moment) => Some(moment),
            Spared::All => return Ok(0),
        };
        self.postpone(held_since).await.inspect_err(|_| shared.grace.lost())?;
        let due = shared.store.due_leases(held_since, BATCH).await.inspect_err(|_| shared.grace.lost())?;
        let reaps = due.into_iter().map(|(key, stage_no, token_secret)| Reap {
            key,
            stage_no,
            token_secret,
            jitter: rand::random(),
        });
        let reaped = execute_all(&self.engine, reaps).await?;
        self.say(reaped);
        Ok(reaped)
    }

    fn interrupted(&mut self) {
        self.engine.shared().grace.lost();
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

/// Runs operations side by side, at most 500 at once, so that they share groups. Those that were refused have been overtaken, which is no
/// fault.
pub(super) async fn execute_all(
    engine: &Engine,
    mut operations: impl Iterator<Item = impl Operation>,
) -> Result<usize> {
    let mut applied = 0;
    loop {
        let some = operations.by_ref().take(BATCH as usize).map(|operation| engine.execute(operation, None));
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
