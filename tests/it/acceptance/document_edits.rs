//! Batched edits of shared documents: one editor per document at a time, a vendor that is strict and fails now and then, and permits
//! that keep its rules for all workers.

mod breaker;
mod editors;
mod groups;
mod servers;
mod strict;
mod vendor;
mod waiting;
