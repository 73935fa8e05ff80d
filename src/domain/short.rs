//! Text that is mostly short: names and values of fields, ids of records.
//!
//! Up to 22 bytes stand in place, so that copying, comparing and dropping them touches no memory elsewhere; a record has dozens. Longer
//! text is shared.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that stand in place.
pub const IN_PLACE: usize = 22;

/// A text that does not change.
#[derive(Clone)]
pub struct Short(Inner);

#[derive(Clone)]
enum Inner {
    InPlace { len: u8, bytes: [u8; IN_PLACE] },
    Shared(Arc<str>),
}

impl Short {
    /// The bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Inner::InPlace { len, bytes } => &bytes[..usize::from(*len)],
            Inner::Shared(text) => text.as_bytes(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Inner::InPlace { .. } => std::str::from_utf8(self.as_bytes()).expect("it was made of text"),
            Inner::Shared(text) => text,
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes with zeroes behind them, and how many are of the text, if it stands in place.
    pub fn padded(&self) -> Option<(&[u8; IN_PLACE], usize)> {
        match &self.0 {
            Inner::InPlace { len, bytes } => Some((bytes, usize::from(*len))),
            Inner::Shared(_) => None,
        }
    }

    fn in_place(text: &str) -> Option<Self> {
        let mut bytes = [0; IN_PLACE];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        let len = u8::try_from(text.len()).ok()?;
        Some(Self(Inner::InPlace { len, bytes }))
    }
}

impl From<&str> for Short {
    fn from(text: &str) -> Self {
        Self::in_place(text).unwrap_or_else(|| Self(Inner::Shared(text.into())))
    }
}

impl From<String> for Short {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Arc<str>> for Short {
    fn from(text: Arc<str>) -> Self {
        Self::in_place(&text).unwrap_or(Self(Inner::Shared(text)))
    }
}

impl Deref for Short {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Short {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            // All bytes, as many as there is room for, are compared faster than some: behind the text they are zero.
            (Inner::InPlace { len, bytes }, Inner::InPlace { len: other_len, bytes: other }) => {
                len == other_len && bytes == other
            }
            (Inner::InPlace { .. } | Inner::Shared(_), _) => self.as_bytes() == other.as_bytes(),
        }
    }
}

impl Eq for Short {}

impl PartialOrd for Short {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Short {
    /// The order of bytes, which is that of text and of the database.
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Inner::InPlace { len, bytes }, Inner::InPlace { len: other_len, bytes: other }) => {
                let (a, b) = (numbers(bytes), numbers(other));
                a.cmp(&b).then(len.cmp(other_len))
            }
            (Inner::InPlace { .. } | Inner::Shared(_), _) => self.as_bytes().cmp(other.as_bytes()),
        }
    }
}

/// Bytes as numbers of the same order, which are compared at once and not one by one.
fn numbers(bytes: &[u8; IN_PLACE]) -> (u128, u64) {
    let (mut first, mut last) = ([0; 16], [0; 8]);
    first.copy_from_slice(&bytes[..16]);
    last.copy_from_slice(&bytes[IN_PLACE - 8..]);
    (u128::from_be_bytes(first), u64::from_be_bytes(last))
}

impl Hash for Short {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
        // No text has this byte, so two texts in a row cannot be mistaken for two others.
        state.write_u8(0xff);
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_wherever_it_stands() {
        for bytes in [0, 1, 21, 22, 23, 100] {
            let text = "ü".repeat(bytes / 2) + &"x".repeat(bytes % 2);
            let short = Short::from(text.as_str());
            assert_eq!((short.as_str(), short.len(), short.is_empty()), (text.as_str(), bytes, bytes == 0));
            assert_eq!(short, Short::from(Arc::from(text.as_str())));
            assert_eq!(short.to_string(), text);
        }
    }

    #[test]
    fn texts_are_in_the_order_of_their_bytes() {
        let long = "b".repeat(40);
        let (full, fuller) = (format!("{}a", "c".repeat(21)), format!("{}ab", "c".repeat(21)));
        let mut texts = ["b", "ü", "", "a", &long, "bb", "a\0", "\0", &full, &fuller, &full[..21], &full[..16], "cccb"];
        let mut shorts = texts.map(Short::from);
        texts.sort_unstable();
        shorts.sort_unstable();
        assert_eq!(shorts, texts.map(Short::from));
    }

    #[test]
    fn it_is_no_larger_than_a_string() {
        assert_eq!(size_of::<Short>(), size_of::<String>());
    }
}
