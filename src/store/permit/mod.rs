//! Resources with their permits and wait queues: loads, reads, and the rows that a commit writes.

pub(super) mod load;
pub mod queries;
mod stored;
pub mod waiters;
pub(super) mod write;
