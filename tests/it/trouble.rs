//! The server when things around it break: other servers, the database, connections, callers.

mod cancelled;
mod held_up;
mod load;
mod postgres;
mod turns;
