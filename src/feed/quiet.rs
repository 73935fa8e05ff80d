//! How long a stream has been without news.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Notices when nothing was told for a while. News only move the moment; the timer itself is set anew when it goes off, because
/// setting it for each piece of news would cost more than telling it.
pub struct Quiet {
    after: Duration,
    until: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Quiet {
    /// From now on.
    pub fn new(after: Duration) -> Self {
        let until = Instant::now() + after;
        Self { after, until, timer: Box::pin(sleep_until(until)) }
    }

    /// Something was told.
    pub fn broken(&mut self) {
        self.until = Instant::now() + self.after;
    }

    /// Waits until nothing has been told for long enough. May be dropped and called again.
    pub async fn lasts(&mut self) {
        loop {
            self.timer.as_mut().await;
            let is_over = self.until <= Instant::now();
            if is_over {
                self.broken();
            }
            self.timer.as_mut().reset(self.until);
            if is_over {
                return;
            }
        }
    }
}
