//! Policy of a resource: capacity, rates, interval, circuit breaker.
//!
//! All values are stored, those of defaults too, so that a default that changes in a later version does not change stored policies.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::micros;

/// Rules by which permits of a resource are granted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Maximum amount in use at once. 0: nothing is granted. `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i64>,
    /// Limit that adapts to the outcomes of calls, at most `capacity`. `None`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptivePolicy>,
    /// Rates, at most 8, which all have to be met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RatePolicy>,
    /// Minimum time between two grants, in whole microseconds. `None`: none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "micros::optional")]
    pub min_interval: Option<Duration>,
    /// Circuit breaker. `None`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerPolicy>,
}

impl Policy {
    /// The largest amount of a shared claim that can ever be granted. None: there is no such limit.
    pub fn largest(&self) -> Option<i64> {
        let capacity = self.capacity.filter(|capacity| *capacity > 0);
        let highest = self.adaptive.as_ref().map(|adaptive| adaptive.max);
        capacity.into_iter().chain(highest).chain(self.rates.iter().map(|rate| rate.burst)).min()
    }
}

/// Rate of a token bucket: `amount` tokens arrive per `per`, and the bucket holds at most `burst`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatePolicy {
    /// Tokens that arrive per `per`: 1 to 1,000,000.
    pub amount: i64,
    /// Period in which `amount` tokens arrive, evenly spread: 1 ms to 24 h, in whole microseconds.
    #[serde(with = "micros")]
    pub per: Duration,
    /// Size of the bucket in tokens: 1 to 1,000,000.
    pub burst: i64,
}

/// Circuit breaker: when failures open it, and how it closes again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BreakerPolicy {
    /// Number of consecutive failures that opens it. 0: it does not open by count. Default 3.
    pub failure_threshold: u32,
    /// Ratio of failures to calls in the window that opens it: above 0, at most 1. `None`: it does not open by ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<f64>,
    /// Length of the window of `failure_ratio`, accurate to a tenth of it. Default 60 s.
    #[serde(with = "micros")]
    pub window: Duration,
    /// Minimum number of calls in the window for `failure_ratio` to apply: 1 or more. Default 10.
    pub min_calls: u32,
    /// Minimum number of different holders that must have failed: 1 to 16. Default 1.
    pub min_reporters: u32,
    /// Time that it stays open at first. Default 60 s.
    #[serde(with = "micros")]
    pub open_for: Duration,
    /// Factor by which that time grows with each failed probe: 1 to 100. Default 1.
    pub open_multiplier: f64,
    /// Longest time that it stays open. Default 1 h.
    #[serde(with = "micros")]
    pub max_open: Duration,
    /// Number of concurrent probes, and of successful probes that close it: 1 or more. Default 1.
    pub probes: u32,
    /// Permits that are granted at a time while it is open: 0 or 1. Default 0.
    pub open_limit: u32,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failure_threshold: 3,
            failure_ratio: None,
            window: Duration::from_secs(60),
            min_calls: 10,
            min_reporters: 1,
            open_for: Duration::from_secs(60),
            open_multiplier: 1.0,
            max_open: Duration::from_secs(3600),
            probes: 1,
            open_limit: 0,
        }
    }
}

/// Adaptive limit: it grows with successes and shrinks when the called service is overloaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptivePolicy {
    /// Lowest limit, at which it starts: 1 or more. Default 1.
    pub min: i64,
    /// Highest limit: `min` or more.
    pub max: i64,
    /// Increase per `limit` successes: above 0, at most 1000. Default 1.
    pub increase: f64,
    /// Factor of a decrease: above 0, below 1. Default 0.5.
    pub decrease: f64,
    /// Latency above which a success counts as overload, in whole microseconds. `None`: no success does.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "micros::optional")]
    pub latency_target: Option<Duration>,
    /// Whether the rate that the service allows is learned too, from its refusals. Experimental, see `learner.rs`.
    #[serde(default)]
    pub learn_rate: bool,
}

impl AdaptivePolicy {
    /// The defaults with this highest limit.
    pub fn up_to(max: i64) -> Self {
        Self { min: 1, max, increase: 1.0, decrease: 0.5, latency_target: None, learn_rate: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_round_trip_through_json() -> Result<(), serde_json::Error> {
        let policy = Policy {
            capacity: Some(0),
            adaptive: Some(AdaptivePolicy {
                latency_target: Some(Duration::from_millis(250)),
                learn_rate: true,
                ..AdaptivePolicy::up_to(50)
            }),
            rates: vec![RatePolicy { amount: 20, per: Duration::from_secs(1), burst: 40 }],
            min_interval: Some(Duration::from_micros(1500)),
            breaker: Some(BreakerPolicy { failure_ratio: Some(0.3), ..BreakerPolicy::default() }),
        };
        for policy in [policy, Policy::default()] {
            let text = serde_json::to_string(&policy)?;
            assert_eq!(serde_json::from_str::<Policy>(&text)?, policy, "{text}");
        }
        assert_eq!(serde_json::to_string(&Policy::default())?, "{}");
        assert_eq!(serde_json::from_str::<BreakerPolicy>("{}")?, BreakerPolicy::default());
        Ok(())
    }
}
