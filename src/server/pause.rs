//! Reads a connection more slowly once calls of it were refused because too many come.
//!
//! A refusal costs a call that comes alone two system calls and a wake-up, most of what it costs at all. What comes in a pause is read at once after
//! it, so the more that is refused the less each refusal takes from the work that was accepted.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::admission::ConnectionShare;

/// How long a connection is not read after a refusal: well below what a caller notices, and time for several calls of one that is too fast.
const PAUSE: Duration = Duration::from_millis(20);

/// The pauses of one connection.
#[derive(Debug, Default)]
pub(super) struct Pause {
    share: ConnectionShare,
    /// Made with the first pause and set anew by each.
    end: Option<Pin<Box<Sleep>>>,
    is_on: bool,
}

impl Pause {
    pub(super) fn new(share: ConnectionShare) -> Self {
        Pause { share, end: None, is_on: false }
    }

    /// Begins a pause if a call was refused since the last one, and waits until it is over.
    pub(super) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_on {
            if !self.share.take_refused() {
                return Poll::Ready(());
            }
            self.is_on = true;
            match &mut self.end {
                Some(end) => end.as_mut().reset(Instant::now() + PAUSE),
                None => self.end = Some(Box::pin(tokio::time::sleep(PAUSE))),
            }
        }
        if let Some(end) = &mut self.end {
            ready!(end.as_mut().poll(context));
        }
        self.is_on = false;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_followed_by_one_pause() {
        let share = ConnectionShare::default();
        let mut pause = Pause::new(share.clone());
        assert!(poll_fn(|context| pause.poll_over(context)).now_or_never().is_some(), "nothing was refused");
        for _ in 0..3 {
            share.note_refused();
            share.note_refused();
            let began = Instant::now();
            assert!(poll_fn(|context| pause.poll_over(context)).now_or_never().is_none());
            poll_fn(|context| pause.poll_over(context)).await;
            assert!(began.elapsed() >= PAUSE);
            assert!(poll_fn(|context| pause.poll_over(context)).now_or_never().is_some(), "one pause for both");
        }
    }
}
