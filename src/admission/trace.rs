//! A span for each call that is traced, with its outcome.
//!
//! Which calls are traced is the [`Sampler`]'s to say, before anything is made for a call: one that is not traced costs a look at one header.
//!
//! **Bound.** A span costs memory and a place in the queue to the collector, so strangers may not ask for as many as they like: of calls
//! without a valid credential [`STRANGERS`] are traced. Where no credential is required, the limit holds for calls that ask for a trace;
//! what is traced by setting is the operator's choice.

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

/// Calls a second without a valid credential that are traced, and twice as many after a pause: with four spans each they leave room in the queue to
/// the collector.
const STRANGERS: u32 = 200;

/// Makes the spans. Belongs outside of all layers that refuse calls, so that refused ones are seen. `known`: the credentials that calls need;
/// None: they need none.
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
    /// How the span of a call is to be put in its trace. None: the call is not traced.
    fn of<B>(&self, request: &Request<B>) -> Option<Sampled> {
        // Health checks are many and always the same.
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

/// Notes the principal in the span of its call. Belongs inside of the layer that checks credentials.
pub fn note_principal<B>(request: Request<B>) -> Request<B> {
    if let Some(principal) = peer::principal(&request)
        && let Some(call) = spans::current_call()
    {
        call.record("interlock.principal", &*principal.name);
    }
    request
}

/// The service of [`trace_calls`].
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
    // The path of an unknown method is arbitrary text of the caller.
    let span = spans::call(if methods::of(request).is_known { request.uri().path() } else { "unknown" });
    if let Some(address) = peer::of(request).address {
        span.record("network.peer.address", tracing::field::display(address));
    }
    // Longer texts are no namespace, and not worth their place in a trace.
    let namespace = request.headers().get(NAMESPACE).and_then(|name| name.to_str().ok());
    if let Some(name) = namespace.filter(|name| name.len() <= namespace::MAX_BYTES) {
        span.record("interlock.namespace", name);
    }
    span
}

/// Notes how a call ended: by its trailers, or the headers of an answer without a message.
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

/// Whether a code means that the server failed, as the conventions of OpenTelemetry for gRPC servers have it.
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

/// A response that ends the span with its trailers, or as CANCELLED when it is dropped before them.
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
