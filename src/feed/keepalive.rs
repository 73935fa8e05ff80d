//! Keepalive of a stream: elapses when nothing was sent for an interval.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Elapses when it was not reset for an interval. A reset moves the deadline only, because setting the timer for each message would cost more
/// than sending it; the timer is set to the new deadline when it fires.
pub struct KeepaliveTimer {
    interval: Duration,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
}

impl KeepaliveTimer {
    /// Begins the first interval now.
    pub fn new(interval: Duration) -> Self {
        let deadline = Instant::now() + interval;
        Self { interval, deadline, timer: Box::pin(sleep_until(deadline)) }
    }

    /// Begins the interval again: a message was sent.
    pub fn reset(&mut self) {
        self.deadline = Instant::now() + self.interval;
    }

    /// Waits until the interval has elapsed, and begins the next one. May be dropped and called again.
    pub async fn elapsed(&mut self) {
        loop {
            self.timer.as_mut().await;
            let is_over = self.deadline <= Instant::now();
            if is_over {
                self.reset();
            }
            self.timer.as_mut().reset(self.deadline);
            if is_over {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keepalive_elapses_no_earlier_than_an_interval_after_the_last_reset() {
        let interval = Duration::from_millis(20);
        let mut keepalive = KeepaliveTimer::new(interval);
        while keepalive.deadline.elapsed() < interval / 2 {
            // The timer that was set at first fires in between.
            tokio::task::yield_now().await;
        }
        keepalive.reset();
        for _ in 0..2 {
            let began = keepalive.deadline - interval;
            keepalive.elapsed().await;
            assert!(began.elapsed() >= interval);
        }
    }
}
