//! That no more tokens come than the rate gives, whatever the clock does.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn rate(amount: i64, per_micros: u64, burst: i64) -> RatePolicy {
    RatePolicy { amount, per: Duration::from_micros(per_micros), burst }
}

fn any_rate() -> impl Strategy<Value = RatePolicy> {
    let amount = prop_oneof![1..=10i64, 1..=1_000_000i64];
    let per = prop_oneof![1_000..=2_000_000u64, 1_000..=86_400_000_000u64];
    let burst = prop_oneof![1..=10i64, 1..=1_000_000i64];
    (amount, per, burst).prop_map(|(amount, per, burst)| rate(amount, per, burst))
}

#[test]
fn a_full_bucket_gives_its_burst_and_then_one_token_after_another() {
    let rate = rate(10, 1_000_000, 3);
    let mut bucket = TokenBucket::full(&rate, Timestamp(0));
    assert_eq!(bucket.available(&rate, Timestamp(0)), 3);
    bucket.take(&rate, 3, Timestamp(0));
    assert_eq!(bucket.available(&rate, Timestamp(99_999)), 0);
    assert_eq!(bucket.wait(&rate, 1, Timestamp(0)), Duration::from_millis(100));
    assert_eq!(bucket.wait(&rate, 3, Timestamp(50_000)), Duration::from_millis(250));
    assert_eq!(bucket.available(&rate, Timestamp(100_000)), 1);
    assert_eq!(bucket.available(&rate, Timestamp(i64::MAX)), 3);
}

#[test]
fn a_claim_above_the_burst_waits_forever() {
    let rate = rate(10, 1_000_000, 3);
    let bucket = TokenBucket::full(&rate, Timestamp(0));
    assert_eq!(bucket.wait(&rate, 4, Timestamp(0)), Duration::MAX);
    assert_eq!(bucket.wait(&rate, i64::MAX, Timestamp(0)), Duration::MAX);
    assert_eq!(bucket.wait(&rate, 0, Timestamp(0)), Duration::ZERO);
    assert_eq!(bucket.wait(&rate, -1, Timestamp(0)), Duration::ZERO);
}

#[test]
fn a_clock_that_goes_back_creates_no_tokens() {
    let rate = rate(1, 1_000_000, 5);
    let mut bucket = TokenBucket::full(&rate, Timestamp(10_000_000));
    bucket.take(&rate, 5, Timestamp(10_000_000));
    bucket.take(&rate, 0, Timestamp(0));
    assert_eq!(bucket.available(&rate, Timestamp(10_999_999)), 0);
    assert_eq!(bucket.wait(&rate, 1, Timestamp(4_000_000)), Duration::from_secs(7));
    assert_eq!(bucket.available(&rate, Timestamp(11_000_000)), 1);
}

#[test]
fn a_token_bucket_does_not_drift_over_a_million_steps() {
    // Rates and steps with tokens that are not binary fractions.
    for (amount, per, step) in [(1, 1_000, 333), (7, 1_000_003, 13), (3, 86_400_000_000, 999_983), (999_999, 1_001, 1)]
    {
        let rate = rate(amount, per, 1_000_000);
        let mut bucket = TokenBucket::full(&rate, Timestamp(0));
        bucket.take(&rate, 1_000_000, Timestamp(0));
        let (mut now, mut taken) = (Timestamp(0), 0i128);
        for _ in 0..1_000_000 {
            now = now.after(Duration::from_micros(step));
            let there = bucket.available(&rate, now);
            bucket.take(&rate, there, now);
            taken += i128::from(there);
        }
        assert_eq!(taken, i128::from(now.0) * i128::from(amount) / i128::from(per), "{amount} per {per} µs");
    }
}

#[test]
fn adopting_a_rate_keeps_the_missing_tokens() {
    let old = rate(1, 1_000_000, 10);
    let mut bucket = TokenBucket::full(&old, Timestamp(0));
    bucket.take(&old, 4, Timestamp(0));
    let wider = rate(1, 60_000_000, 100);
    bucket.adopt(&old, &wider, Timestamp(500_000));
    // 3.5 are missing of 100.
    assert_eq!(bucket.available(&wider, Timestamp(500_000)), 96);
    assert_eq!(bucket.wait(&wider, 97, Timestamp(500_000)), Duration::from_secs(30));
    let narrow = rate(1, 1_000_000, 2);
    bucket.adopt(&wider, &narrow, Timestamp(500_000));
    assert_eq!(bucket.available(&narrow, Timestamp(500_000)), 0);
    assert_eq!(bucket.wait(&narrow, 1, Timestamp(500_000)), Duration::from_secs(1));
}

#[test]
fn a_token_bucket_is_stored_as_two_numbers() -> Result<(), serde_json::Error> {
    let bucket = TokenBucket::full(&rate(1, 1_000, 2), Timestamp(5));
    let text = serde_json::to_string(&bucket)?;
    assert_eq!(text, r#"{"l":2000,"a":5}"#);
    assert_eq!(serde_json::from_str::<TokenBucket>(&text)?, bucket);
    Ok(())
}

proptest! {
    #[test]
    fn no_interval_gives_more_than_burst_and_rate(
        rate in any_rate(),
        // Steps from nothing to hours, some of them back; how many hundredths of what is there are taken.
        steps in vec((prop_oneof![0..=5_000i64, 0..=5_000_000_000i64, -1_000_000..=0i64], 0..=100i64), 1..60),
    ) {
        let mut bucket = TokenBucket::full(&rate, Timestamp(0));
        let (mut now, mut latest, mut takes) = (0i64, 0i64, Vec::new());
        for (step, share) in steps {
            now += step;
            let taken = bucket.available(&rate, Timestamp(now)) * share / 100;
            prop_assert_eq!(bucket.wait(&rate, taken, Timestamp(now)), Duration::ZERO);
            bucket.take(&rate, taken, Timestamp(now));
            // By a clock that only goes forward, which is the strictest reading of "in any interval".
            latest = latest.max(now);
            takes.push((latest, i128::from(taken)));
        }
        for (first, (from, _)) in takes.iter().enumerate() {
            let mut sum = 0i128;
            for (to, taken) in &takes[first..] {
                sum += taken;
                let token = i128::try_from(rate.per.as_micros()).unwrap_or(i128::MAX);
                let allowed = i128::from(rate.burst) * token + i128::from(rate.amount) * i128::from(to - from);
                prop_assert!(sum * token <= allowed, "{sum} tokens from {from} to {to}");
            }
        }
    }

    #[test]
    fn tokens_are_available_exactly_after_the_computed_wait(
        rate in any_rate(),
        spent in 0..=1_000_000i64,
        asked in 1..=1_000_000i64,
        step in prop_oneof![-1_000_000..=0i64, 0..=10_000_000i64],
    ) {
        let mut bucket = TokenBucket::full(&rate, Timestamp(0));
        bucket.take(&rate, spent % (rate.burst + 1), Timestamp(0));
        let (asked, now) = (asked % rate.burst + 1, Timestamp(step));
        prop_assume!(asked <= rate.burst);
        let wait = bucket.wait(&rate, asked, now);
        prop_assert!(bucket.available(&rate, now.after(wait)) >= asked);
        if let Some(less) = wait.checked_sub(Duration::from_micros(1)) {
            prop_assert!(bucket.available(&rate, now.after(less)) < asked);
        }
        let before = bucket.available(&rate, now.after(wait));
        bucket.take(&rate, asked, now.after(wait));
        prop_assert_eq!(bucket.available(&rate, now.after(wait)), before - asked);
    }

    #[test]
    fn adopting_keeps_the_bounds_and_the_same_rate_changes_nothing(
        old in any_rate(), new in any_rate(), spent in 0..=1_000_000i64, step in -1_000_000..=10_000_000i64,
    ) {
        let mut bucket = TokenBucket::full(&old, Timestamp(0));
        bucket.take(&old, spent, Timestamp(0));
        let now = Timestamp(step);
        let mut same = bucket.clone();
        same.adopt(&old, &old, now);
        for asked in [1, old.burst] {
            prop_assert_eq!(same.wait(&old, asked, now), bucket.wait(&old, asked, now));
        }
        let missing = old.burst - bucket.available(&old, now);
        bucket.adopt(&old, &new, now);
        let there = bucket.available(&new, now);
        prop_assert!((0..=new.burst).contains(&there));
        // Whole tokens: what is missing by the old count is `missing` or up to one less.
        prop_assert!(there >= (new.burst - missing).max(0) && there <= (new.burst - missing + 1).clamp(0, new.burst));
    }

    #[test]
    fn nothing_overflows(
        amount in any::<i64>(), burst in any::<i64>(), per in any::<u64>(), level in any::<i64>(),
        at in any::<i64>(), now in any::<i64>(), asked in any::<i64>(),
    ) {
        let rate = rate(amount, per, burst);
        let mut bucket = TokenBucket { level, at: Timestamp(at) };
        bucket.wait(&rate, asked, Timestamp(now));
        bucket.take(&rate, asked, Timestamp(now));
        bucket.adopt(&rate, &RatePolicy { amount: burst, per: rate.per, burst: amount }, Timestamp(now));
        prop_assert!(bucket.available(&rate, Timestamp(now)) >= 0);
    }
}
