//! Interlock: a coordination server for jobs of stages, over Postgres, behind gRPC.

pub mod domain;
pub mod engine;
pub mod error;
pub mod feed;
pub mod operation;
pub mod proto;
pub mod rpc;
pub mod store;
