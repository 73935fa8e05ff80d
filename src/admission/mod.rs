//! The tower layers that every call passes on its way in and out: statistics, panics, protocol errors, credentials, rate limits, deadlines,
//! arrival of messages, the in-flight limit, draining. `server` puts them in order.
//!
//! Invariants:
//! - Every error that is made here goes through [`refusal()`], so that each carries an `ErrorInfo`.
//! - Whatever a call has taken (its place among those in flight, its gauge) is given back when its response has been
//!   sent or its client has gone, not when the handler returns: streams live longer than handlers.
//! - Nothing here decodes a message. Only the rate limit looks inside, to count how often one field occurs.

mod arrival;
mod credentials;
mod deadline;
mod drain;
mod ended;
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

use std::convert::Infallible;

use futures::future::BoxFuture;

pub use arrival::{ArrivalLimits, arrival};
pub use credentials::{DatabaseClock, FailureReason, Failures, KnownKeys, credentials};
pub use deadline::{Deadline, deadline};
pub use drain::end_watches;
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

/// The response type of all layers. One body type lets a layer answer by itself.
pub type Response = http::Response<tonic::body::Body>;

/// The future of a layer; errors are responses too.
type Answer = BoxFuture<'static, Result<Response, Infallible>>;

/// The service below a layer.
trait Inner<B>: tower::Service<http::Request<B>, Response = Response, Error = Infallible, Future: Send + 'static> {}

impl<S, B> Inner<B> for S where
    S: tower::Service<http::Request<B>, Response = Response, Error = Infallible, Future: Send + 'static>
{
}
