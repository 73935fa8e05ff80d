//! The tower layers that every call passes on its way in and out: statistics, panics, protocol errors, credentials,
//! rate limits, deadlines, arrival of messages, the in-flight limit, draining. `server` sets their order.
//!
//! Invariants:
//! - Every error made here goes through [`refusal()`], so that each has an `ErrorInfo`.
//! - Resources of a call (its place among those in flight, its gauge) are released when its response has been
//!   sent or its client has disconnected, not when the handler returns: streams live longer than handlers.
//! - No layer decodes a message. Only the rate limit looks inside, to count the occurrences of one field.

mod arrival;
mod credentials;
mod deadline;
mod drain;
mod ended;
mod held;
mod limit;
mod message;
mod methods;
mod namespace;
mod open_streams;
mod panic;
mod peer;
mod protocol;
mod rate;
mod refusal;
mod revoked;
mod roles;
mod sent;
mod shares;
mod shed;
mod statistics;
mod streams;
mod trace;
mod unsent;

use std::convert::Infallible;

use futures::future::BoxFuture;

pub use arrival::{ArrivalLimits, arrival};
pub use credentials::{DatabaseClock, FailureReason, Failures, KnownKeys, credentials};
pub use deadline::{Deadline, deadline};
pub use drain::end_watches;
pub use held::HeldBytes;
pub use limit::in_flight_limit;
pub use message::{MESSAGE_LIMIT_BYTES, MessageBody};
pub use methods::{CallClass, Method, Methods};
pub use namespace::{DEFAULT_NAMESPACE, NAMESPACE, fair_share};
pub use panic::catch_panics;
pub use peer::{Authenticated, Peer, network_of};
pub use protocol::protocol_errors;
pub use rate::{
    ClassFigures, ClassRate, ClientFigures, ClientRates, RateFigures, RateLimiter, StreamCharge, rate_limit,
    rate_limit_items,
};
pub use refusal::{DOMAIN, Outcome, RefusalBuilder, refusal};
pub use revoked::refuse_revoked;
pub use roles::{Access, RoleDenial};
pub use sent::UntilSent;
pub use shares::ConnectionShare;
pub use shed::{Overload, shed};
pub use statistics::{BUCKETS, CODES, CallSnapshot, MethodSnapshot, Statistics, statistics};
pub use streams::StreamLimits;
pub use trace::{note_principal, trace_calls};
pub use unsent::bound_watches;

/// Response type of all layers. With one body type, every layer can build a response.
pub type Response = http::Response<tonic::body::Body>;

/// Future of a layer; errors are responses too.
type Answer = BoxFuture<'static, Result<Response, Infallible>>;

/// Service below a layer.
trait Inner<B>: tower::Service<http::Request<B>, Response = Response, Error = Infallible, Future: Send + 'static> {}

impl<S, B> Inner<B> for S where
    S: tower::Service<http::Request<B>, Response = Response, Error = Infallible, Future: Send + 'static>
{
}
