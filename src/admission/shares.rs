//! Resources that the connections of a server share, and the part that each connection has taken.
//!
//! Rule of all shares: a connection may have as much as is still free for all others. So one connection alone gets
//! half, each of n greedy ones gets one part of n + 1, and a newcomer gets half a part at once (dynamic thresholds,
//! Choudhury and Hahne 1998). A small amount is always granted to every connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::sending::ConnectionMemory;

/// Resources taken by one connection. In the extensions of its requests.
#[derive(Debug, Clone, Default)]
pub struct ConnectionShare(pub(super) Arc<Taken>);

#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Watches that are open now.
    pub(super) watches: AtomicU32,
    /// Open streams that need no credential, such as watches of the health service.
    pub(super) open_streams: AtomicU32,
    /// Calls in flight, without watches and health checks.
    pub(super) calls: AtomicU32,
    /// Calls that have not arrived in full.
    pub(super) arriving: AtomicUsize,
    /// Bytes received of those calls.
    pub(super) arriving_bytes: AtomicUsize,
    /// What its watches have loaded and it has not taken.
    pub(super) memory: ConnectionMemory,
    /// Calls begun with a valid credential. Where none is required: all calls but those of methods that never need one.
    admitted: AtomicU64,
    /// True once one of them had a valid credential.
    is_authenticated: AtomicBool,
}

impl ConnectionShare {
    /// Counts a call that the layer of credentials has admitted.
    pub fn note_admitted(&self) {
        self.0.admitted.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls begun so far with a valid credential. Where none is required: all calls but health checks and reflection.
    pub fn admitted(&self) -> u64 {
        self.0.admitted.load(Ordering::Relaxed)
    }

    /// True once a call with a valid credential has arrived.
    pub fn is_authenticated(&self) -> bool {
        self.0.is_authenticated.load(Ordering::Relaxed)
    }

    /// True while a call or a watch is in flight, other than of health and reflection.
    pub fn is_busy(&self) -> bool {
        self.0.calls.load(Ordering::Relaxed) > 0 || self.0.watches.load(Ordering::Relaxed) > 0
    }
}

/// Share of the connection of a request.
pub(super) fn of<B>(request: &http::Request<B>) -> ConnectionShare {
    request.extensions().get::<ConnectionShare>().cloned().unwrap_or_default()
}

/// Counts a call that the layer of credentials has admitted for its connection.
pub(super) fn note_admitted<B>(request: &http::Request<B>, has_credential: bool) {
    if let Some(share) = request.extensions().get::<ConnectionShare>() {
        share.note_admitted();
        // Stored once, so that the cache line stays shared by all cores.
        if has_credential && !share.is_authenticated() {
            share.0.is_authenticated.store(true, Ordering::Relaxed);
        }
    }
}

/// A limited resource of a server that all connections share.
#[derive(Debug)]
pub(super) struct Pool {
    limit: usize,
    /// Amount that each connection always gets, even beyond the limit.
    always: usize,
    taken: AtomicUsize,
}

impl Pool {
    pub(super) fn new(limit: usize, always: usize) -> Pool {
        Pool { limit, always, taken: AtomicUsize::new(0) }
    }

    /// Takes an amount for a connection that has taken `own`, if its share allows it. False: nothing was taken.
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

    /// Takes one at a time until the pool refuses.
    fn greedy(pool: &Pool, own: &AtomicUsize) -> usize {
        (0..10_000).take_while(|_| pool.take(own, 1)).count()
    }

    #[test]
    fn however_many_are_greedy_a_newcomer_gets_as_much() {
        for crowd in [1, 17, 400] {
            let pool = Pool::new(1_000, 2);
            let owns: Vec<AtomicUsize> = (0..crowd).map(|_| AtomicUsize::new(0)).collect();
            // One at a time in rotation, as real connections would.
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
