//! Callers that hang up.
