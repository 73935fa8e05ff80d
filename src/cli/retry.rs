//! Retries: how often, and for how long.

use std::time::{Duration, Instant};

use clap::Args;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Maximum delay before the first retry.
const FIRST: Duration = Duration::from_millis(100);
/// Maximum delay before a retry.
const LONGEST: Duration = Duration::from_secs(5);

/// Flags for the retries of a watch.
#[derive(Debug, Args)]
pub struct Patience {
    /// Time without success after which a watch that broke off is not retried any more.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    retry_for: Duration,
}

/// Exponential backoff with jitter, until nothing has worked for too long.
#[derive(Debug)]
pub struct RetrySchedule {
    bound: Duration,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    ceiling: Duration,
}

impl RetrySchedule {
    /// A schedule without failures so far.
    pub fn new(patience: &Patience) -> Self {
        Self { bound: patience.retry_for, failing: None }
    }

    /// A schedule that ends when nothing has worked for `bound`.
    pub fn within(bound: Duration) -> Self {
        Self { bound, failing: None }
    }

    /// Notes a success: the next failure starts with the first delay.
    pub fn works(&mut self) {
        self.failing = None;
    }

    /// Delay before the next retry. None: the time is over, or a retry cannot mend the failure.
    pub fn after(&mut self, status: &Status) -> Option<Duration> {
        let asked = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
        self.wait(Instant::now(), rand::random(), asked).filter(|_| may_pass(status))
    }

    /// `draw` is a random number from 0 to 1, `asked` the delay that the server asked for.
    fn wait(&mut self, now: Instant, draw: f64, asked: Option<Duration>) -> Option<Duration> {
        let failing = self.failing.get_or_insert(Failing { since: now, ceiling: FIRST });
        let left = self.bound.checked_sub(now.duration_since(failing.since)).filter(|left| !left.is_zero())?;
        let wait = failing.ceiling.mul_f64(0.5 + draw / 2.0);
        failing.ceiling = LONGEST.min(failing.ceiling * 2);
        // The last try is made when the time is over, however long the wait would be.
        Some(wait.max(asked.unwrap_or_default()).min(left))
    }
}

/// Whether a retry can succeed.
fn may_pass(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Cancelled
        | Code::Internal
        | Code::Unknown
        | Code::OutOfRange => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient(seconds: u64) -> RetrySchedule {
        RetrySchedule::new(&Patience { retry_for: Duration::from_secs(seconds) })
    }

    #[test]
    fn waits_double_up_to_a_ceiling_and_end() {
        let (mut retry, mut now) = (patient(20), Instant::now());
        let mut waits = Vec::new();
        while let Some(wait) = retry.wait(now, 1.0, None) {
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 3_700]);
        retry.works();
        assert_eq!(retry.wait(now, 0.0, None), Some(Duration::from_millis(50)));
    }

    #[test]
    fn the_server_can_ask_for_more_but_not_for_more_than_is_left() {
        let (mut retry, now) = (patient(20), Instant::now());
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(retry.wait(now, 0.5, asked(2)), asked(2));
        assert_eq!(retry.wait(now, 0.5, asked(100)), asked(20));
        assert_eq!(patient(0).wait(now, 0.5, None), None);
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        assert!(patient(1).after(&Status::unavailable("")).is_some());
        assert_eq!(patient(1).after(&Status::not_found("")), None);
    }
}
