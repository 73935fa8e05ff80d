//! The rules of resources, and resources as everybody may see them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::path::Path;
use super::time;
use crate::domain::permit::policy::{AdaptivePolicy, BreakerPolicy, Policy, RatePolicy};
use crate::domain::permit::resource::{Reset, Resource, Revocation};
use crate::domain::permit::{BlockReason, MAX_AMOUNT, Permit};
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::proto;

/// Rates of one resource.
const MAX_RATES: usize = 8;
/// The most holders in a response.
const MAX_HOLDERS: usize = 100;

/// The rules of a resource.
pub fn policy(given: &proto::ResourcePolicy, path: &Path) -> Result<Policy, Refusal> {
    if given.rates.len() > MAX_RATES {
        return Err(path.field("rates").refuse(format!("has {} rates, {MAX_RATES} are allowed", given.rates.len())));
    }
    let rates = path.field("rates");
    let interval = path.field("min_interval");
    let min_interval = time::parse_optional_duration(given.min_interval.as_ref(), time::JITTER, &interval)?;
    Ok(Policy {
        capacity: given.capacity.map(|capacity| bounded(capacity, 0, &path.field("capacity"))).transpose()?,
        adaptive: given.adaptive.as_ref().map(|given| adaptive(given, &path.field("adaptive"))).transpose()?,
        rates: given
            .rates
            .iter()
            .enumerate()
            .map(|(i, given)| rate(given, &rates.index(i)))
            .collect::<Result<_, _>>()?,
        min_interval: min_interval.filter(|interval| !interval.is_zero()),
        breaker: given.breaker.as_ref().map(|given| breaker(given, &path.field("breaker"))).transpose()?,
    })
}

fn bounded(given: i64, least: i64, path: &Path) -> Result<i64, Refusal> {
    if (least..=MAX_AMOUNT).contains(&given) {
        return Ok(given);
    }
    Err(path.outside(format_args!("{least} to 1,000,000"), given))
}

fn within(given: f64, range: std::ops::RangeInclusive<f64>, says: &str, path: &Path) -> Result<f64, Refusal> {
    // NaN is in no range.
    if range.contains(&given) { Ok(given) } else { Err(path.outside(says, given)) }
}

fn count(given: Option<i32>, usual: u32, range: std::ops::RangeInclusive<u32>, path: &Path) -> Result<u32, Refusal> {
    let Some(given) = given else { return Ok(usual) };
    match u32::try_from(given).ok().filter(|given| range.contains(given)) {
        Some(given) => Ok(given),
        None => Err(path.outside(format_args!("{} to {}", range.start(), range.end()), given)),
    }
}

fn rate(given: &proto::RateLimit, path: &Path) -> Result<RatePolicy, Refusal> {
    let period_path = path.field("period");
    let period = given.period.as_ref().ok_or_else(|| period_path.missing())?;
    let tokens = bounded(given.tokens, 1, &path.field("tokens"))?;
    let burst = if given.burst == 0 { tokens } else { bounded(given.burst, 1, &path.field("burst"))? };
    Ok(RatePolicy { amount: tokens, per: time::parse_duration(period, time::RATE_PER, &period_path)?, burst })
}

fn adaptive(given: &proto::AdaptiveLimit, path: &Path) -> Result<AdaptivePolicy, Refusal> {
    let min = if given.min == 0 { 1 } else { bounded(given.min, 1, &path.field("min"))? };
    let max = bounded(given.max, 1, &path.field("max"))?;
    if max < min {
        return Err(path.field("max").outside(format_args!("at least min, {min}"), max));
    }
    let usual = AdaptivePolicy::up_to(max);
    let (increase, decrease) = (given.increase.unwrap_or(usual.increase), given.decrease.unwrap_or(usual.decrease));
    let says = "more than 0 and up to 1,000";
    let latency = path.field("latency_target");
    Ok(AdaptivePolicy {
        min,
        increase: within(increase, f64::MIN_POSITIVE..=1_000.0, says, &path.field("increase"))?,
        decrease: within(decrease, 0.01..=0.99, "0.01 to 0.99", &path.field("decrease"))?,
        latency_target: time::parse_optional_duration(given.latency_target.as_ref(), time::OPEN, &latency)?,
        learn_rate: given.learn_rate,
        ..usual
    })
}

fn breaker(given: &proto::CircuitBreaker, path: &Path) -> Result<BreakerPolicy, Refusal> {
    let usual = BreakerPolicy::default();
    let duration = |given: &Option<prost_types::Duration>, range, usual: Duration, path: &Path| {
        Ok::<_, Refusal>(time::parse_optional_duration(given.as_ref(), range, path)?.unwrap_or(usual))
    };
    let share =
        |given: f64| within(given, f64::MIN_POSITIVE..=1.0, "more than 0 and up to 1", &path.field("failure_ratio"));
    let open_for = duration(&given.open_duration, time::OPEN, usual.open_for, &path.field("open_duration"))?;
    let longest = usual.max_open.max(open_for);
    let multiplier = given.open_multiplier.unwrap_or(usual.open_multiplier);
    let threshold = path.field("failure_threshold");
    Ok(BreakerPolicy {
        failure_threshold: count(given.failure_threshold, usual.failure_threshold, 0..=1_000, &threshold)?,
        failure_ratio: given.failure_ratio.map(share).transpose()?,
        window: duration(&given.window, time::WINDOW, usual.window, &path.field("window"))?,
        min_calls: count(given.min_calls, usual.min_calls, 1..=100_000, &path.field("min_calls"))?,
        min_reporters: count(given.min_reporters, usual.min_reporters, 1..=16, &path.field("min_reporters"))?,
        open_for,
        open_multiplier: within(multiplier, 1.0..=10.0, "1 to 10", &path.field("open_multiplier"))?,
        max_open: duration(&given.max_open_duration, time::OPEN, longest, &path.field("max_open_duration"))?,
        probes: count(given.probes, usual.probes, 1..=100, &path.field("probes"))?,
        open_limit: count(given.open_limit, usual.open_limit, 0..=1, &path.field("open_limit"))?,
    })
}

fn policy_to_proto(policy: &Policy) -> proto::ResourcePolicy {
    let rate = |rate: &RatePolicy| proto::RateLimit {
        tokens: rate.amount,
        period: Some(time::duration(rate.per)),
        burst: rate.burst,
    };
    let adaptive = |adaptive: &AdaptivePolicy| proto::AdaptiveLimit {
        min: adaptive.min,
        max: adaptive.max,
        increase: Some(adaptive.increase),
        decrease: Some(adaptive.decrease),
        latency_target: adaptive.latency_target.map(time::duration),
        learn_rate: adaptive.learn_rate,
    };
    proto::ResourcePolicy {
        capacity: policy.capacity,
        adaptive: policy.adaptive.as_ref().map(adaptive),
        rates: policy.rates.iter().map(rate).collect(),
        min_interval: policy.min_interval.map(time::duration),
        breaker: policy.breaker.as_ref().map(breaker_to_proto),
    }
}

fn breaker_to_proto(breaker: &BreakerPolicy) -> proto::CircuitBreaker {
    let number = |number: u32| Some(i32::try_from(number).unwrap_or(i32::MAX));
    proto::CircuitBreaker {
        failure_threshold: number(breaker.failure_threshold),
        failure_ratio: breaker.failure_ratio,
        window: Some(time::duration(breaker.window)),
        min_calls: number(breaker.min_calls),
        min_reporters: number(breaker.min_reporters),
        open_duration: Some(time::duration(breaker.open_for)),
        open_multiplier: Some(breaker.open_multiplier),
        max_open_duration: Some(time::duration(breaker.max_open)),
        probes: number(breaker.probes),
        open_limit: number(breaker.open_limit),
    }
}

/// A resource at a moment, with what this server has counted of it.
pub fn resource(resource: &Resource, denials: &[u64; BlockReason::ALL.len()], now: Timestamp) -> proto::Resource {
    let state = &resource.state;
    let policy = resource.policy.as_deref();
    let tokens = policy.into_iter().flat_map(|policy| policy.rates.iter().zip(&state.buckets));
    let open_until = state.breaker.as_ref().and_then(|breaker| breaker.changes_at()).filter(|at| *at > now);
    let hold_until = state.adaptive.as_ref().and_then(|adaptive| adaptive.hold_until()).filter(|at| *at > now);
    let denied = BlockReason::ALL.iter().zip(denials).filter(|(_, count)| **count > 0);
    let denied: BTreeMap<String, i64> =
        denied.map(|(reason, count)| (reason.name().to_owned(), i64::try_from(*count).unwrap_or(i64::MAX))).collect();
    proto::Resource {
        name: resource.name.to_string(),
        policy: policy.map(policy_to_proto),
        limit: resource.limit(),
        in_use: resource.in_use(),
        permit_count: length(resource.held()),
        waiter_count: length(resource.wait_queue.len()),
        stages_waiting: state.stages.is_some(),
        available_tokens: tokens.map(|(rate, bucket)| bucket.available(rate, now)).collect(),
        breaker_state: resource.breaker_phase(now),
        breaker_open_until_time: open_until.map(time::timestamp),
        throttled_until_time: hold_until.map(time::timestamp),
        learned_rate: state.adaptive.as_ref().and_then(|adaptive| adaptive.learned_rate()),
        grant_count: state.grants,
        denials: denied,
        fencing_token: resource.fencing_token,
        version: resource.version,
        holders: resource.held_permits().take(MAX_HOLDERS).map(|permit| holder(permit)).collect(),
        resets: state.resets.iter().rev().map(reset).collect(),
        create_time: Some(time::timestamp(resource.create_time)),
        update_time: Some(time::timestamp(resource.update_time)),
        revocations: state.revocations.iter().rev().map(revocation).collect(),
    }
}

fn holder(permit: &Permit) -> proto::PermitHolder {
    proto::PermitHolder {
        holder: permit.holder.to_string(),
        mode: permit.mode as i32,
        amount: permit.amount,
        fencing_token: permit.fencing_token,
        grant_time: Some(time::timestamp(permit.granted_at)),
        expire_time: permit.expires_at.map(time::timestamp),
        probe: permit.is_probe(),
    }
}

fn reset(reset: &Reset) -> proto::BreakerReset {
    proto::BreakerReset {
        reset_time: Some(time::timestamp(reset.at)),
        requester: reset.requester.to_string(),
        reason: reset.reason.clone(),
        previous_state: reset.from,
    }
}

fn revocation(revocation: &Revocation) -> proto::PermitRevocation {
    proto::PermitRevocation {
        revoke_time: Some(time::timestamp(revocation.at)),
        requester: revocation.requester.to_string(),
        reason: revocation.reason.clone(),
        fencing_token: revocation.fencing_token,
        holder: revocation.holder.to_string(),
    }
}

fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
