//! Decisions in memory: what the semantics promise, sentence by sentence, and random histories against a model.
//!
//! No database: a [`bench::Bench`] holds the state between operations, plays the store's part (it proves that reaped leases
//! have expired) and lets [`checks`] look at every single step, so that each table test is also a test of the invariants.

pub mod bench;
pub mod build;
mod cancelling;
mod checks;
mod committed;
mod credentials;
mod direct;
mod failing;
mod fan_in;
mod fleet;
mod groups;
mod late_holders;
mod leases;
mod lifecycle;
mod permits;
mod progress;
mod replans;
mod requests;
mod reruns;
mod retries;
mod stage_queues;
mod timeline_repeats;
mod timelines;
