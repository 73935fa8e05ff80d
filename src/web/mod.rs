//! Browsers and curl on the port of gRPC: Connect, gRPC-Web and server-sent events, each converted to gRPC and back.
//!
//! The conversion lies outside of `admission`, which sees one kind of call: the same credentials, rates, deadlines,
//! bounds and counts apply to all.
//!
//! Invariants:
//! - A request of gRPC passes unchanged.
//! - A message that is not what it should be fails within `admission`, when its body is read; so are all errors that
//!   depend on the call. What is refused here by its origin has no call, and is not counted.
//! - A request of HTTP/1 is answered once its whole body has arrived, up to a bound; what is refused is dropped as it arrives.
//! - A message exists as it was received and as its encoding, each bounded by the limit of messages; what was received
//!   counts as bytes that are arriving.

mod errors;
mod front;
mod json;
mod origins;
mod page;
mod query;
mod reply;
mod request;
mod rest;
mod rpcs;
mod stream;

pub use front::front;
pub use origins::WebOptions;
pub use rest::read_rest;
