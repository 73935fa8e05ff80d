//! Memory of watches: what was loaded for them and their clients have not taken.
//!
//! HTTP/2 asks a watch for nothing while its client does not read, so what was loaded for it stays in memory. All watches of a server share one
//! budget.
//!
//! **Invariants.**
//! - A watch reserves before it loads, and waits while its connection has its share of the budget. Its share is what is still free for all others
//!   (dynamic thresholds, Choudhury and Hahne 1998). Only a watch that holds nothing waits, so no two wait for each other.
//! - What a load takes beyond its reservation is charged afterwards, even beyond the budget.
//! - While a watch waits, watches that sent nothing for [`STUCK_LIMIT`], because their client takes nothing, are closed, with all they hold.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::figures::Sparse;
use crate::figures::door::UnreadFigures;

/// Bytes that the watches of a server may hold.
pub const BUDGET_BYTES: usize = 64 << 20;
/// Bytes that are reserved for a read of unknown size.
pub const READ_BYTES: usize = 512 << 10;
/// A load of at most this size is neither reserved nor charged.
pub const SMALL_BYTES: usize = 32 << 10;
/// Time without progress after which a watch counts as stuck, and is closed if others wait.
const STUCK_LIMIT: Duration = Duration::from_secs(10);
/// Time between two looks for such watches.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The budget of the watches of a server.
#[derive(Debug)]
pub struct SendBudget {
    limit_bytes: usize,
    held_bytes: AtomicUsize,
    /// Notified when bytes were given back.
    freed: Notify,
    open: Mutex<OpenWatches>,
    figures: UnreadFigures,
    /// Log lines about watches that were closed.
    lines: Sparse,
}

#[derive(Debug)]
struct OpenWatches {
    watches: BTreeMap<u64, Weak<Watch>>,
    next_no: u64,
    looked: Instant,
}

/// The part of the budget that the watches of one connection hold. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMemory(Arc<OfConnection>);

#[derive(Debug, Default)]
struct OfConnection {
    held_bytes: AtomicUsize,
    /// Held by the watch that is the next to get memory; the others of the connection wait for it, first come first served.
    next: tokio::sync::Mutex<()>,
}

/// What one watch holds. Clones are the same one. The default has no bound.
#[derive(Clone, Debug, Default)]
pub struct WatchMemory(Option<Arc<Watch>>);

#[derive(Debug)]
struct Watch {
    no: u64,
    budget: Arc<SendBudget>,
    connection: ConnectionMemory,
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    /// Bytes for what is being loaded.
    reserved: usize,
    /// Bytes of updates that were loaded and not sent.
    queued: usize,
    /// Bytes of the encoded messages that HTTP/2 has not taken.
    unsent: usize,
    /// When HTTP/2 got bytes for which it has not asked for more since.
    handed: Option<Instant>,
    /// Drops the body of the response.
    close: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for WatchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WatchState({} bytes)", self.bytes())
    }
}

impl WatchState {
    fn bytes(&self) -> usize {
        self.reserved + self.queued + self.unsent
    }
}

impl SendBudget {
    /// A budget of so many bytes.
    pub fn new(limit_bytes: usize, figures: UnreadFigures) -> Arc<Self> {
        let open = OpenWatches { watches: BTreeMap::new(), next_no: 0, looked: Instant::now() };
        Arc::new(Self {
            limit_bytes,
            held_bytes: AtomicUsize::new(0),
            freed: Notify::new(),
            open: Mutex::new(open),
            figures,
            lines: Sparse::default(),
        })
    }

    /// Begins a watch of a connection. It holds nothing.
    pub fn watch(self: &Arc<Self>, connection: &ConnectionMemory) -> WatchMemory {
        let mut open = self.open.lock();
        open.next_no += 1;
        let watch = Arc::new(Watch {
            no: open.next_no,
            budget: self.clone(),
            connection: connection.clone(),
            state: Mutex::default(),
        });
        open.watches.insert(watch.no, Arc::downgrade(&watch));
        WatchMemory(Some(watch))
    }

    /// Closes the stuck watches.
    fn close_stuck(&self) {
        let now = Instant::now();
        let stuck: Vec<Arc<Watch>> = {
            let mut open = self.open.lock();
            if now.duration_since(open.looked) < LOOK_INTERVAL {
                return;
            }
            open.looked = now;
            open.watches.values().filter_map(Weak::upgrade).collect()
        };
        let stuck: Vec<Arc<Watch>> = stuck.into_iter().filter(|watch| watch.is_stuck(now)).collect();
        if !stuck.is_empty()
            && let Some(suppressed) = self.lines.pass()
        {
            let closed = stuck.len();
            tracing::warn!(
                closed,
                suppressed,
                "watches were closed: their clients read nothing, and others wait for memory"
            );
        }
        for watch in stuck {
            self.figures.closed.inc();
            watch.close();
        }
    }
}

impl Watch {
    /// Changes what is held, and charges the difference.
    fn change(&self, change: impl FnOnce(&mut WatchState)) {
        let mut state = self.state.lock();
        let before = state.bytes();
        change(&mut state);
        let after = state.bytes();
        drop(state);
        if after > before {
            self.charge(after - before);
        } else {
            self.give_back(before - after);
        }
    }

    /// Charges bytes. Returns how many the connection and the server then hold.
    fn charge(&self, bytes: usize) -> (usize, usize) {
        let own = self.connection.0.held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.budget.figures.bytes.inc_by(bytes as i64);
        (own, self.budget.held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes)
    }

    fn uncharge(&self, bytes: usize) {
        self.connection.0.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.figures.bytes.dec_by(bytes as i64);
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.uncharge(bytes);
            self.budget.freed.notify_waiters();
        }
    }

    /// Reserves if the share of the connection allows it. False: nothing was reserved.
    fn try_reserve(&self, bytes: usize) -> bool {
        let (own, all) = self.charge(bytes);
        if own > self.budget.limit_bytes.saturating_sub(all) {
            self.uncharge(bytes);
            return false;
        }
        self.state.lock().reserved += bytes;
        true
    }

    async fn wait_for(&self, bytes: usize) {
        let _next = self.connection.0.next.lock().await;
        loop {
            let mut freed = std::pin::pin!(self.budget.freed.notified());
            freed.as_mut().enable();
            if self.try_reserve(bytes) {
                return;
            }
            self.budget.close_stuck();
            // Watches get stuck without a notification.
            let _elapsed = tokio::time::timeout(LOOK_INTERVAL, freed).await;
        }
    }

    fn is_stuck(&self, now: Instant) -> bool {
        let state = self.state.lock();
        state.bytes() > SMALL_BYTES && state.handed.is_some_and(|at| now.duration_since(at) >= STUCK_LIMIT)
    }

    fn close(&self) {
        let close = self.state.lock().close.take();
        if let Some(close) = close {
            close();
        }
        self.change(|state| (state.reserved, state.queued, state.unsent) = (0, 0, 0));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let held = self.state.get_mut().bytes();
        self.give_back(held);
        self.budget.open.lock().watches.remove(&self.no);
    }
}

impl WatchMemory {
    /// Reserves memory for a load, and waits for it if the watch holds nothing.
    pub async fn reserve(&self, bytes: usize) {
        let Some(watch) = self.0.as_ref().filter(|_| bytes > SMALL_BYTES) else { return };
        // What is greater than all shares would never be granted.
        let bytes = bytes.min(watch.budget.limit_bytes / 4);
        if watch.state.lock().bytes() > 0 {
            watch.change(|state| state.reserved = state.reserved.max(bytes));
        } else if !watch.try_reserve(bytes) {
            // In a task of its own: the stream of a client that does not read is not polled, and would block the others of its connection.
            let watch = watch.clone();
            let _ended = AbortOnDropHandle::new(tokio::spawn(async move { watch.wait_for(bytes).await })).await;
        }
    }

    /// Sets the bytes of the updates that were loaded and not sent. A reservation is over.
    pub fn set_queued(&self, bytes: usize) {
        if let Some(watch) = &self.0 {
            watch.change(|state| (state.reserved, state.queued) = (0, bytes));
        }
    }

    /// Sets the bytes of encoded messages that HTTP/2 has not taken. `is_handed`: it has just got some of them.
    pub fn set_unsent(&self, bytes: usize, is_handed: bool) {
        if let Some(watch) = &self.0 {
            watch.change(|state| {
                state.unsent = bytes;
                state.handed = is_handed.then(Instant::now);
            });
        }
    }

    /// Sets what drops the body of the response.
    pub fn on_close(&self, close: impl FnOnce() + Send + 'static) {
        if let Some(watch) = &self.0 {
            watch.state.lock().close = Some(Box::new(close));
        }
    }
}

#[cfg(test)]
mod tests;
