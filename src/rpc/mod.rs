//! The edge between the wire and the domain: what callers write is checked and made into domain values here, and what
//! the domain answers, refusals included, is made into messages and statuses.
//!
//! Layout: `services` is what serves every call, with the routes; `caller` is one call. `job_service`, `worker_service`, `record_service`, `permit_service`,
//! `transaction_service` and `admin_service` say which function answers which rpc; `keys` and `audit` are its credentials and its log. `convert` turns messages into domain values and back; `filter`,
//! `list` and `page` read what list calls carry; `limits` has every size that a caller can hit; `status` is the only map
//! from [`crate::error::Error`] to a gRPC status. Nothing below this module knows a message of the protos.

mod acquire;
mod admin_service;
mod audit;
mod caller;
mod commit;
pub mod convert;
pub mod explain;
pub mod filter;
mod heartbeat;
mod job_reads;
mod job_service;
mod job_writes;
mod keys;
mod lease_repeats;
mod leases;
pub mod limits;
pub mod list;
mod namespaces;
mod operator;
mod outcomes;
pub mod page;
mod permit_reads;
mod permit_service;
mod permit_writes;
mod record_reads;
mod record_service;
mod record_writes;
mod server_figures;
mod services;
mod stage_writes;
pub mod status;
mod streams;
mod submit_jobs;
mod transaction_service;
mod watch;
mod watch_records;
mod watch_resource;
mod work;
mod worker_service;

pub use namespaces::Namespaces;
pub use operator::{OperatorCalls, operator_calls};
pub use server_figures::code_name;
pub use services::{Services, routes};

#[cfg(test)]
mod tests;
