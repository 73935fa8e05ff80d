//! Domain: jobs, stages, leases, retries, records, permits, timelines and credentials as pure, synchronous state machines.
//!
//! Nothing here does I/O, reads a clock or draws random numbers: time, secrets and jitter are arguments. So every transition can be replayed in
//! a test, and decided again after a concurrent write.
//!
//! Layout of the modules:
//! - `id`, `time`, `namespace`, `short`, `json`: identities and values that everything uses.
//! - `job` (with [`job::JobTx`], which has the transitions), `stage`, `stage_table`, `graph`, `lease`, `failure`, `retry`, `event`, `ready`,
//!   `documents`: jobs.
//! - `record`, `fields`, `field_op`, `equality`: records. `permit`: resources and permits. `session`: timelines.
//! - `access`, `credential`, `audit`: authorization. `request`: remembered requests.
//! - `query`, `record_query`, `session::query`: queries of lists. `timeline`: search, export and figures of segments. `refusal`, `current`: refusals
//!   and the state that they return.

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
pub mod session;
pub mod short;
pub mod stage;
mod stage_phase;
pub mod stage_table;
pub mod time;
pub mod timeline;
