//! Text that is mostly short: names and values of record fields, ids of records.
//!
//! [`SmolStr`] stores up to 23 bytes in place and shares longer text, so that copying a record, which has dozens of them, allocates nothing. The
//! type here exists because the store has to implement a trait of the Postgres driver for it.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use smol_str::SmolStr;

/// Immutable text of 24 bytes, cheap to clone. Ordered by its bytes, as the database orders text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Short(SmolStr);

impl Short {
    /// The text as a string slice.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<&str> for Short {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Short {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Arc<str>> for Short {
    fn from(text: Arc<str>) -> Self {
        Self(text.into())
    }
}

impl Borrow<str> for Short {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Deref for Short {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_no_larger_than_a_string_and_orders_by_bytes() {
        assert_eq!(size_of::<Short>(), size_of::<String>());
        let (long, full) = ("b".repeat(40), "c".repeat(23));
        let mut texts = ["b", "ü", "", "a", &long, "bb", "a\0", "\0", &full, &full[..22], "cccb"];
        let mut shorts = texts.map(Short::from);
        texts.sort_unstable();
        shorts.sort_unstable();
        assert_eq!(shorts, texts.map(Short::from));
    }
}
