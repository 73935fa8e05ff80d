//! What the connections of a server share, and what each of them has taken of it.
//!
//! The rule of all shares: a connection may have as much as is still free for all others. So one alone gets half, of n that
//! are greedy each gets one part of n + 1, and a newcomer gets half a part at once (dynamic thresholds, Choudhury and Hahne
//! 1998). A little is free for every connection in any case.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// What one connection has taken. In the extensions of its requests.
#[derive(Debug, Clone, Default)]
pub struct ConnectionShare(pub(super) Arc<Taken>);

#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Watches that are open now.
    pub(super) watches: AtomicU32,
    /// Streams that need no credential, such as watches of the health.
    pub(super) open_streams: AtomicU32,
    /// Calls in flight, watches and health checks not counted.
    pub(super) calls: AtomicU32,
    /// Calls that have not arrived in full.
    pub(super) arriving: AtomicUsize,
    /// Bytes received of those calls.
    pub(super) arriving_bytes: AtomicUsize,
    /// Calls that have begun with a valid credential. Where none is required: all but those of methods that never need one.
    admitted: AtomicU64,
    /// Whether one of them had a valid credential.
    is_authenticated: AtomicBool,
}

impl ConnectionShare {
    /// Counts a call that the layer of credentials has let in.
    pub fn note_admitted(&self) {
        self.0.admitted.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls that have begun so far with a valid credential. Where none is required: all but health checks and reflection.
    pub fn admitted(&self) -> u64 {
        self.0.admitted.load(Ordering::Relaxed)
    }

    /// Whether a call with a valid credential has come on it.
    pub fn is_authenticated(&self) -> bool {
        self.0.is_authenticated.load(Ordering::Relaxed)
    }

    /// Whether a call or a watch is in flight, other than of health and reflection.
    pub fn is_busy(&self) -> bool {
        self.0.calls.load(Ordering::Relaxed) > 0 || self.0.watches.load(Ordering::Relaxed) > 0
    }
}

/// The share of the connection that a request came on.
pub(super) fn of<B>(request: &http::Request<B>) -> ConnectionShare {
    request.extensions().get::<ConnectionShare>().cloned().unwrap_or_default()
}

/// Counts a call that the layer of credentials has let in for the connection that it came on.
pub(super) fn note_admitted<B>(request: &http::Request<B>, has_credential: bool) {
    if let Some(share) = request.extensions().get::<ConnectionShare>() {
        share.note_admitted();
        // Written once, so that the line stays shared by the caches of all cores.
        if has_credential && !share.is_authenticated() {
            share.0.is_authenticated.store(true, Ordering::Relaxed);
        }
    }
}

/// Something of which a server has so much, for all connections.
#[derive(Debug)]
pub(super) struct Pool {
    limit: usize,
    /// What a connection gets in any case, beyond the limit if need be.
    always: usize,
    taken: AtomicUsize,
}

impl Pool {
    pub(super) fn new(limit: usize, always: usize) -> Pool {
        Pool { limit, always, taken: AtomicUsize::new(0) }
    }

    /// Takes so much for a connection that has taken `own`, if its share allows it.
    pub(super) fn take(&self, own: &AtomicUsize, amount: usize) -> bool {
        let own_now = own.fetch_add(amount, Ordering::Relaxed) + amount;
        let all_now = self.taken.fetch_add(amount, Ordering::Relaxed) + amount;
        let is_fair = own_now <= self.always || own_now <= self.limit.saturating_sub(all_now);
        if !is_fair {
            self.give_back(own, amount);
        }
        is_fair
    }

    pub(super) fn give_back(&self, own: &AtomicUsize, amount: usize) {
        own.fetch_sub(amount, Ordering::Relaxed);
        self.taken.fetch_sub(amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one by one until nothing more is given.
    fn greedy(pool: &Pool, own: &AtomicUsize) -> usize {
        (0..10_000).take_while(|_| pool.take(own, 1)).count()
    }

    #[test]
    fn however_many_are_greedy_a_newcomer_gets_as_much() {
        for crowd in [1, 17, 400] {
            let pool = Pool::new(1_000, 2);
            let owns: Vec<AtomicUsize> = (0..crowd).map(|_| AtomicUsize::new(0)).collect();
            // In turns, as they would.
            while owns.iter().filter(|own| pool.take(own, 1)).count() > 0 {}
            let newcomer = AtomicUsize::new(0);
            let got = greedy(&pool, &newcomer);
            assert!(got >= 2.max(1_000 / (2 * (crowd + 1)) - 1), "{crowd}: {got}");
            let most = owns.iter().map(|own| own.load(Ordering::Relaxed)).max().unwrap_or_default();
            assert!(most <= 2.max(1_000 / (crowd + 1) + 1), "{crowd}: {most}");
            owns.iter().for_each(|own| pool.give_back(own, own.load(Ordering::Relaxed)));
            assert_eq!(pool.taken.load(Ordering::Relaxed), got);
        }
    }

    #[test]
    fn a_refusal_takes_nothing() {
        let (pool, own) = (Pool::new(10, 1), AtomicUsize::new(0));
        assert!(pool.take(&own, 5) && !pool.take(&own, 1));
        pool.give_back(&own, 5);
        assert!(!pool.take(&own, 6) && pool.take(&own, 5));
    }
}
