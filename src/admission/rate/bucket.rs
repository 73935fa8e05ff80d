//! A token bucket: the generic cell rate algorithm (GCRA, ITU-T I.371), by `governor`.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Clock of rate limits: that of this machine, or one that a test sets.
pub trait RateClock: Clock<Instant: Send + Sync> + Clone + fmt::Debug + Send + Sync + 'static {}

impl<C: Clock<Instant: Send + Sync> + Clone + fmt::Debug + Send + Sync + 'static> RateClock for C {}

/// Rate of a class: items per period that a client may send in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassRate {
    /// Items in a period.
    pub items: NonZeroU32,
    /// The period, above zero.
    pub period: Duration,
}

impl ClassRate {
    /// Rate of `items` per second, at least one.
    pub fn per_second(items: u32) -> Self {
        ClassRate { items: NonZeroU32::new(items).unwrap_or(NonZeroU32::MIN), period: SECOND }
    }

    /// Items that may arrive at once after a pause: twice those of a period.
    pub fn burst(self) -> NonZeroU32 {
        self.items.saturating_mul(NonZeroU32::MIN.saturating_add(1))
    }

    fn quota(self) -> Quota {
        let interval = (self.period / self.items.get()).max(Duration::from_nanos(1));
        Quota::with_period(interval).unwrap_or(Quota::per_second(self.items)).allow_burst(self.burst())
    }
}

impl fmt::Display for ClassRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.items;
        match self.period {
            SECOND => write!(formatter, "{items}/s"),
            MINUTE => write!(formatter, "{items}/m"),
            HOUR => write!(formatter, "{items}/h"),
            other => write!(formatter, "{items}/{other:?}"),
        }
    }
}

/// Token bucket of one client and class.
#[derive(Debug)]
pub(in crate::admission) struct Bucket<C: RateClock = DefaultClock> {
    rate: ClassRate,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>,
}

/// Shortage of tokens. No token was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admission) struct Shortage {
    pub(super) rate: ClassRate,
    /// Tokens in the bucket.
    pub(super) remaining: u32,
    /// Time until the bucket holds enough for the whole call, if no other call takes any. None: never, since the call
    /// costs more than the burst.
    pub(super) wait: Option<Duration>,
}

impl<C: RateClock> Bucket<C> {
    /// Creates a full bucket.
    pub(in crate::admission) fn new(rate: ClassRate, clock: C) -> Self {
        let limiter = RateLimiter::direct_with_clock(rate.quota(), clock);
        Bucket { rate, limiter: limiter.with_middleware() }
    }

    /// Takes one token. Returns the tokens left.
    pub(in crate::admission) fn take_one(&self) -> Result<u32, Shortage> {
        match self.limiter.check() {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.limiter.clock().now());
                Err(Shortage { rate: self.rate, remaining: 0, wait: Some(wait) })
            }
        }
    }

    /// Takes the tokens of all items but the first, which was charged before. A call refused here is charged for its
    /// first item again when it is retried, so the wait is that for all items.
    pub(super) fn take_rest(&self, items: NonZeroU32) -> Result<Option<u32>, Shortage> {
        let Some(rest) = NonZeroU32::new(items.get() - 1) else { return Ok(None) };
        let taken = if items > self.rate.burst() { None } else { self.limiter.check_n(rest).ok() };
        match taken {
            Some(Ok(state)) => Ok(Some(state.remaining_burst_capacity())),
            Some(Err(not_until)) => {
                let wait = not_until.wait_time_from(self.limiter.clock().now());
                let interval = not_until.quota().replenish_interval();
                Err(Shortage {
                    rate: self.rate,
                    remaining: remaining(rest, wait, interval),
                    wait: Some(wait + interval),
                })
            }
            None => Err(Shortage { rate: self.rate, remaining: 0, wait: None }),
        }
    }
}

/// Tokens in the bucket now, if `wanted` of them will be there after `wait`.
fn remaining(wanted: NonZeroU32, wait: Duration, interval: Duration) -> u32 {
    let missing = wait.as_nanos().div_ceil(interval.as_nanos().max(1));
    wanted.get().saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn bucket(items: u32, period: Duration) -> (Bucket<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rate = ClassRate { items: NonZeroU32::new(items).expect("above zero"), period };
        (Bucket::new(rate, clock.clone()), clock)
    }

    fn items(items: u32) -> NonZeroU32 {
        NonZeroU32::new(items).expect("above zero")
    }

    #[test]
    fn a_burst_passes_and_then_exactly_the_rate() {
        let (bucket, clock) = bucket(10, SECOND);
        let left: Vec<u32> = (0..20).map(|_| bucket.take_one().expect("a token")).collect();
        assert_eq!(left, (0..20).rev().collect::<Vec<_>>());
        let mut passed = 0;
        for _ in 0..1_000 {
            clock.advance(Duration::from_millis(10));
            passed += usize::from(bucket.take_one().is_ok());
        }
        assert_eq!(passed, 100, "ten seconds at ten a second");
    }

    #[test]
    fn the_wait_is_exact_to_the_nanosecond() {
        for (rate, period) in [(10, SECOND), (7, SECOND), (600, MINUTE), (10_000, SECOND), (1, HOUR)] {
            let (bucket, clock) = bucket(rate, period);
            while bucket.take_one().is_ok() {}
            let wait = bucket.take_one().expect_err("empty").wait.expect("it comes");
            clock.advance(wait - Duration::from_nanos(1));
            assert!(bucket.take_one().is_err(), "{rate} in {period:?}: too early");
            clock.advance(Duration::from_nanos(1));
            assert!(bucket.take_one().is_ok(), "{rate} in {period:?}: in time");
        }
    }

    #[test]
    fn a_batch_costs_its_items_and_passes_whole_after_the_wait() {
        let (bucket, clock) = bucket(10, SECOND);
        bucket.take_one().expect("a token");
        assert_eq!(bucket.take_rest(items(15)), Ok(Some(5)));
        bucket.take_one().expect("a token");
        let short = bucket.take_rest(items(8)).expect_err("seven more of four");
        assert_eq!((short.remaining, short.wait), (4, Some(Duration::from_millis(400))));
        // The refused call was charged for its first item, and is charged for it again.
        clock.advance(Duration::from_millis(400) - Duration::from_nanos(1));
        bucket.take_one().expect("a token");
        assert!(bucket.take_rest(items(8)).is_err(), "too early");
        let wait = bucket.take_one().and_then(|_| bucket.take_rest(items(8))).expect_err("too early").wait;
        clock.advance(wait.expect("it comes"));
        bucket.take_one().expect("a token");
        assert_eq!(bucket.take_rest(items(8)), Ok(Some(0)));
    }

    #[test]
    fn one_item_is_paid_for_already_and_more_than_the_burst_never_passes() {
        let (bucket, _) = bucket(10, SECOND);
        bucket.take_one().expect("a token");
        assert_eq!(bucket.take_rest(items(1)), Ok(None));
        assert_eq!(bucket.take_rest(items(20)), Ok(Some(0)), "the whole burst");
        assert_eq!(bucket.take_rest(items(21)).expect_err("too many").wait, None);
    }

    #[test]
    fn rates_are_shown_as_they_are_written() {
        let text = |items, period| ClassRate { items, period }.to_string();
        let items = items(600);
        assert_eq!([text(items, SECOND), text(items, MINUTE), text(items, HOUR)], ["600/s", "600/m", "600/h"]);
        assert_eq!(ClassRate::per_second(0).items.get(), 1);
        assert_eq!(ClassRate::per_second(u32::MAX).burst().get(), u32::MAX);
    }
}
