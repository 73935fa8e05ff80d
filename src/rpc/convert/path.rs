//! The path of a field in a request, for errors. A path is a chain on the stack and becomes text only in an error, so that ten
//! thousand valid stages cost no allocation.

use std::fmt;

use crate::domain::refusal::Refusal;

/// Characters of a refused text that an error shows.
const SHOWN: usize = 40;

/// The path of a field, such as `jobs[2].stages[0].name`.
#[derive(Clone, Copy, Debug)]
pub enum Path<'a> {
    /// The request, whose path is empty.
    Root,
    /// A field of what the parent names.
    Field(&'a Path<'a>, &'a str),
    /// An element of the list that the parent names.
    Index(&'a Path<'a>, usize),
    /// An entry of the map that the parent names.
    Key(&'a Path<'a>, &'a str),
}

impl<'a> Path<'a> {
    /// The path of a field below this one.
    pub fn field(&'a self, name: &'a str) -> Path<'a> {
        Path::Field(self, name)
    }

    /// The path of an element of this list.
    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }

    /// An entry of this map. The key is any text that the caller chose.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }

    /// Refuses the value at this path as INVALID_FIELD.
    pub fn refuse(&self, why: impl Into<String>) -> Refusal {
        Refusal::field(self.to_string(), why)
    }

    /// Refuses a value outside of what is allowed, and names it.
    pub fn outside(&self, allowed: impl fmt::Display, found: impl fmt::Display) -> Refusal {
        self.refuse(format!("must be {allowed}, not {found}"))
    }

    /// Refuses a number that no value of an enum has.
    pub fn unknown(&self, number: i32) -> Refusal {
        self.refuse(format!("is {number}, which is no value of this enum"))
    }

    /// Refuses a text that does not match a pattern, and shows its first characters.
    pub fn mismatch(&self, pattern: &str, found: &str) -> Refusal {
        let shown: String = found.chars().take(SHOWN).collect();
        let rest = if shown.len() < found.len() { "…" } else { "" };
        self.refuse(format!("must match {pattern}, not {shown:?}{rest}"))
    }

    /// Refuses the absence of a required field.
    pub fn missing(&self) -> Refusal {
        self.refuse("is required")
    }

    /// Refuses a token or id that is present and empty, since an absent one means something else.
    pub fn empty(&self) -> Refusal {
        self.refuse("must not be empty")
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Path::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Key(parent, key) => {
                write!(f, "{parent}")?;
                write_key(f, key)
            }
        }
    }
}

/// Writes a key of the caller's own so that the path stays readable and short, whatever the key is.
pub(super) fn write_key(f: &mut impl fmt::Write, key: &str) -> fmt::Result {
    const SHOWN: usize = 64;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.is_empty() && key.len() <= SHOWN && key.bytes().all(plain) {
        write!(f, ".{key}")
    } else if key.len() <= SHOWN {
        write!(f, "[{key:?}]")
    } else {
        write!(f, "[{:?}…]", beginning(key, SHOWN))
    }
}

/// The beginning of a text, at most `bytes` long.
pub fn beginning(text: &str, bytes: usize) -> &str {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= bytes).last();
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_like_the_request() {
        let root = Path::Root;
        let jobs = root.field("jobs");
        let job = jobs.index(2);
        let stages = job.field("stages");
        let stage = stages.index(0);
        assert_eq!(stage.field("name").to_string(), "jobs[2].stages[0].name");
        let labels = job.field("labels");
        assert_eq!(labels.key("team").to_string(), "jobs[2].labels.team");
        assert_eq!(labels.key("a b\n").to_string(), "jobs[2].labels[\"a b\\n\"]");
        assert_eq!(["", "a", "aü", "aüb"].map(|text| beginning(text, 2)), ["", "a", "a", "a"]);
        assert!(labels.key(&"x".repeat(1_000)).to_string().len() < 100);
    }
}
