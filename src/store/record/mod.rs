//! Records with their fields: loads, reads, and the rows that a commit writes.

pub mod collections;
mod fields_text;
pub(super) mod list;
pub(super) mod load;
mod queries;
mod stored;
mod write;
