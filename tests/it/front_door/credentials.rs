//! Every call is made as somebody whose credential permits it, or refused.

mod canary;
mod namespaces;
mod outages;
mod revocation;
mod roles;
mod scene;
