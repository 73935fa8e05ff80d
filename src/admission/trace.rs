//! A span for each traced call, with its outcome.
//!
//! The [`Sampler`] decides which calls are traced, before anything is allocated for a call: a call that is not traced
//! costs one header lookup.
//!
//! **Bound.** A span costs memory and a place in the queue to the collector, so clients without credentials may not ask
//! for an unlimited number: of calls without a valid credential, [`STRANGERS`] per second are traced. Where no
//! credential is required, the limit applies to calls that ask for a trace; the operator's sample ratio is not limited.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use governor::clock::DefaultClock;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::layer::{LayerFn, layer_fn};
use tracing::{Instrument, Span};

use super::credentials::{KnownKeys, shows_valid};
use super::namespace::{self, NAMESPACE};
use super::rate::{Bucket, ClassRate};
use super::{Answer, Inner, methods, peer};
use crate::spans::{self, Sampled, Sampler};

/// Traced calls per second without a valid credential, and twice as many after a pause: with four spans each, they
/// leave room in the queue to the collector.
const STRANGERS: u32 = 200;

/// Creates the spans. Belongs outside of all layers that refuse calls, so that refused calls are traced too. `known`:
/// the credentials that calls need; None: no credential is required.
pub fn trace_calls<S>(
    sampler: Sampler,
    known: Option<Arc<KnownKeys>>,
) -> LayerFn<impl Fn(S) -> TracedCalls<S> + Clone> {
    let strangers = Bucket::new(ClassRate::per_second(STRANGERS), DefaultClock::default());
    let choice = Arc::new(Choice { sampler, known, strangers });
    layer_fn(move |inner| TracedCalls { inner, choice: Arc::clone(&choice) })
}

/// Decides which calls are traced.
struct Choice {
    sampler: Sampler,
    known: Option<Arc<KnownKeys>>,
    strangers: Bucket,
}

impl Choice {
    /// Parent and origin of the span of a call. None: the call is not traced.
    fn of<B>(&self, request: &Request<B>) -> Option<Sampled> {
        // Health checks are frequent and always the same.
        if methods::of(request).is_health {
            return None;
        }
        let sampled = (self.sampler)(request.headers())?;
        let is_bounded = match &self.known {
            Some(known) => !shows_valid(known, request),
            None => sampled.is_callers_choice,
        };
        let is_traced = !is_bounded || self.strangers.take_one().is_ok();
        is_traced.then_some(sampled)
    }
}

/// Records the principal in the span of its call. Belongs inside of the layer that checks credentials.
pub fn note_principal<B>(request: Request<B>) -> Request<B> {
    if let Some(principal) = peer::principal(&request)
        && let Some(call) = spans::current_call()
    {
        call.record("interlock.principal", &*principal.name);
    }
    request
}

/// Service of [`trace_calls`].
#[derive(Clone)]
pub struct TracedCalls<S> {
    inner: S,
    choice: Arc<Choice>,
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for TracedCalls<S> {
    type Response = super::Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let Some(sampled) = self.choice.of(&request) else { return Box::pin(self.inner.call(request)) };
        let span = begin(&request);
        (sampled.set_parent)(&span);
        let answer = span.in_scope(|| self.inner.call(request)).instrument(span.clone());
        Box::pin(async move {
            let response = answer.await?;
            let is_whole = response.headers().contains_key(Status::GRPC_STATUS);
            if is_whole || response.status() != StatusCode::OK {
                end(&span, response.headers());
                return Ok(response);
            }
            Ok(response.map(|inner| tonic::body::Body::new(TracedBody { inner, span: Some(span) })))
        })
    }
}

fn begin<B>(request: &Request<B>) -> Span {
    // The path of an unknown method is arbitrary text from the caller.
    let span = spans::call(if methods::of(request).is_known { request.uri().path() } else { "unknown" });
    if let Some(address) = peer::of(request).address {
        span.record("network.peer.address", tracing::field::display(address));
    }
    // Longer values are no namespace names, and not worth their place in a trace.
    let namespace = request.headers().get(NAMESPACE).and_then(|name| name.to_str().ok());
    if let Some(name) = namespace.filter(|name| name.len() <= namespace::MAX_BYTES) {
        span.record("interlock.namespace", name);
    }
    span
}

/// Records the status of a call: from its trailers, or from the headers of a response without a message.
fn end(span: &Span, headers: &HeaderMap) {
    let status = Status::from_header_map(headers).unwrap_or_else(|| Status::unknown("no status"));
    span.record("rpc.grpc.status_code", status.code() as i32);
    if is_fault(status.code()) {
        span.record("otel.status_code", "ERROR");
    }
    if status.code() != Code::Ok
        && let Some(info) = status.get_error_details().error_info()
    {
        span.record("interlock.reason", info.reason.as_str());
    }
}

/// True for codes that mean a failure of the server, by the conventions of OpenTelemetry for gRPC servers.
fn is_fault(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

/// Response body that ends the span with its trailers, or as CANCELLED if it is dropped before them.
struct TracedBody {
    inner: tonic::body::Body,
    /// None once the call has ended.
    span: Option<Span>,
}

impl Body for TracedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
            && let Some(span) = self.span.take()
        {
            end(&span, trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for TracedBody {
    fn drop(&mut self) {
        if let Some(span) = self.span.take() {
            span.record("rpc.grpc.status_code", Code::Cancelled as i32);
        }
    }
}
