//! Interlock: a gRPC coordination server over Postgres.
//!
//! The shell around the engine: `cli` → `app` and `server` → `admission`; `config` reads the settings, `dev` brings a
//! private Postgres, `telemetry` sets up logs.

pub mod admission;
pub mod app;
pub mod cli;
pub mod config;
pub mod dev;
pub mod server;
pub mod telemetry;
