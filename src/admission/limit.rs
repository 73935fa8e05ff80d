//! How many calls may be in flight at once, streams included.
//!
//! Nobody waits here: waiting with a bound on time and memory is the engine's queue. Beyond the limit a call is refused
//! at once and told when to come back. A share of the places is kept for calls that keep accepted work going, so that an
//! overload of new work never costs a lease; health checks need no place.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::{Answer, Inner, Outcome, methods, refusal};

/// One place in so many is kept for essential calls.
const KEPT_SHARE: u32 = 8;
/// Long enough for the calls in flight to be answered, short enough not to leave the server idle.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Lets at most `limit` calls be in flight.
pub fn in_flight_limit<S>(limit: u32) -> LayerFn<impl Fn(S) -> Limited<S> + Clone> {
    // One count for all clones of the service: each connection has its own clone.
    let in_flight = Arc::new(AtomicU32::new(0));
    layer_fn(move |inner| Limited { inner, in_flight: Arc::clone(&in_flight), limit })
}

/// See [`in_flight_limit`].
#[derive(Debug, Clone)]
pub struct Limited<S> {
    inner: S,
    in_flight: Arc<AtomicU32>,
    limit: u32,
}

/// A taken place; dropping gives it back.
#[derive(Debug)]
struct Place(Arc<AtomicU32>);

impl Place {
    fn take(in_flight: &Arc<AtomicU32>, limit: u32) -> Option<Place> {
        in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < limit).then_some(taken + 1))
            .ok()
            .map(|_| Place(Arc::clone(in_flight)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for Limited<S> {
    type Response = super::Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let method = methods::of(&request);
        if method.is_health {
            return Box::pin(self.inner.call(request));
        }
        let limit = if method.is_essential { self.limit } else { self.limit - self.limit / KEPT_SHARE };
        let Some(place) = Place::take(&self.in_flight, limit) else {
            return Box::pin(async move { Ok(overloaded(limit).into_http()) });
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if response.headers().contains_key(Status::GRPC_STATUS) {
                return Ok(response);
            }
            Ok(response.map(|inner| tonic::body::Body::new(PlacedBody { inner, _place: place })))
        })
    }
}

fn overloaded(limit: u32) -> Status {
    refusal(Code::ResourceExhausted, "OVERLOADED", Outcome::NotApplied, "too many calls are in flight")
        .with("limit", limit.to_string())
        .retry_after(RETRY_AFTER)
        .into_status()
}

/// A response that keeps its place until it has been sent.
struct PlacedBody {
    inner: tonic::body::Body,
    _place: Place,
}

impl Body for PlacedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
