//! What is due by the clock: leases of silent workers, delayed starts, backoffs, timeouts, the ends of grace and retention.

use std::time::{Duration, Instant};

use super::Chore;
use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::figures::sparse::INTERVAL;
use crate::operation::Operation;
use crate::operation::overlay::Spared;
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
/// Between two looks at all leases that are due for a check. Those in between begin where the last look ended: while an old snapshot is open,
/// the index has an entry for each check there was.
const WHOLE_LOOK_EVERY: Duration = Duration::from_secs(15);
/// How much a look overlaps the one before, for leases that are committed a little later than they were granted.
const OVERLAP: Duration = Duration::from_secs(2);

/// Takes stages from workers that have fallen silent, but those that are spared for now.
pub struct Reaper {
    engine: Engine,
    /// When all leases were last looked at.
    whole_look: Option<Instant>,
    /// From when on leases can be due for a check. None: it is not known.
    due_since: Option<Timestamp>,
    /// Leases that expired since the last line about them.
    unsaid: usize,
    said: Option<Instant>,
}

impl Reaper {
    /// A reaper.
    pub fn new(engine: Engine) -> Self {
        Self { engine, whole_look: None, due_since: None, unsaid: 0, said: None }
    }

    /// Moves leases out of the way that are due for a check and have not expired, or are exempt. Returns whether there may be more.
    async fn postpone(&self, held_since: Option<Timestamp>) -> Result<bool> {
        let shared = self.engine.shared();
        let exempt = (held_since, shared.grace.remaining().min(EXEMPT_PAUSE));
        for _ in 0..POSTPONED_BATCHES {
            let postponed = shared.store.postpone_leases(exempt, self.due_since, POSTPONED_BATCH).await?;
            if i64::try_from(postponed).is_ok_and(|postponed| postponed < POSTPONED_BATCH) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Begins with all leases now and then, and where it does not know better.
    fn begin_look(&mut self, now: Timestamp) {
        let is_whole_due = self.whole_look.is_none_or(|looked| looked.elapsed() >= WHOLE_LOOK_EVERY);
        // The clock may have stepped back.
        if is_whole_due || self.due_since.is_some_and(|since| since > now) {
            self.due_since = None;
        }
        if self.due_since.is_none() {
            self.whole_look = Some(Instant::now());
        }
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
        let shared = self.engine.shared().clone();
        let held_since = match shared.grace.spared() {
            Spared::None => None,
            Spared::Before(moment) => Some(moment),
            Spared::All => return Ok(0),
        };
        let now = self.engine.now();
        self.begin_look(now);
        let has_more = self.postpone(held_since).await.inspect_err(|_| shared.grace.lost())?;
        let due = shared.store.due_leases(held_since, self.due_since, BATCH).await;
        let due = due.inspect_err(|_| shared.grace.lost())?;
        let found = due.len();
        let reaps = due.into_iter().map(|(key, stage_no, token_secret)| Reap {
            key,
            stage_no,
            token_secret,
            jitter: rand::random(),
        });
        let reaped = execute_all(&self.engine, reaps).await?;
        // What is left over is looked at again.
        if reaped == found && found < Self::FULL && !has_more {
            self.due_since = Some(now.before(OVERLAP));
        }
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
