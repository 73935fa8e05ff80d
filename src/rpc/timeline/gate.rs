//! Backpressure of timelines: a bounded number of their calls is at the database at once, and the others wait in line for a bounded time.
//!
//! Bots append and front ends read in bursts, when a meeting begins or a server comes back. Beyond what the database can do at once, waiting in line costs
//! nothing, and a rejection after a known time tells the caller more than a timeout.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::error::{Error, Result, WriteOutcome};

/// After which a rejected call is worth another attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bounds of the gate.
#[derive(Clone, Copy, Debug)]
pub struct GateSettings {
    /// Calls at the database at once.
    pub max_operations: usize,
    /// How long a call waits in line.
    pub max_wait: Duration,
}

/// Lets calls of timelines through to the database, in the order in which they came.
#[derive(Debug)]
pub struct TimelineGate {
    settings: GateSettings,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    completed: Arc<AtomicU64>,
    rejected: AtomicU64,
}

/// State of the gate, and counts since the server started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateFigures {
    /// Calls at the database at once, at most.
    pub max_operations: usize,
    /// Calls at the database.
    pub in_use: usize,
    /// Calls that wait in line.
    pub waiting: usize,
    /// Calls that were let through and have ended.
    pub completed: u64,
    /// Calls that waited for too long.
    pub rejected: u64,
}

impl GateFigures {
    /// Rejected calls among all that ended, from 0 to 1.
    pub fn rejection_rate(&self) -> f64 {
        let all = self.completed.saturating_add(self.rejected);
        if all == 0 { 0.0 } else { self.rejected as f64 / all as f64 }
    }
}

/// A place at the database; free again when dropped.
pub struct GatePlace {
    _place: OwnedSemaphorePermit,
    completed: Arc<AtomicU64>,
}

impl Drop for GatePlace {
    fn drop(&mut self) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a call that waits, for as long as it does.
struct InLine<'a>(&'a AtomicUsize);

impl<'a> InLine<'a> {
    fn join(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl TimelineGate {
    /// A gate with all places free.
    pub fn new(settings: GateSettings) -> Self {
        Self {
            settings,
            places: Arc::new(Semaphore::new(settings.max_operations)),
            waiting: AtomicUsize::default(),
            completed: Arc::default(),
            rejected: AtomicU64::default(),
        }
    }

    /// Waits for a place, at most as long as the settings allow and not beyond the deadline of the call.
    pub async fn enter(&self, deadline: Option<Instant>) -> Result<GatePlace> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(self.place(place));
        }
        let end = Instant::now() + self.settings.max_wait;
        let in_line = InLine::join(&self.waiting);
        let last = deadline.map_or(end, |deadline| deadline.min(end));
        let place = tokio::time::timeout_at(last, self.places.clone().acquire_owned()).await;
        drop(in_line);
        match place {
            Ok(Ok(place)) => Ok(self.place(place)),
            Ok(Err(_)) | Err(_) if last < end => Err(Error::DeadlineExceeded(WriteOutcome::NotApplied)),
            Ok(Err(_)) | Err(_) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                let why = "calls of timelines waited in line for as long as the server allows";
                Err(Error::Overloaded { why, retry_after: RETRY_AFTER })
            }
        }
    }

    fn place(&self, place: OwnedSemaphorePermit) -> GatePlace {
        GatePlace { _place: place, completed: self.completed.clone() }
    }

    /// State and counts.
    pub fn figures(&self) -> GateFigures {
        GateFigures {
            max_operations: self.settings.max_operations,
            in_use: self.settings.max_operations.saturating_sub(self.places.available_permits()),
            waiting: self.waiting.load(Ordering::Relaxed),
            completed: self.completed.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(max_operations: usize, max_wait: Duration) -> TimelineGate {
        TimelineGate::new(GateSettings { max_operations, max_wait })
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn calls_beyond_the_bound_wait_and_are_rejected_after_the_longest_wait() {
        let wait = Duration::from_millis(20);
        let gate = gate(2, wait);
        let places = [gate.enter(None).await.ok(), gate.enter(None).await.ok()];
        assert!(places.iter().all(Option::is_some));
        let began = Instant::now();
        let refused = gate.enter(None).await.err();
        assert!(matches!(refused, Some(Error::Overloaded { retry_after: RETRY_AFTER, .. })), "{refused:?}");
        assert!(began.elapsed() >= wait);
        drop(places);
        let figures = gate.figures();
        assert_eq!((figures.in_use, figures.waiting, figures.completed, figures.rejected), (0, 0, 2, 1));
        assert!((figures.rejection_rate() - 1.0 / 3.0).abs() < 1e-9);
    }

    #[tokio::test]
    async fn a_deadline_before_the_longest_wait_is_no_rejection() {
        let gate = gate(1, LONG);
        let _place = gate.enter(None).await;
        let deadline = Instant::now() + Duration::from_millis(20);
        let refused = gate.enter(Some(deadline)).await.err();
        assert_eq!(refused, Some(Error::DeadlineExceeded(WriteOutcome::NotApplied)));
        assert_eq!((gate.figures().rejected, gate.figures().rejection_rate()), (0, 0.0));
    }

    #[tokio::test]
    async fn a_call_that_is_cancelled_in_line_gives_up_its_place() {
        let gate = gate(1, LONG);
        let place = gate.enter(None).await;
        let mut cancelled = Box::pin(gate.enter(None));
        assert!(futures::poll!(&mut cancelled).is_pending());
        assert_eq!(gate.figures().waiting, 1);
        drop(cancelled);
        assert_eq!(gate.figures().waiting, 0);
        let mut next = Box::pin(gate.enter(None));
        assert!(futures::poll!(&mut next).is_pending());
        drop(place);
        assert!(next.await.is_ok());
    }
}
