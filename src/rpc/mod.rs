//! The edge between the wire and the domain: what callers write is checked and made into domain values here, and what
//! the domain answers, refusals included, is made into messages and statuses.
//!
//! Layout: `services` holds the parts of the server that calls need; `caller` is one call. `job_service`, `worker_service`,
//! `record_service`, `permit_service`, `timeline`, `transaction_service` and `admin_service` name the function that answers each rpc, and
//! `routes` makes one router of them. `convert` turns messages into domain values and back; `filter`, `list` and `page` read
//! the queries of lists; `limits` has every limit that a caller can meet; `status` is the only mapping from
//! [`crate::error::Error`] to a gRPC status.
//!
//! **Invariants.** Nothing below this module uses a message of the protos. No two files import each other in a circle of more
//! than two.

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
mod queues;
mod record_reads;
mod record_service;
mod record_writes;
mod routes;
mod server_figures;
mod services;
mod stage_writes;
mod stale;
pub mod status;
mod streams;
mod submit_jobs;
mod timeline;
mod transaction_service;
mod waiters;
mod watch;
mod watch_records;
mod watch_resource;
mod work;
mod worker_instances;
mod worker_service;
mod workers;

pub use namespaces::Namespaces;
pub use operator::{OperatorCalls, operator_calls};
pub use routes::routes;
pub use server_figures::code_name;
pub use services::Services;
pub use timeline::gate::{GateSettings, TimelineGate};

#[cfg(test)]
mod tests;
