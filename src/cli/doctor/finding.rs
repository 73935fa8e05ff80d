//! The result of one check.

use serde::Serialize;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// The check passed.
    Ok,
    /// It works, but needs attention.
    Warn,
    /// It does not work, or acknowledged writes can be lost.
    Fail,
}

impl Level {
    /// The label in the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// A check, its result, and what to do.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// `database`, `server` or `client`.
    pub area: &'static str,
    /// Name of the check, such as that of a setting.
    pub check: &'static str,
    /// Result of the check.
    pub what: String,
    /// What to do. Empty: nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(area: &'static str, check: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, area, check, what: what.into(), advice: String::new() }
    }

    /// A finding that works but needs attention.
    pub fn warn(area: &'static str, check: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Warn, ..Self::ok(area, check, what) }
    }

    /// A finding that must be fixed.
    pub fn fail(area: &'static str, check: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::ok(area, check, what) }
    }

    /// Adds what to do.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

/// A size in its largest binary unit.
pub fn bytes(bytes: f64) -> String {
    let (mut left, mut unit) = (bytes.max(0.0), "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if left < 1024.0 {
            break;
        }
        (left, unit) = (left / 1024.0, next);
    }
    if unit == "B" { format!("{left:.0} B") } else { format!("{left:.1} {unit}") }
}
