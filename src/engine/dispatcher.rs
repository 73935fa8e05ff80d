//! Placeholder while the engine is put together.
