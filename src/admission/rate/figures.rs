//! Figures of the rate limits: calls accepted and refused by class, and the clients with the most refusals.

use std::sync::atomic::{AtomicU64, Ordering};

use super::RateLimiter;
use super::bucket::RateClock;
use crate::admission::methods::CallClass;

/// Maximum number of clients in the figures: those with the most refusals.
const MAX_CLIENTS: usize = 100;

/// Counters of one class.
#[derive(Debug, Default)]
pub(super) struct ClassCounters {
    accepted: AtomicU64,
    refused: AtomicU64,
}

impl ClassCounters {
    pub(super) fn note_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// All figures at about one moment.
#[derive(Debug, Clone, Default)]
pub struct RateFigures {
    /// Figures of each class of calls.
    pub classes: Vec<ClassFigures>,
    /// Clients with refused calls, at most 100, the one with the most refusals first.
    pub clients: Vec<ClientFigures>,
}

/// The calls of one class, since the server started.
#[derive(Debug, Clone, Copy)]
pub struct ClassFigures {
    /// Class of the calls.
    pub class: CallClass,
    /// Calls within their client's rate.
    pub accepted: u64,
    /// Calls refused as RATE_LIMITED.
    pub refused: u64,
}

/// Refused calls of one client and class, since the client was last added to memory.
#[derive(Debug, Clone)]
pub struct ClientFigures {
    /// Name of the principal, or namespace and address.
    pub name: String,
    /// Class of the calls.
    pub class: CallClass,
    /// Calls refused as RATE_LIMITED.
    pub refused: u64,
}

impl<C: RateClock> RateLimiter<C> {
    /// Accepted and refused calls by class: two counters for each, cheap to read.
    pub fn classes(&self) -> [ClassFigures; CallClass::ALL.len()] {
        CallClass::ALL.map(|class| {
            let counters = &self.counters[class as usize];
            let (accepted, refused) = (&counters.accepted, &counters.refused);
            ClassFigures { class, accepted: accepted.load(Ordering::Relaxed), refused: refused.load(Ordering::Relaxed) }
        })
    }

    /// All figures. Reads every remembered client.
    pub fn figures(&self) -> RateFigures {
        let mut clients = Vec::new();
        self.clients.each(|client| {
            for class in CallClass::ALL {
                let refused = client.refused[class as usize].load(Ordering::Relaxed);
                if refused > 0 {
                    clients.push(ClientFigures { name: client.name.clone(), class, refused });
                }
            }
        });
        clients.sort_unstable_by(|one, other| other.refused.cmp(&one.refused).then_with(|| one.name.cmp(&other.name)));
        clients.truncate(MAX_CLIENTS);
        RateFigures { classes: self.classes().to_vec(), clients }
    }
}
