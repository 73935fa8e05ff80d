//! The edge between the wire and the domain: what callers write is checked and made into domain values here, and what
//! the domain answers, refusals included, is made into messages and statuses.
//!
//! Layout: `convert` turns messages into domain values and back; `filter` and `page` read what list calls carry;
//! `limits` has every size that a caller can hit; `status` is the only map from [`crate::error::Error`] to a gRPC status.
//! Nothing below this module knows a message of the protos.

pub mod convert;
pub mod filter;
pub mod limits;
pub mod list;
pub mod page;
pub mod status;
