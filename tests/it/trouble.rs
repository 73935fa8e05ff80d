//! The server when things around it break: other servers, the database, connections, callers.

mod turns;
