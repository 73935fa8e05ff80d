//! The key ring and its credentials: reads, and the rows that a commit writes.

mod queries;
mod stored;
mod write;

pub use queries::{changed_keys, lock_key_ring};
