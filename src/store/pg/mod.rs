//! Postgres itself: hosts and connections, pools, health, migrations, and the values that travel.

pub mod connection;
pub mod health;
pub mod held;
pub mod inspect;
pub mod listen;
pub mod log_position;
pub mod migrate;
pub mod no_connection;
pub mod pool;
pub mod reader;
mod sessions;
pub mod snapshot;
mod target;
mod target_hosts;
pub mod target_text;
mod tls;
pub mod types;
pub mod walk;
