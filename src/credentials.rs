//! Reads changed credentials: one round every two seconds, and at once if a call presents an unknown one.
//!
//! While the database cannot be read, what is known goes on and expires as it would. Nothing can be revoked then either, and a server that alone
//! cannot reach the database can serve nothing but its own figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admission::{FailureReason, KnownKeys};
use crate::store::Store;

/// Interval of rounds. With the timeout of a round, a revoked key is refused within five seconds.
const ROUND_EVERY: Duration = Duration::from_secs(2);
/// Minimum interval of rounds that calls request: at most four per second, whatever callers send.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// Timeout of a round.
const ROUND_LIMIT: Duration = Duration::from_secs(2);
/// Interval of reading all credentials, not only changed ones.
const WHOLE_EVERY: Duration = Duration::from_secs(60);
/// Interval of storing which keys were used. The store writes each key at most once per hour.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Minimum interval of log lines about refused calls.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Reads credentials until it is dropped, also during a drain, because calls still end then.
pub async fn keep(known: Arc<KnownKeys>, store: Store) {
    let mut keeper = Keeper::new(known, store);
    loop {
        let began = Instant::now();
        keeper.round().await;
        keeper.note_use().await;
        keeper.log_failures();
        tokio::time::sleep(SHORTEST_PAUSE.saturating_sub(began.elapsed())).await;
        let rest = ROUND_EVERY.saturating_sub(began.elapsed());
        // Usually no call waits, and the timer starts the round.
        let _asked = tokio::time::timeout(rest, keeper.known.round_wanted()).await;
    }
}

struct Keeper {
    known: Arc<KnownKeys>,
    store: Store,
    noted: Instant,
    logged: Option<Instant>,
    /// Failures by reason at the last log line.
    logged_counts: [u64; FailureReason::ALL.len()],
    /// Start of the current series of failed rounds. None: the last round succeeded.
    failing_since: Option<Instant>,
    /// Time at which all credentials were last read.
    read_whole: Option<Instant>,
    has_loaded: bool,
}

impl Keeper {
    fn new(known: Arc<KnownKeys>, store: Store) -> Self {
        Self {
            known,
            store,
            noted: Instant::now(),
            logged: None,
            logged_counts: Default::default(),
            failing_since: None,
            read_whole: None,
            has_loaded: false,
        }
    }

    async fn round(&mut self) {
        self.known.begin_round();
        // All of them after an outage and now and then: a failover that lost a commit can give its version to another change.
        let whole = self.failing_since.is_some() || self.read_whole.is_none_or(|at| at.elapsed() >= WHOLE_EVERY);
        let read = self.store.credentials_changed_since(if whole { 0 } else { self.known.version() });
        let read = tokio::time::timeout(ROUND_LIMIT, read).await;
        let changes = read.ok().and_then(Result::ok);
        let is_read = changes.is_some();
        if is_read && whole {
            self.read_whole = Some(Instant::now());
        }
        self.known.end_round(changes);
        match (is_read, self.failing_since) {
            (true, Some(since)) => {
                self.failing_since = None;
                tracing::info!(after = ?since.elapsed(), "credentials are read again");
            }
            (false, None) => {
                self.failing_since = Some(Instant::now());
                tracing::warn!("credentials cannot be read: those that are known stay valid until they expire");
            }
            (true, None) | (false, Some(_)) => {}
        }
        if is_read && !self.has_loaded {
            self.has_loaded = true;
            match self.known.len() {
                0 => tracing::warn!(
                    "credentials are required, and there are none: create the first with `interlock key create --database-url URL --label NAME --role admin --namespaces '*'`"
                ),
                credentials => tracing::info!(credentials, "credentials are required"),
            }
        }
    }

    async fn note_use(&mut self) {
        if self.noted.elapsed() < NOTE_EVERY {
            return;
        }
        self.noted = Instant::now();
        let used = self.known.take_used();
        if used.is_empty() {
            return;
        }
        // It is noted the next time, if the key is used again.
        if !matches!(tokio::time::timeout(ROUND_LIMIT, self.store.note_key_use(&used)).await, Ok(Ok(_))) {
            tracing::debug!("the use of keys was not noted");
        }
    }

    /// Logs refused calls by reason, at most one line per interval.
    fn log_failures(&mut self) {
        let counts = self.known.failures().counts();
        if counts == self.logged_counts || self.logged.is_some_and(|logged| logged.elapsed() < LOG_EVERY) {
            return;
        }
        let news = FailureReason::ALL.iter().zip(counts.iter().zip(&self.logged_counts));
        let news = news.filter(|(_, (now, before))| now > before);
        let news: Vec<_> = news.map(|(reason, (now, before))| format!("{} {}", now - before, reason.name())).collect();
        let last_address = self.known.failures().last_address().map(tracing::field::display);
        tracing::warn!(last_address, "calls were refused for their credential: {}", news.join(", "));
        (self.logged, self.logged_counts) = (Some(Instant::now()), counts);
    }
}
