//! Background jobs for what is due by the clock: expired leases, delayed starts, backoffs, timeouts, ends of grace and retention.

use std::time::{Duration, Instant};

use super::job::{BATCH, BackgroundJob, execute_all};
use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::error::Result;
use crate::figures::sparse::INTERVAL;
use crate::operation::overlay::Spared;
use crate::operation::reap::Reap;
use crate::operation::wake::Wake;

/// Maximum number of items in one run, for the database.
const MAX_DUE: i64 = BATCH as i64;
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
    const FULL: usize = BATCH;

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
        let due = shared.store.due_leases(held_since, self.due_since, MAX_DUE).await;
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
    const FULL: usize = BATCH;

    async fn run(&mut self) -> Result<usize> {
        let due = self.engine.shared().store.due_timers(MAX_DUE).await?;
        let wakes = due.into_iter().map(|(key, stage_no)| Wake { key, stage_no, jitter: rand::random() });
        execute_all(&self.engine, wakes).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::feed::Hub;
    use crate::store::Store;
    use crate::store::connection::Target;

    /// The reaper of an engine that never connects.
    fn reaper() -> Reaper {
        let config = Config::default();
        let target = Target::parse("host=127.0.0.1 port=1 user=u dbname=d").expect("it is complete");
        let store = Store::new(target, (&config).into()).expect("a pool");
        Reaper::new(Engine::start(store, Arc::new(Hub::default()), (&config).into()))
    }

    #[tokio::test]
    async fn a_scan_begins_where_the_last_one_ended_until_a_full_one_is_due_or_the_clock_steps_back() {
        let (mut reaper, now) = (reaper(), Timestamp(100_000_000));
        reaper.begin_scan(now);
        assert!(reaper.due_since.is_none() && reaper.full_scan.is_some(), "the first scan is full");
        let since = now.before(OVERLAP);
        reaper.due_since = Some(since);
        reaper.begin_scan(now);
        assert_eq!(reaper.due_since, Some(since));
        reaper.begin_scan(since.before(OVERLAP));
        assert_eq!(reaper.due_since, None, "the clock stepped back");
        reaper.due_since = Some(since);
        reaper.full_scan = Instant::now().checked_sub(FULL_SCAN_EVERY);
        reaper.begin_scan(now);
        assert_eq!(reaper.due_since, None, "a full scan is due");
    }
}
