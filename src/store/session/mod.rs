//! Timelines: loads, reads, lists, and the rows that a commit writes.

pub(super) mod list;
pub(super) mod load;
mod queries;
mod stored;
mod write;

pub use queries::ChangedSegments;
