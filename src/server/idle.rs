//! Ends connections that carry no calls, so that idle clients do not take the places of others.
//!
//! Only calls with a valid credential count; where none is required, all calls but health checks and reflection, which
//! never need one. A client that still needs the connection opens another after GOAWAY, as it does by itself with its
//! next call.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::admission::ConnectionShare;

/// Timeouts of a connection without calls.
#[derive(Clone, Copy, Debug)]
pub struct IdleLimits {
    /// Time from the connect to the first call.
    pub before_first_call: Duration,
    /// Time after the last call has ended. Checked once per period, so it takes at most twice as long.
    pub after_last_call: Duration,
    /// Time from GOAWAY to the close, for clients that do not close by themselves. A call that arrives meanwhile is answered first.
    pub goodbye: Duration,
}

impl Default for IdleLimits {
    fn default() -> Self {
        IdleLimits {
            before_first_call: Duration::from_secs(60),
            after_last_call: Duration::from_secs(600),
            goodbye: Duration::from_secs(5),
        }
    }
}

/// Next step to end a connection without calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Ask the client to close it (GOAWAY).
    Ask,
    /// Close it: the client was asked before.
    Close,
}

/// Timer of one connection.
#[derive(Debug)]
pub(super) struct Idle {
    limits: IdleLimits,
    share: ConnectionShare,
    /// Calls admitted at the last check.
    seen: u64,
    is_asked: bool,
    next_look: Pin<Box<Sleep>>,
}

impl Idle {
    pub(super) fn new(limits: IdleLimits, share: ConnectionShare) -> Self {
        let next_look = Box::pin(tokio::time::sleep(limits.before_first_call));
        Idle { limits, share, seen: 0, is_asked: false, next_look }
    }

    /// Waits until the connection is to be ended. Can be dropped and called again at any time.
    pub(super) async fn over(&mut self) -> Ending {
        loop {
            self.next_look.as_mut().await;
            let (ending, until_next) = self.look();
            self.next_look.as_mut().reset(Instant::now() + until_next);
            if let Some(ending) = ending {
                return ending;
            }
        }
    }

    /// The next step, if any, and the time until the next check.
    fn look(&mut self) -> (Option<Ending>, Duration) {
        let admitted = self.share.admitted();
        let is_active = admitted != self.seen || self.share.is_busy();
        self.seen = admitted;
        if is_active {
            return (None, if self.is_asked { self.limits.goodbye } else { self.limits.after_last_call });
        }
        let was_asked = std::mem::replace(&mut self.is_asked, true);
        (Some(if was_asked { Ending::Close } else { Ending::Ask }), self.limits.goodbye)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> (Idle, ConnectionShare, IdleLimits) {
        let (limits, share) = (IdleLimits::default(), ConnectionShare::default());
        (Idle::new(limits, share.clone()), share, limits)
    }

    #[tokio::test]
    async fn a_connection_without_a_call_is_asked_and_then_closed() {
        let (mut idle, _, limits) = idle();
        assert_eq!(idle.look(), (Some(Ending::Ask), limits.goodbye));
        assert_eq!(idle.look(), (Some(Ending::Close), limits.goodbye));
    }

    #[tokio::test]
    async fn calls_keep_a_connection_and_it_ends_after_the_last() {
        let (mut idle, share, limits) = idle();
        for _ in 0..3 {
            share.note_admitted();
            assert_eq!(idle.look(), (None, limits.after_last_call));
        }
        assert_eq!(idle.look(), (Some(Ending::Ask), limits.goodbye));
        share.note_admitted();
        assert_eq!(idle.look(), (None, limits.goodbye), "a call that crossed the request to close is answered");
        assert_eq!(idle.look(), (Some(Ending::Close), limits.goodbye));
    }
}
