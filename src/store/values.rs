//! Values of the domain as columns hold them.

use std::sync::Arc;
use std::time::Duration;

use super::pg::types::JsonText;
use crate::domain::id::StageNo;
use crate::domain::json::Document;

/// The stored state of a job that is RUNNING with a failure; the API has RUNNING for both.
pub(in crate::store) const FAILING: i16 = 8;

pub(in crate::store) fn owned(text: &Arc<str>) -> String {
    text.to_string()
}

pub(in crate::store) fn text(document: &Document) -> JsonText {
    JsonText(document.as_str().into())
}

/// A duration, in microseconds.
pub(in crate::store) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The number of a stage.
pub(in crate::store) fn stage_no(no: StageNo) -> i32 {
    i32::try_from(no).expect("a job has at most 10,000 stages")
}
