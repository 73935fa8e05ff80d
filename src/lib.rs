//! Interlock: a coordination server for jobs of stages, over Postgres, behind gRPC.

pub mod domain;
pub mod error;
pub mod proto;
pub mod rpc;
pub mod store;
