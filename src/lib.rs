//! Interlock: a coordination server for jobs of stages, over Postgres, behind gRPC.
//!
//! Layout, in the order in which a request goes down: `cli` and `app` put the parts together; `server` and `admission` let
//! calls in; `rpc` turns messages into operations and results into messages; `operation` decides, in the `engine`, on what
//! the `store` has loaded; `domain` is what it decides about; `feed` tells who waits. `task` does what is due by the clock.
//! `figures` are what all of them count; `config`, `telemetry`, `spans`, `failpoint` and `dev` (a private Postgres) stand beside.

pub mod admission;
pub mod app;
pub mod bench;
pub mod cli;
pub mod codec;
pub mod config;
pub mod credentials;
pub mod dev;
pub mod domain;
pub mod engine;
pub mod error;
pub mod failpoint;
pub mod feed;
pub mod figures;
pub mod operation;
pub mod proto;
pub mod rpc;
pub mod server;
pub mod spans;
pub mod store;
pub mod task;
pub mod telemetry;
