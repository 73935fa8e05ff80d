//! The server when things around it break: other servers, the database, connections, callers.

mod abandoned_watches;
mod absent;
mod cancelled;
#[cfg(feature = "failpoints")]
mod crash_points;
mod health;
mod leadership;
pub mod load;
mod locked_records;
mod locked_rows;
mod migrations;
mod overloaded;
mod poolers;
mod postgres;
mod postgres_tls;
mod private;
mod replica;
mod waits;
