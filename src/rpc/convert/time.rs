//! Moments and durations: `google.protobuf.Timestamp` and `Duration` on the wire, whole microseconds inside.

use std::time::Duration;

use jiff::civil::{self, DateTime};

use super::path::Path;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;

const MICROS: i64 = 1_000_000;
/// 0001-01-01 and 9999-12-31T23:59:59 in seconds, which is what the wire type may hold.
const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The shape of date and time in RFC 3339, see [`has_shape`].
const DATE_TIME: &str = "0000-00-00T00:00:00";
/// The smallest duration that is more than nothing here.
const TICK: Duration = Duration::from_micros(1);

/// Which durations a field takes, and how the refusal says it.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// The shortest duration that is accepted.
    pub min: Duration,
    /// The longest duration that is accepted.
    pub max: Duration,
    says: &'static str,
}

/// How long a lease lasts without being renewed.
pub const LEASE_DURATION: Range = Range { min: Duration::from_secs(1), max: DAY, says: "1 s to 24 hours" };
/// How long an ended job is kept.
pub const RETENTION: Range = Range { min: Duration::ZERO, max: DAY.saturating_mul(365), says: "0 to 365 days" };
/// How long a session is kept after its end.
pub const SESSION_RETENTION: Range =
    Range { min: Duration::ZERO, max: DAY.saturating_mul(3_650), says: "0 to 3,650 days" };
/// How long holders may go on after a cancel.
pub const GRACE_PERIOD: Range = Range { min: Duration::ZERO, max: DAY, says: "0 to 24 hours" };
/// How long a caller may ask to wait; see [`parse_wait`].
pub const WAIT: Range = Range { min: Duration::ZERO, max: Duration::from_secs(60), says: "0 to 60 s" };
/// How old the answer of a read may be.
pub const STALENESS: Range = Range { min: Duration::ZERO, max: Duration::from_secs(60), says: "0 to 60 s" };
/// The longest that a call waits, whatever was asked for. Proxies usually end a call after 60 s without a response.
pub const LONGEST_WAIT: Duration = Duration::from_secs(55);
/// How long an API key is valid.
pub const KEY_TTL: Range =
    Range { min: Duration::from_secs(1), max: DAY.saturating_mul(3_650), says: "1 s to 3,650 days" };
/// How long the token before a rotation stays valid.
pub const ROTATION_GRACE: Range = Range { min: Duration::ZERO, max: DAY.saturating_mul(7), says: "0 to 7 days" };
/// The default of the same.
pub const DEFAULT_ROTATION_GRACE: Duration = HOUR;
/// In which the tokens of a rate come.
pub const RATE_PER: Range = Range { min: Duration::from_millis(1), max: DAY, says: "1 ms to 24 hours" };
/// How far back a breaker looks.
pub const WINDOW: Range = Range { min: Duration::from_secs(1), max: HOUR, says: "1 s to 1 hour" };
/// How long a breaker is open, and how long a call may take.
pub const OPEN: Range = Range { min: Duration::from_millis(1), max: DAY, says: "1 ms to 24 hours" };
/// How long a called service asked to wait.
pub const RETRY_AFTER: Range = Range { min: Duration::ZERO, max: DAY, says: "0 to 24 hours" };
/// How long a run of a job may take.
pub const JOB_TIMEOUT: Range =
    Range { min: TICK, max: DAY.saturating_mul(365), says: "more than 0 and at most 365 days" };
/// How long an attempt of a stage may take.
pub const STAGE_TIMEOUT: Range =
    Range { min: TICK, max: DAY.saturating_mul(7), says: "more than 0 and at most 7 days" };
/// The waits of a retry policy.
pub const BACKOFF: Range = Range { min: Duration::ZERO, max: DAY, says: "0 to 24 hours" };
/// The random addition to a wait.
pub const JITTER: Range = Range { min: Duration::ZERO, max: HOUR, says: "0 to 1 hour" };

/// The domain's duration; what is finer than a microsecond is rounded up, so that nothing positive becomes zero.
pub fn parse_duration(given: &prost_types::Duration, range: Range, path: &Path) -> Result<Duration, Refusal> {
    let outside = || path.outside(range.says, shown(given));
    let seconds = u64::try_from(given.seconds).map_err(|_| outside())?;
    let nanos = u32::try_from(given.nanos).map_err(|_| outside())?;
    if nanos > 999_999_999 {
        return Err(path.refuse("nanos must be 0 to 999,999,999"));
    }
    let duration = Duration::from_secs(seconds).saturating_add(Duration::from_micros(u64::from(nanos.div_ceil(1_000))));
    if duration < range.min || duration > range.max {
        return Err(outside());
    }
    Ok(duration)
}

/// A duration as errors show it, such as `1.5 s`.
pub(super) fn shown(given: &prost_types::Duration) -> String {
    let sign = if given.seconds < 0 || given.nanos < 0 { "-" } else { "" };
    let fraction = format!("{:09}", given.nanos.unsigned_abs());
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{} s", given.seconds.unsigned_abs()),
        fraction => format!("{sign}{}.{fraction} s", given.seconds.unsigned_abs()),
    }
}

/// As [`parse_duration`], where there may be none.
pub fn parse_optional_duration(
    given: Option<&prost_types::Duration>,
    range: Range,
    path: &Path,
) -> Result<Option<Duration>, Refusal> {
    given.map(|given| parse_duration(given, range, path)).transpose()
}

/// The `wait` of a request, at most [`LONGEST_WAIT`]. All calls that wait read it here.
pub fn parse_wait(given: Option<&prost_types::Duration>, path: &Path) -> Result<Option<Duration>, Refusal> {
    let wait = parse_optional_duration(given, WAIT, path)?;
    Ok(wait.map(|wait| wait.min(LONGEST_WAIT)))
}

/// The domain's moment; what is finer than a microsecond is cut off.
pub fn parse_timestamp(given: &prost_types::Timestamp, path: &Path) -> Result<Timestamp, Refusal> {
    if !YEARS.contains(&given.seconds) {
        return Err(path.refuse("must be in the years 1 to 9999"));
    }
    if !(0..=999_999_999).contains(&given.nanos) {
        return Err(path.refuse("nanos must be 0 to 999,999,999"));
    }
    Ok(Timestamp(given.seconds * MICROS + i64::from(given.nanos / 1_000)))
}

/// Whether the wire, and the database, can hold a moment.
pub fn is_representable(at: Timestamp) -> bool {
    YEARS.contains(&at.0.div_euclid(MICROS))
}

/// A duration as a message.
pub fn duration(duration: Duration) -> prost_types::Duration {
    // Durations here are those of limits and of differences of database times, far below what an i64 counts.
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

/// A time as a message.
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.0.rem_euclid(MICROS) * 1_000;
    prost_types::Timestamp { seconds: at.0.div_euclid(MICROS), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// Parses an RFC 3339 timestamp such as `2026-01-31T08:00:00.5+01:00`; digits beyond microseconds are cut off. `None`: the text is not one, or
/// lies outside of the years 1 to 9999. Stricter than jiff: a zone is required, and a leap second (60) is refused.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date_time, rest) = text.split_at_checked(DATE_TIME.len())?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone_at);
    let is_fraction = |digits: &[u8]| (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    if !has_shape(date_time, DATE_TIME)
        || date_time.ends_with("60")
        || !(fraction.is_empty() || fraction.as_bytes().strip_prefix(b".").is_some_and(is_fraction))
    {
        return None;
    }
    let local: DateTime = text[..DATE_TIME.len() + zone_at].parse().ok()?;
    let since_1970 = local.duration_since(civil::date(1970, 1, 1).at(0, 0, 0, 0));
    let micros = i64::try_from(since_1970.as_nanos().div_euclid(1_000)).ok()?;
    let at = Timestamp(micros - offset_seconds(zone)? * MICROS);
    (local.year() >= 1 && is_representable(at)).then_some(at)
}

/// The offset from UTC in seconds, positive east of it: `Z` or `+01:00`.
fn offset_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let (sign, time) = zone.split_at_checked(1)?;
    if !has_shape(time, "00:00") {
        return None;
    }
    let (hours, minutes): (i64, i64) = (time[..2].parse().ok()?, time[3..].parse().ok()?);
    let seconds = hours * 3_600 + minutes * 60;
    (hours < 24 && minutes < 60).then_some(if sign == "-" { -seconds } else { seconds })
}

/// Whether a text has a digit wherever `shape` has `0`, a separator of date and time where it has `T`, and else the same characters.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => b"Tt ".contains(&byte),
        _ => byte == shape,
    };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(seconds: i64, nanos: i32) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos }
    }

    #[test]
    fn durations_keep_within_their_range() {
        let lease = |seconds, nanos| parse_duration(&wire(seconds, nanos), LEASE_DURATION, &Path::Root);
        assert_eq!(lease(1, 0), Ok(Duration::from_secs(1)));
        assert_eq!(lease(86_400, 0), Ok(DAY));
        assert_eq!(lease(1, 500_000_001), Ok(Duration::from_micros(1_500_001)));
        for (seconds, nanos) in
            [(0, 999_999_000), (86_400, 1), (-1, 0), (1, -1), (-1, -5), (i64::MAX, 999_999_999), (i64::MIN, 0)]
        {
            assert!(lease(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
        assert!(lease(2, 1_000_000_000).is_err());
        assert!(parse_duration(&wire(0, 0), JOB_TIMEOUT, &Path::Root).is_err());
        assert_eq!(parse_duration(&wire(0, 1), JOB_TIMEOUT, &Path::Root), Ok(TICK));
    }

    #[test]
    fn waits_end_before_proxies_give_up() {
        let wait = |seconds, nanos| parse_wait(Some(&wire(seconds, nanos)), &Path::Root);
        assert_eq!(wait(0, 0), Ok(Some(Duration::ZERO)));
        assert_eq!(wait(54, 999_999_000), Ok(Some(LONGEST_WAIT - TICK)));
        assert_eq!((wait(56, 0), wait(60, 0)), (Ok(Some(LONGEST_WAIT)), Ok(Some(LONGEST_WAIT))));
        assert_eq!(parse_wait(None, &Path::Root), Ok(None));
        assert!(wait(60, 1).is_err());
        assert!(LONGEST_WAIT <= WAIT.max - Duration::from_secs(5));
    }

    #[test]
    fn moments_survive_the_way_there_and_back() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000, 253_402_300_799_999_999] {
            let at = Timestamp(micros);
            assert_eq!(parse_timestamp(&timestamp(at), &Path::Root), Ok(at));
        }
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000), (253_402_300_800, 0)] {
            assert!(parse_timestamp(&prost_types::Timestamp { seconds, nanos }, &Path::Root).is_err());
        }
        assert_eq!(duration(Duration::from_micros(1_500_000)), wire(1, 500_000_000));
    }

    #[test]
    fn rfc_3339_is_read() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("2000-02-29T12:00:00z", 951_825_600_000_000),
            ("2026-01-31T08:00:00.5+01:00", 1_769_842_800_500_000),
            ("2026-01-31 07:00:00.123456789-00:30", 1_769_844_600_123_456),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000_000),
        ] {
            assert_eq!(parse_rfc3339(text), Some(Timestamp(micros)), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-01-31",
            "2026-01-31T08:00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T08:00:60Z",
            "2026-01-31T08:00:00.Z",
            "2026-01-31T08:00:00.1234567890Z",
            "2026-01-31T08:00:00+1:00",
            "2026-01-31T08:00:00+24:00",
            "2026-01-31T08:00:00Zx",
            "+026-01-31T08:00:00Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "2026-01-31T08:00:0üZ",
            "2026-01-31T08:00:00,5Z",
            "2026-01-31T08:00:00-24:00",
            "2026-01-31T08:00:00+01",
            "2026-01-31T08:00:00+01:00:30",
            "2026-01-31T08:00:00Z[UTC]",
            "2026-01-31T08:60:00Z",
            "2026-00-31T08:00:00Z",
            "2026-01-31_08:00:00Z",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
