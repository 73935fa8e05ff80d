//! Interlock: a coordination server for jobs of stages, over Postgres, behind gRPC.
//!
//! Layout, in the order in which a request goes down: `cli` and `app` put the parts together; `server` and `admission` let
//! calls in, and `web` converts those of browsers and curl; `rpc` turns messages into operations and results into messages;
//! `operation` decides, in the `engine`, on what the `store` has loaded; `domain` is what it decides about; `feed` wakes and
//! informs what waits for commits. `task` does what is due by the clock.
//! `figures` are what all of them count; `config`, `telemetry`, `spans`, `failpoint` and `dev` (a private Postgres) stand beside.
//!
//! Modules are public if the program or `tests/it` uses them.

pub mod admission;
pub mod app;
mod bench;
pub mod cli;
mod codec;
pub mod config;
mod credentials;
pub mod dev;
pub mod domain;
mod engine;
mod error;
pub mod failpoint;
mod feed;
mod figures;
mod operation;
pub mod proto;
mod rpc;
mod sending;
pub mod server;
mod spans;
pub mod store;
mod task;
mod telemetry;
mod web;
