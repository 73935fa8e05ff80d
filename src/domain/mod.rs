//! What Interlock knows about jobs, stages, leases and retries, as pure and synchronous state machines.
//!
//! Nothing here does I/O, reads a clock or draws random numbers: the moment, the secrets and the jitter are
//! arguments. So every transition can be replayed in a test, and decided again when another server was faster.
//!
//! Layout: `id` and `time` are the words everything speaks; `failure` and `retry` decide what an error leads to;
//! `stage`, `stage_table` and `graph` are the parts of a [`job::Job`]; `lease` is a lease as it is stored; `job::Edit` holds the transitions;
//! `access` is who may do what, `credential` how they prove it; `permit` are rights to use what must be shared with care; `record` are named `fields`, mostly of `short` texts, `field_op`
//! what can happen to them, and `equality` when two values are equal;
//! `event` is what history keeps of them; `documents` is what travels beside a job; `query` and `record_query` are what lists are asked for; `ready` is the order in which stages are leased; `refusal` is every way to say no.

pub mod access;
pub mod aggregate;
pub mod audit;
pub mod credential;
pub mod current;
pub mod documents;
pub mod equality;
pub mod event;
pub mod failure;
pub mod field_op;
pub mod fields;
pub mod graph;
pub mod id;
pub mod job;
pub mod json;
pub mod lease;
pub mod namespace;
pub mod permit;
pub mod query;
pub mod ready;
pub mod record;
pub mod record_query;
pub mod refusal;
pub mod request;
pub mod retry;
pub mod short;
pub mod stage;
mod stage_phase;
pub mod stage_table;
pub mod time;
