//! Rates of calls as people write them: `10000/s`, `600/m`, `off`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Calls per period: a whole number from 1 to 1,000,000 and one of `/s`, `/m`, `/h`, or `off` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRate(Option<(NonZeroU32, Period)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    Second,
    Minute,
    Hour,
}

impl CallRate {
    /// Calls are not limited.
    pub const OFF: Self = CallRate(None);
    /// The largest number in a period. More than that in a second is no limit in practice.
    const MAX: u32 = 1_000_000;

    /// `count` calls per second; 0 counts as 1.
    pub const fn per_second(count: u32) -> Self {
        match NonZeroU32::new(count) {
            Some(count) => CallRate(Some((count, Period::Second))),
            None => CallRate(Some((NonZeroU32::MIN, Period::Second))),
        }
    }

    /// The number and its period. None: no limit.
    pub fn get(self) -> Option<(NonZeroU32, Duration)> {
        let (count, period) = self.0?;
        let seconds = match period {
            Period::Second => 1,
            Period::Minute => 60,
            Period::Hour => 3_600,
        };
        Some((count, Duration::from_secs(seconds)))
    }
}

/// Splits `600/m` into 600 and `/m`.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

impl FromStr for CallRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "off" {
            return Ok(CallRate::OFF);
        }
        let parsed = split(text).and_then(|(number, unit)| {
            let count = u32::try_from(number).ok().filter(|count| *count <= CallRate::MAX);
            let period = match unit {
                "/s" => Period::Second,
                "/m" => Period::Minute,
                "/h" => Period::Hour,
                _ => return None,
            };
            Some(CallRate(Some((NonZeroU32::new(count?)?, period))))
        });
        let max = CallRate::MAX;
        parsed
            .ok_or_else(|| format!("`{text}` is not a rate such as 10000/s, 600/m or 1000/h, from 1 to {max}, or off"))
    }
}

impl fmt::Display for CallRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((count, period)) = self.0 else { return formatter.write_str("off") };
        let unit = match period {
            Period::Second => "s",
            Period::Minute => "m",
            Period::Hour => "h",
        };
        write!(formatter, "{count}/{unit}")
    }
}

impl Serialize for CallRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_per_period_or_off() {
        let rate = |text: &str| text.parse::<CallRate>().expect("valid").get();
        let items = |count| NonZeroU32::new(count).expect("above zero");
        assert_eq!(rate("10000/s"), Some((items(10_000), Duration::from_secs(1))));
        assert_eq!(rate("600 /m"), Some((items(600), Duration::from_secs(60))));
        assert_eq!(rate("1/h"), Some((items(1), Duration::from_secs(3_600))));
        assert_eq!(rate("off"), None);
        for wrong in ["10000", "0/s", "-1/s", "1.5/s", "1000001/s", "10/d", "/s", "", "none"] {
            let error = wrong.parse::<CallRate>().expect_err(wrong);
            assert!(error.contains(wrong) && error.contains("600/m"), "{error}");
        }
    }

    #[test]
    fn a_rate_parses_from_its_own_text() {
        for text in ["10000/s", "600/m", "1/h", "off"] {
            assert_eq!(text.parse::<CallRate>().expect("valid").to_string(), text);
        }
    }
}
