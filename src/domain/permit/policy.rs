//! What somebody decided about a resource: how many at once, how often, and when not at all.
//!
//! All values are stored, those of defaults too: a default that changes in a later version does not change what was decided.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Who gets a permit and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// How many permits are out at most at once; 0 lets nobody in, `None` is without such a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i64>,
    /// A limit that finds itself, below `capacity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptivePolicy>,
    /// How often permits are given; all of the at most 8 hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RatePolicy>,
    /// The least time between two grants, in whole microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_micros")]
    pub min_interval: Option<Duration>,
    /// When failures close the resource for a while.
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

/// A rate: `amount` tokens in each `per`, of which at most `burst` gather while nobody takes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatePolicy {
    /// Tokens that arrive in each `per`: 1 to 1,000,000.
    pub amount: i64,
    /// The time in which they arrive, one after another: 1 ms to 24 h, in whole microseconds.
    #[serde(with = "micros")]
    pub per: Duration,
    /// How many tokens gather at most: 1 to 1,000,000.
    pub burst: i64,
}

/// When failures close the resource, and how it is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BreakerPolicy {
    /// So many failures in a row open it; 0: it does not open by count. Default 3.
    pub failure_threshold: u32,
    /// Such a share of failures among the calls of the window opens it: above 0, at most 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<f64>,
    /// How far back the share looks, to a tenth of it. Default 60 s.
    #[serde(with = "micros")]
    pub window: Duration,
    /// With fewer calls in the window the share says nothing: 1 or more. Default 10.
    pub min_calls: u32,
    /// So many different reporters must have failed before it opens: 1 to 16. Default 1.
    pub min_reporters: u32,
    /// How long it stays open at first. Default 60 s.
    #[serde(with = "micros")]
    pub open_for: Duration,
    /// By what that grows with each time that a probe failed: 1 to 100. Default 1.
    pub open_multiplier: f64,
    /// The longest time it stays open. Default 1 h.
    #[serde(with = "micros")]
    pub max_open: Duration,
    /// How many probes are out at once, and how many must succeed to close it: 1 or more. Default 1.
    pub probes: u32,
    /// 1: while it is open, one permit at a time is given all the same; 0: none. Default 0.
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

/// How a limit finds itself: it grows with successes and shrinks where the called service is overloaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdaptivePolicy {
    /// The limit never falls below this, and starts here: 1 or more. Default 1.
    pub min: i64,
    /// The limit never grows beyond this: `min` or more.
    pub max: i64,
    /// What is added for each `limit` successes: above 0, at most 1000. Default 1.
    pub increase: f64,
    /// The factor of a decrease: above 0, below 1. Default 0.5.
    pub decrease: f64,
    /// A success that took longer counts as overload; in whole microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_micros")]
    pub latency_target: Option<Duration>,
    /// Whether the rate that the service allows is learned too, from its refusals.
    #[serde(default)]
    pub learn_rate: bool,
}

impl AdaptivePolicy {
    /// The defaults with a greatest limit.
    pub fn up_to(max: i64) -> Self {
        Self { min: 1, max, increase: 1.0, decrease: 0.5, latency_target: None, learn_rate: false }
    }
}

/// Durations as whole microseconds: a number is shorter than serde's pair of seconds and nanoseconds.
pub(super) mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }
}

/// The same for what may be absent.
mod optional_micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::micros::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_were_written() -> Result<(), serde_json::Error> {
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
