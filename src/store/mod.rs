//! The only place that knows Postgres: connections, the group commit, loads, queries and migrations.
//!
//! SQL stands in files under `sql/`, one statement (or one part of the commit statement) each.

pub mod commit;
pub mod connection;
pub mod load;
pub mod migrate;
pub mod partitions;
pub mod pool;
pub mod types;
