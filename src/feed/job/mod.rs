//! Watches of one job, which send every step of it.
//!
//! Layout: `step` is one change of a job; `topic` is the log of the steps of a followed job, once for all watches, and `topics` are all of them;
//! `follower` follows a job, `watcher` is one watch, and `reads` is what it reads; `holders` are the sessions that hold leases of a job.

pub mod follower;
pub mod holders;
pub mod reads;
pub mod step;
pub(super) mod topic;
pub(super) mod topics;
pub mod watcher;

#[cfg(test)]
mod tests;
