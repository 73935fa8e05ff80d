//! Messages into domain values, with every check a single request allows, and domain values into messages.
//!
//! **Invariants.** What leaves here towards the domain is within the limits and free of control characters and NUL where
//! the contract says so. A refusal names the field by its full path. Nothing here is quadratic in what a caller sends.

pub mod change;
pub mod current;
pub mod digest;
pub mod document;
pub mod event;
pub mod failure;
pub mod job;
pub mod key;
pub mod lease;
pub mod path;
pub mod permit;
pub mod policy;
pub mod record;
pub mod recording;
pub mod retry;
pub mod segment;
pub mod session;
pub mod stage;
pub mod steer;
pub mod submit;
pub mod text;
pub mod time;
pub mod worker;
