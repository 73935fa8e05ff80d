//! Passes a call on when its message has arrived in full, and bounds the calls and bytes that have not.
//!
//! A call that has only begun costs its sender a few bytes, so it gets neither a place among the calls in flight nor
//! memory for the message until the message is there. Until then it counts towards the arriving calls and their bytes,
//! of which each connection has a share; beyond the share a call is refused. A message must arrive at a minimal rate.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body::Body;
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::message::MessageBody;
use super::refusal::Outcome;
use super::shares::{self, ConnectionShare, Pool};
use super::{Inner, Response, methods, refusal};

/// Arriving calls that a connection may always have. Calls of honest clients arrive at once.
const ALWAYS_CALLS: usize = 16;
/// Arriving bytes that a connection may always have: enough for small messages.
const ALWAYS_BYTES: usize = 16 << 10;
/// Retry delay of refused calls. A message of usual size arrives in this time.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Limits of calls that have not arrived in full.
#[derive(Debug, Clone, Copy)]
pub struct ArrivalLimits {
    /// Maximum size of a message, in bytes.
    pub message_bytes: u32,
    /// Maximum number of arriving calls of the server; each connection has a share of them.
    pub calls: usize,
    /// Maximum number of bytes of messages that have not arrived in full, for the whole server.
    /// Each connection has a share.
    pub bytes: usize,
    /// Time until the first message begins, and time for each message. Larger messages get more, by `bytes_per_second`.
    pub time: Duration,
    /// Minimum rate: each received byte extends the time by its share of a second.
    pub bytes_per_second: u32,
}

/// Calls and bytes that are arriving at a server.
#[derive(Debug)]
pub(super) struct Arrivals {
    pub(super) limits: ArrivalLimits,
    calls: Pool,
    bytes: Pool,
}

impl Arrivals {
    pub(super) fn new(limits: ArrivalLimits) -> Arc<Arrivals> {
        let (calls, bytes) = (Pool::new(limits.calls, ALWAYS_CALLS), Pool::new(limits.bytes, ALWAYS_BYTES));
        Arc::new(Arrivals { limits, calls, bytes })
    }
}

/// Resources of one arriving call; dropping releases them.
#[derive(Debug)]
pub(super) struct Arrival {
    arrivals: Arc<Arrivals>,
    connection: ConnectionShare,
    is_counted: bool,
    bytes: usize,
}

impl Arrival {
    pub(super) fn new(arrivals: Arc<Arrivals>, connection: ConnectionShare) -> Arrival {
        Arrival { arrivals, connection, is_counted: false, bytes: 0 }
    }

    /// Counts the call as arriving, with `bytes` of memory so far. Error: the share of the connection is used up.
    pub(super) fn waits_with(&mut self, bytes: usize) -> Result<(), Status> {
        if !self.is_counted {
            if !self.arrivals.calls.take(&self.connection.0.arriving, 1) {
                return Err(overloaded("calls", self.arrivals.limits.calls));
            }
            self.is_counted = true;
        }
        // While a call is arriving, its bytes never become fewer.
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.arrivals.bytes.take(&self.connection.0.arriving_bytes, more) {
            return Err(overloaded("bytes", self.arrivals.limits.bytes));
        }
        self.bytes += more;
        Ok(())
    }

    /// Releases the resources: the message is complete, or the call has ended.
    pub(super) fn finish(&mut self) {
        if std::mem::take(&mut self.is_counted) {
            self.arrivals.calls.give_back(&self.connection.0.arriving, 1);
        }
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 {
            self.arrivals.bytes.give_back(&self.connection.0.arriving_bytes, bytes);
        }
    }

    pub(super) fn limits(&self) -> ArrivalLimits {
        self.arrivals.limits
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.finish();
    }
}

fn overloaded(what: &str, limit: usize) -> Status {
    let message = format!("too many {what} have not arrived in full, on this connection or on all");
    refusal(Code::ResourceExhausted, "OVERLOADED", Outcome::NotApplied, message)
        .with("limit", limit.to_string())
        .retry_after(RETRY_AFTER)
        .into_status()
}

/// Passes calls on when they have arrived: unary calls with their message, client streams with the first one.
pub fn arrival<S>(limits: ArrivalLimits) -> LayerFn<impl Fn(S) -> Arriving<S> + Clone> {
    // One count for all clones of the service: each connection has its own clone.
    let arrivals = Arrivals::new(limits);
    layer_fn(move |inner| Arriving { inner, arrivals: Arc::clone(&arrivals) })
}

/// The service that [`arrival()`] puts around another.
#[derive(Debug, Clone)]
pub struct Arriving<S> {
    inner: S,
    arrivals: Arc<Arrivals>,
}

impl<S, B> tower::Service<Request<B>> for Arriving<S>
where
    S: Inner<MessageBody<B>, Future: Unpin> + Clone + Unpin,
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ArrivingCall<S, B, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = methods::of(&request);
        let arrival = Arrival::new(Arc::clone(&self.arrivals), shares::of(&request));
        let deadline = request.extensions().get::<super::deadline::Deadline>().map(|deadline| deadline.0);
        let held = request.extensions().get::<super::held::HeldBytes>().cloned();
        let (parts, body) = request.into_parts();
        let body = MessageBody::new(body, method, arrival, deadline, held);
        // `tower` requires that the service that was polled ready serves the call.
        let clone = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, clone);
        ArrivingCall { service, state: State::Arriving(Some((parts, body))) }
    }
}

/// A call on its way to the service.
pub struct ArrivingCall<S, B, F> {
    service: S,
    state: State<B, F>,
}

#[allow(clippy::large_enum_variant, reason = "the future of a call is in a box already")]
enum State<B, F> {
    Arriving(Option<(Parts, MessageBody<B>)>),
    Called(F),
}

impl<S, B> Future for ArrivingCall<S, B, S::Future>
where
    S: Inner<MessageBody<B>, Future: Unpin> + Unpin,
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Called(answer) => return Pin::new(answer).poll(context),
                State::Arriving(request) => {
                    if let Some((_, body)) = request
                        && let Err(status) = ready!(body.poll_arrived(context))
                    {
                        *request = None;
                        return Poll::Ready(Ok(status.into_http()));
                    }
                    let Some((parts, body)) = request.take() else { return Poll::Pending };
                    this.state = State::Called(this.service.call(Request::from_parts(parts, body)));
                }
            }
        }
    }
}
