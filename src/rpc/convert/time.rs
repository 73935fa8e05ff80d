//! Moments and durations: `google.protobuf.Timestamp` and `Duration` on the wire, whole microseconds inside.

use std::time::Duration;

use super::path::Path;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;

const MICROS: i64 = 1_000_000;
/// 0001-01-01 and 9999-12-31T23:59:59 in seconds, which is what the wire type may hold.
const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
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
/// How long holders may go on after a cancel.
pub const GRACE_PERIOD: Range = Range { min: Duration::ZERO, max: DAY, says: "0 to 24 hours" };
/// How long a caller may ask to wait; see [`parse_wait`].
pub const WAIT: Range = Range { min: Duration::ZERO, max: Duration::from_secs(60), says: "0 to 60 s" };
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
fn shown(given: &prost_types::Duration) -> String {
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

/// A moment written as RFC 3339, such as `2026-01-31T08:00:00.5+01:00`; `None` if it is none.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    if !text.is_ascii() || text.len() < "2026-01-31T08:00:00Z".len() {
        return None;
    }
    let (date_time, rest) = text.split_at("2026-01-31T08:00:00".len());
    let bytes = date_time.as_bytes();
    let fixed = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if fixed.iter().any(|&(at, sign)| bytes[at] != sign) || !b"Tt ".contains(&bytes[10]) {
        return None;
    }
    let year = number(&date_time[..4])?;
    let month = number(&date_time[5..7]).filter(|month| (1..=12).contains(month))?;
    let day = number(&date_time[8..10]).filter(|day| (1..=days_in(year, month)).contains(day))?;
    let hour = number(&date_time[11..13]).filter(|hour| *hour < 24)?;
    let minute = number(&date_time[14..16]).filter(|minute| *minute < 60)?;
    let second = number(&date_time[17..19]).filter(|second| *second < 60)?;
    let (micros, zone) = fraction(rest)?;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset(zone)?;
    (year >= 1 && YEARS.contains(&seconds)).then(|| Timestamp(seconds * MICROS + micros))
}

/// Microseconds of a fraction such as `.25`, cut off after six digits, and what follows it.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(digits) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = digits.bytes().position(|b| !b.is_ascii_digit())?;
    let (digits, zone) = digits.split_at(end);
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let micros = format!("{digits:0<6}");
    Some((number(&micros[..6])?, zone))
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" || zone == "z" {
        return Some(0);
    }
    let bytes = zone.as_bytes();
    if bytes.len() != 6 || bytes[3] != b':' {
        return None;
    }
    let hours = number(&zone[1..3]).filter(|hours| *hours < 24)?;
    let minutes = number(&zone[4..6]).filter(|minutes| *minutes < 60)?;
    match bytes[0] {
        b'+' => Some(hours * 3_600 + minutes * 60),
        b'-' => Some(-(hours * 3_600 + minutes * 60)),
        _ => None,
    }
}

/// Digits only: no sign, no space.
fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar: years are counted from March, so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
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
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
