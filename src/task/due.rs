//! Background jobs for what is due by the clock: expired leases, delayed starts, backoffs, timeouts, ends of grace and retention.

use std::time::{Duration, Instant};

use super::BackgroundJob;
use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::figures::sparse::INTERVAL;
use crate::operation::Operation;
use crate::operation::overlay::Spared;
use crate::operation::reap::Reap;
use crate::operation::wake::Wake;

/// Maximum number of items in one run.
const BATCH: i64 = 500;
/// Maximum number of leases whose check one statement postpones.
const POSTPONED_BATCH: i64 = 2_000;
/// Maximum number of such statements in one run of the reaper.
const POSTPONED_BATCHES: usize = 20;
/// How long the check of an expired lease that is exempt is postponed.
const EXEMPT_PAUSE: Duration = Duration::from_secs(5);
/// Time between two scans of all leases that are due for a check. Scans in between begin where the last one ended: while an old snapshot is
/// open, the index has a dead entry for each check there was.
const FULL_SCAN_EVERY: Duration = Duration::from_secs(15);
/// Overlap of a scan with the one before, for leases that are committed a little later than they were granted.
const OVERLAP: Duration = Duration::from_secs(2);

/// Ends expired leases, except those that are spared after a start or an outage.
pub struct Reaper {
    engine: Engine,
    /// Start of the last scan of all leases. None: there was none.
    full_scan: Option<Instant>,
    /// No lease is due for a check before this time. None: not known, so all leases are scanned.
    due_since: Option<Timestamp>,
    /// Number of leases that expired since the last log line about them.
    unlogged: usize,
    last_logged: Option<Instant>,
}

impl Reaper {
    /// Begins with a scan of all leases.
    pub fn new(engine: Engine) -> Self {
        Self { engine, full_scan: None, due_since: None, unlogged: 0, last_logged: None }
    }

    /// Postpones the check of leases that have not expired, or are exempt. Returns whether more of them may be due.
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

    /// Decides whether this run scans all leases.
    fn begin_scan(&mut self, now: Timestamp) {
        let is_full_scan_due = self.full_scan.is_none_or(|began| began.elapsed() >= FULL_SCAN_EVERY);
        // The clock may have stepped back.
        if is_full_scan_due || self.due_since.is_some_and(|since| since > now) {
            self.due_since = None;
        }
        if self.due_since.is_none() {
            self.full_scan = Some(Instant::now());
        }
    }

    /// Logs one line in each interval, with the sum.
    fn log(&mut self, reaped: usize) {
        self.unlogged += reaped;
        if self.unlogged > 0 && self.last_logged.is_none_or(|logged| logged.elapsed() >= INTERVAL) {
            tracing::info!(stages = self.unlogged, "leases expired: their workers sent no heartbeat in time");
            (self.unlogged, self.last_logged) = (0, Some(Instant::now()));
        }
    }
}

impl BackgroundJob for Reaper {
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
        self.begin_scan(now);
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
        // Leases that were left over are scanned again.
        if reaped == found && found < Self::FULL && !has_more {
            self.due_since = Some(now.before(OVERLAP));
        }
        self.log(reaped);
        Ok(reaped)
    }

    fn interrupted(&mut self) {
        self.engine.shared().grace.lost();
    }
}

/// Applies the timers of jobs and stages: delayed starts, backoffs, timeouts, ends of grace and retention.
pub struct Scheduler {
    engine: Engine,
}

impl Scheduler {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl BackgroundJob for Scheduler {
    const NAME: &'static str = "scheduler";
    const EVERY: Duration = Duration::from_millis(200);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        let due = self.engine.shared().store.due_timers(BATCH).await?;
        let wakes = due.into_iter().map(|(key, stage_no)| Wake { key, stage_no, jitter: rand::random() });
        execute_all(&self.engine, wakes).await
    }
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
