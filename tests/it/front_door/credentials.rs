//! Every call is made as somebody whose credential permits it, or refused.

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
