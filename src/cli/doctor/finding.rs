//! One thing that was looked at.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and something is worth a look.
    Warn,
    /// It does not work, or what was acknowledged can be lost.
    Fail,
}

impl Level {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// What was looked at, what was found, and what to do.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// `database`, `server` or `client`.
    pub area: &'static str,
    /// What was looked at, such as the name of a setting.
    pub check: &'static str,
    /// What was found.
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

    /// Worth a look.
    pub fn warn(area: &'static str, check: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Warn, ..Self::ok(area, check, what) }
    }

    /// To be mended.
    pub fn fail(area: &'static str, check: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::ok(area, check, what) }
    }

    /// The same with what to do.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

/// Bytes as people say them.
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
