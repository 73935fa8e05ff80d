//! Durations, sizes and rates as people write them: `30s`, `500ms`, `64MiB`, `10000/s`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration; written as a whole number and one of `ms`, `s`, `m`, `h`, `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

/// A size; written as a whole number of bytes, or with `KiB`, `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// A rate; written as a whole number from 1 to 1,000,000 and one of `/s`, `/m`, `/h`, or as `off` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRate(Option<(NonZeroU32, Period)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    Second,
    Minute,
    Hour,
}

impl CallRate {
    /// No limit.
    pub const OFF: Self = CallRate(None);
    /// The largest number in a period. More than that in a second is no limit in practice.
    const MAX: u32 = 1_000_000;

    /// So many a second, at least one.
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

impl Span {
    /// So many milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Span(Duration::from_millis(milliseconds))
    }

    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Span(Duration::from_secs(seconds))
    }

    /// As the standard library has it.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl ByteSize {
    /// So many mebibytes.
    pub const fn mebibytes(count: u64) -> Self {
        ByteSize(count << 20)
    }

    /// In bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Splits `30s` into 30 and `s`.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim()))
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = split(text).and_then(|(number, unit)| {
            let milliseconds = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            Some(Duration::from_millis(number.checked_mul(milliseconds)?))
        });
        parsed.map(Span).ok_or_else(|| format!("`{text}` is not a duration such as 500ms, 30s, 5m, 2h or 7d"))
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = split(text).and_then(|(number, unit)| {
            let bytes = match unit {
                "" | "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                _ => return None,
            };
            number.checked_mul(bytes)
        });
        parsed.map(ByteSize).ok_or_else(|| format!("`{text}` is not a size such as 4096, 512KiB, 64MiB or 1GiB"))
    }
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

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}ms", self.0.as_millis())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}B", self.0)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(ByteSize(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!("30s".parse(), Ok(Span::seconds(30)));
        assert_eq!("2h".parse(), Ok(Span::seconds(7_200)));
        assert_eq!("1500 ms".parse(), Ok(Span(Duration::from_millis(1_500))));
        for wrong in ["30", "", "s", "-1s", "1.5s", "99999999999999999999d"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        assert_eq!("64MiB".parse(), Ok(ByteSize::mebibytes(64)));
        assert_eq!("4096".parse(), Ok(ByteSize(4_096)));
        for wrong in ["64MB", "", "MiB", "99999999999GiB"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_a_number_in_a_period_or_off() {
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
    fn what_is_written_can_be_read_back() {
        for text in ["10000/s", "600/m", "1/h", "off"] {
            assert_eq!(text.parse::<CallRate>().expect("valid").to_string(), text);
        }
        let span: Span = "90s".parse().expect("valid");
        let size: ByteSize = "3KiB".parse().expect("valid");
        assert_eq!(span.to_string().parse(), Ok(span));
        assert_eq!(size.to_string().parse(), Ok(size));
    }
}
