//! The user's own JSON objects, kept as text: the server passes them on and never looks inside.

use std::sync::Arc;

/// The text of one JSON object, checked at the edge: finite numbers, no NUL, at most 32 levels deep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document(Arc<str>);

impl Document {
    /// Takes text that is known to be a JSON object.
    pub fn from_checked(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The JSON text for another owner.
    pub fn into_text(self) -> Arc<str> {
        self.0
    }

    /// Size in bytes of the JSON text, which is what the limits count.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text has no bytes, which no document has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
