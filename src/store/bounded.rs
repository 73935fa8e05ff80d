//! Counts that end at a bound.

use serde::{Deserialize, Serialize};

/// A number of rows, counted up to a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BoundedCount {
    /// The number, at most the bound.
    pub count: i32,
    /// Whether there are more.
    pub is_capped: bool,
}

impl BoundedCount {
    /// The count of a statement that counts one row more than the bound where there are more.
    pub(in crate::store) fn of(found: i64, bound: i64) -> Self {
        Self { count: i32::try_from(found.min(bound)).unwrap_or(i32::MAX), is_capped: found > bound }
    }
}

/// A position in a list by name: the name behind which the next page begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCursor {
    /// The name.
    pub name: String,
}

impl NameCursor {
    /// A position behind a name.
    pub(in crate::store) fn after(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}
