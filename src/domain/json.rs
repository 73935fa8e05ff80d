//! JSON objects of callers, stored as text: the server passes them on and does not read them.

use std::sync::Arc;

/// Text of one JSON object, checked when the request is read: finite numbers, no NUL, at most 32 levels deep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document(Arc<str>);

impl Document {
    /// Wraps text that was checked to be a JSON object.
    pub fn from_checked(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The JSON text as a string slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The JSON text without the wrapper.
    pub fn into_text(self) -> Arc<str> {
        self.0
    }

    /// Size in bytes of the JSON text, which is what the limits count.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text has no bytes. False for every checked document.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
