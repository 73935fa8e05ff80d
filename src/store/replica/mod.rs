//! The read replica, for reads that may be stale.
//!
//! **How old its state is** is known without clocks of other machines, and without the replica's own idea of its lag, which is wrong when it is cut
//! off. The end of the primary's log is read four times a second: a write that was answered before such a moment lies before that position. A read
//! that may be so old takes the first of these positions that is new enough, and the connection on which it runs must have replayed the log up to
//! there; otherwise the primary answers. Nothing is asked while no read has named a `max_staleness` for half a minute.

mod marks;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::Store;
use super::pg::connection::{Target, unavailable};
use super::pg::log_position::{LogEnd, ReplicaLog, log_end, replica_log};
use super::pg::pool::PoolSettings;
use crate::error::{Error, Result};
use crate::figures::Sparse;
use crate::figures::replica::ReplicaFigures;
use marks::Marks;

/// Interval of looks at both databases.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long the looks go on after the last read that may be stale.
const WANTED: Duration = Duration::from_secs(30);
/// How long a look at one database may take. A replica that takes longer is not used.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a read waits for a connection to the replica before it goes to the primary.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// A read replica of the database.
pub struct Replica {
    store: Store,
    known: Mutex<Known>,
    wanted: Notify,
    /// Counts of its reads.
    pub figures: ReplicaFigures,
}

#[derive(Default)]
struct Known {
    marks: Marks,
    /// When the last read came that may be stale.
    last_wanted: Option<Instant>,
}

impl Replica {
    /// A replica to which connections are opened as they are needed.
    ///
    /// # Errors
    /// When the URL cannot be used, or names several hosts.
    pub fn new(url: &str, settings: PoolSettings) -> anyhow::Result<Self> {
        let target = Target::parse_replica(url)?;
        let store = Store::new(target, PoolSettings { acquire_timeout: ACQUIRE_TIMEOUT, ..settings })?;
        Ok(Self { store, known: Mutex::default(), wanted: Notify::new(), figures: ReplicaFigures::default() })
    }

    /// The replica for a read of a state that is at most so old. None: only the primary is known to be new enough.
    pub fn for_read(&self, max_staleness: Duration) -> Option<Store> {
        let now = Instant::now();
        let position = {
            let mut known = self.known.lock();
            known.last_wanted = Some(now);
            known.marks.needed(now, max_staleness)
        };
        self.wanted.notify_one();
        let reads = self.store.reads.replayed_up_to(position?);
        Some(Store { reads, ..self.store.clone() })
    }

    /// Looks at the primary and the replica while reads want it. Ends only with its task.
    pub async fn keep(self: Arc<Self>, primary: Store) {
        loop {
            self.wanted.notified().await;
            while self.is_wanted() {
                self.look(&primary).await;
                sleep(INTERVAL).await;
            }
            self.known.lock().marks.forget();
            self.figures.usable.set(0);
        }
    }

    fn is_wanted(&self) -> bool {
        self.known.lock().last_wanted.is_some_and(|wanted| wanted.elapsed() < WANTED)
    }

    async fn look(&self, primary: &Store) {
        let at = Instant::now();
        let (end, log) = tokio::join!(timeout(TIMEOUT, primary.log_end()), timeout(TIMEOUT, self.store.replica_log()));
        if log.is_err() {
            // Reads that wait for it go to the primary at once.
            self.store.target.lost_since(at);
        }
        let mut known = self.known.lock();
        let fault = match (end, log) {
            (_, Err(_)) => Some("it does not respond".to_owned()),
            (_, Ok(Err(error))) => Some(error.to_string()),
            // Without a new position the marks grow old, and reads go to the primary.
            (Ok(Err(_)) | Err(_), Ok(Ok(_))) => None,
            (Ok(Ok(end)), Ok(Ok(log))) => known.marks.note(at, &end, log).err().map(str::to_owned),
        };
        if fault.is_some() {
            known.marks.forget();
        }
        drop(known);
        self.figures.usable.set(i64::from(fault.is_none()));
        static LINES: Sparse = Sparse::of(60);
        if let Some(fault) = fault
            && let Some(suppressed) = LINES.pass()
        {
            tracing::warn!(replica = self.store.target.name(), fault, suppressed, "the read replica is not used");
        }
    }
}

impl Store {
    async fn log_end(&self) -> Result<LogEnd> {
        let client = self.reserved.get().await?;
        let end = log_end(&client).await.map_err(|error| unavailable(&error))?;
        end.ok_or_else(|| Error::bug("no end of the log"))
    }

    async fn replica_log(&self) -> Result<ReplicaLog> {
        let client = self.reserved.get().await?;
        let log = replica_log(&client).await.map_err(|error| unavailable(&error))?;
        log.ok_or_else(|| Error::bug("no position of the replica"))
    }
}
