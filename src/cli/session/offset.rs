//! Times relative to the start of a session, such as `1m30s`.

use prost_types::Duration;

/// Units with their length in nanoseconds. Where one begins with another, the longer one is first.
const UNITS: [(&str, u128); 6] = [
    ("ms", 1_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("sec", 1_000_000_000),
    ("s", 1_000_000_000),
];
/// Nanoseconds per second.
const SECOND: u128 = 1_000_000_000;
/// Maximum number of digits before and after a decimal point.
const DIGITS: usize = 9;

/// Reads a time such as `1m30s`, `1h 2m 3.5s` or `90.5`, which is in seconds.
///
/// # Errors
/// If the text is no time.
pub fn parse_offset(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a time such as 1m30s, 2.5s or 90 (seconds)".to_owned();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanos = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        let unit = UNITS.iter().find(|(name, _)| behind.starts_with(name));
        let (name, unit) = match unit {
            Some(unit) => *unit,
            // A number alone is in seconds.
            None if behind.is_empty() && number.len() == text.trim().len() => ("", SECOND),
            None => return Err(wrong()),
        };
        nanos += scaled(number, unit).ok_or_else(wrong)?;
        rest = behind[name.len()..].trim_start();
    }
    let seconds = i64::try_from(nanos / SECOND).map_err(|_| wrong())?;
    let nanos = i32::try_from(nanos % SECOND).map_err(|_| wrong())?;
    Ok(Duration { seconds, nanos })
}

/// A decimal number times a unit. None: it is no number, or has too many digits.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.len() > DIGITS || fraction.len() > DIGITS {
        return None;
    }
    let parts = (whole.parse::<u128>().ok()?, fraction.parse::<u128>().ok()?);
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(parts.0 * unit + parts.1 * unit / scale)
}

/// A time in hours, minutes and seconds, such as `1m2.5s`; empty for None.
pub fn offset_text(offset: Option<Duration>) -> String {
    let Some(Duration { seconds, nanos }) = offset else { return String::new() };
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    for (number, unit) in [(hours, "h"), (minutes, "m")] {
        if number > 0 {
            text += &format!("{number}{unit}");
        }
    }
    let fraction = format!("{nanos:09}");
    match fraction.trim_end_matches('0') {
        "" if seconds == 0 && !text.is_empty() => text,
        "" => format!("{text}{seconds}s"),
        fraction => format!("{text}{seconds}.{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("90", 90, 0),
            ("90.5", 90, 500_000_000),
            ("1m30s", 90, 0),
            ("1h 2min 3.25s", 3_723, 250_000_000),
            ("1500ms", 1, 500_000_000),
            ("0.5h", 1_800, 0),
            (" 2s ", 2, 0),
            ("1.000000001s", 1, 1),
        ] {
            assert_eq!(parse_offset(text), Ok(Duration { seconds, nanos }), "{text}");
        }
        for text in ["", "s", "-1s", "1m30", "1x", "1..5s", ".", "1s2", "9999999999s", "1:30"] {
            assert!(parse_offset(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        for text in ["0s", "1.5s", "1m", "1m30s", "1m0.5s", "1h", "1h30s", "2h3m4.025s", "168h"] {
            assert_eq!(offset_text(parse_offset(text).ok()), text);
        }
        assert_eq!(offset_text(None), "");
    }
}
