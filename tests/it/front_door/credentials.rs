//! Calls with every kind of credential: permitted or refused.

mod audits;
mod canary;
mod certificates;
mod exposure;
mod namespaces;
mod outages;
mod revocation;
mod roles;
pub mod scene;
mod slow_messages;
