//! JSON of callers, stored as text: the server passes objects on unread, and changes values by operations on fields.

use std::sync::Arc;

use super::short::Short;

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

/// Text of one JSON value of any type, compact, with sorted keys, checked when the request is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Short);

impl Json {
    /// Wraps text that was checked to be a JSON value.
    pub fn from_checked(text: impl Into<Short>) -> Self {
        Self(text.into())
    }

    /// The JSON text as a string slice.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Size in bytes of the JSON text.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text has no bytes. False for every checked value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Document> for Json {
    fn from(document: Document) -> Self {
        Self(document.into_text().into())
    }
}
