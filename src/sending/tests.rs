//! Shares of connections, waits, and watches that are closed for others.

use futures::FutureExt as _;

use super::*;

const MIB: usize = 1 << 20;

fn held(budget: &SendBudget) -> usize {
    budget.held_bytes.load(Ordering::Relaxed)
}

/// Watches of a new connection that load one MiB each without a wait, until one has to wait.
fn greedy(budget: &Arc<SendBudget>) -> Vec<WatchMemory> {
    let connection = ConnectionMemory::default();
    let loads = || {
        let watch = budget.watch(&connection);
        watch.reserve(MIB).now_or_never().map(|()| watch)
    };
    std::iter::from_fn(loads).collect()
}

#[tokio::test]
async fn connection_alone_gets_half_and_a_newcomer_half_of_the_rest() {
    let budget = SendBudget::new(64 * MIB, UnreadFigures::default());
    let (first, second) = (greedy(&budget), greedy(&budget));
    assert_eq!((first.len(), second.len()), (32, 16));
    assert_eq!(held(&budget), 48 * MIB);
    drop((first, second));
    // The last ones waited in tasks, which end when they are polled.
    while !budget.open.lock().watches.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(held(&budget), 0);
}

#[tokio::test]
async fn small_loads_and_watches_that_hold_something_do_not_wait() {
    let budget = SendBudget::new(4 * MIB, UnreadFigures::default());
    let held = greedy(&budget);
    let watch = budget.watch(&ConnectionMemory::default());
    assert!(watch.reserve(SMALL_BYTES).now_or_never().is_some());
    held[0].set_queued(8 * MIB);
    assert!(held[0].reserve(MIB).now_or_never().is_some());
    assert!(watch.reserve(MIB).now_or_never().is_none(), "more than the budget is held");
    held[0].set_queued(0);
    watch.reserve(MIB).await;
}

#[tokio::test]
async fn watch_that_is_not_polled_while_it_waits_blocks_no_other() {
    let budget = SendBudget::new(4 * MIB, UnreadFigures::default());
    let connection = ConnectionMemory::default();
    let load = || budget.watch(&connection);
    let (held, still, other) = (load(), load(), load());
    held.reserve(2 * MIB).await;
    held.set_queued(4 * MIB);
    let mut waits = Box::pin(still.reserve(MIB));
    assert!((&mut waits).now_or_never().is_none());
    tokio::task::yield_now().await;
    drop(held);
    // `waits` is never polled again; what it gets is one MiB of the two of its connection.
    other.reserve(MIB).await;
}

#[tokio::test]
async fn stuck_watches_are_closed_only_for_those_that_wait() {
    let budget = SendBudget::new(4 * MIB, UnreadFigures::default());
    let (stuck, waiting) = (budget.watch(&ConnectionMemory::default()), budget.watch(&ConnectionMemory::default()));
    stuck.set_unsent(4 * MIB, true);
    let (closed, is_closed) = tokio::sync::oneshot::channel();
    stuck.on_close(move || closed.send(()).expect("the test waits"));
    let watch = stuck.0.as_ref().expect("a budget");
    let before = Instant::now().checked_sub(STUCK_LIMIT).expect("the machine runs");
    watch.state.lock().handed = Some(before);
    assert!(watch.is_stuck(Instant::now()));
    waiting.reserve(MIB).await;
    is_closed.await.expect("closed");
    assert_eq!(held(&budget), MIB);
}
