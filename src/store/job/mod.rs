//! Jobs with their stages, documents, leases and history: loads, reads, and the rows that a commit writes.

pub mod changes;
mod child_rows;
pub(super) mod in_row;
#[cfg(test)]
mod in_row_tests;
pub(super) mod job_rows;
pub(super) mod lease_reads;
pub(super) mod list;
pub(super) mod load;
pub(super) mod load_leases;
pub(super) mod partitions;
mod queries;
pub mod queues;
pub mod ready;
mod stored;
#[cfg(test)]
pub mod tables;
pub mod workers;
mod write;
