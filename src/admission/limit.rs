//! Maximum number of calls in flight; watches have a budget of their own, see `streams`.
//!
//! Calls do not wait here: the engine's queue is the place to wait, with bounds on time and memory. Beyond the limit a
//! call is refused at once, with a retry delay. A share of the places is reserved for essential calls, so that an
//! overload of new work never costs a lease. Health checks need no place, and streams without a credential have a few
//! places of their own. Of the other places each connection and each namespace has its share, see `shares` and
//! `namespace`.

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

use super::namespace::{self, NamespaceCounts};
use super::open_streams::{OpenPlace, OpenStreams};
use super::refusal::Outcome;
use super::roles::Access;
use super::shares::{self, ConnectionShare};
use super::streams::{StreamLimits, StreamPlace, Streams};
use super::{Answer, Inner, methods, refusal};
use crate::domain::short::Short;

/// Reserved part of the places: 1/8, for essential calls.
const KEPT_SHARE: u32 = 8;
/// Calls in flight that a connection may always have, if places are free.
const ALWAYS: u32 = 16;
/// Retry delay: long enough for calls in flight to be answered, short enough not to leave the server idle.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Limits calls in flight to `limit`, and open watches to `watches`.
pub fn in_flight_limit<S>(limit: u32, watches: StreamLimits) -> LayerFn<impl Fn(S) -> Limited<S> + Clone> {
    // One count for all clones of the service: each connection has its own clone.
    let (calls, streams) = (Arc::new(Calls::default()), Streams::new(watches));
    let open_streams = Arc::new(OpenStreams::default());
    layer_fn(move |inner| Limited {
        inner,
        calls: Arc::clone(&calls),
        streams: Arc::clone(&streams),
        open_streams: Arc::clone(&open_streams),
        limit,
    })
}

/// Service of [`in_flight_limit`].
#[derive(Debug, Clone)]
pub struct Limited<S> {
    inner: S,
    calls: Arc<Calls>,
    streams: Arc<Streams>,
    open_streams: Arc<OpenStreams>,
    limit: u32,
}

/// Calls in flight of a server.
#[derive(Debug, Default)]
struct Calls {
    in_flight: AtomicU32,
    by_namespace: NamespaceCounts,
}

/// Place of a call, kept until its response has been sent in full.
#[derive(Debug)]
enum Held {
    Call { _place: Place },
    Watch { _place: StreamPlace },
    Open { _place: OpenPlace },
}

/// A taken place; dropping gives it back.
#[derive(Debug)]
struct Place {
    calls: Arc<Calls>,
    connection: ConnectionShare,
    namespace: Short,
}

impl Place {
    /// Takes one of `limit` places, or returns the refusal. `has_share` false: the shares of connection and namespace are not checked.
    fn take<B>(calls: &Arc<Calls>, limit: u32, request: &Request<B>, has_share: bool) -> Result<Place, Status> {
        let taken = calls
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < limit).then_some(taken + 1))
            .map_err(|_| overloaded(limit, ""))?;
        let (connection, namespace) = (shares::of(request), Short::from(namespace::of(request).unwrap_or_default()));
        let of_connection = connection.0.calls.fetch_add(1, Ordering::Relaxed);
        let of_namespace = calls.by_namespace.add(&namespace);
        // From here on, dropping the place releases all three counts.
        let place = Place { calls: Arc::clone(calls), connection, namespace };
        let share = ALWAYS.max(limit - taken);
        if has_share && of_connection >= share {
            return Err(overloaded(share, " on this connection"));
        }
        let share = namespace::fair_share(limit, taken, of_namespace);
        if has_share && of_namespace >= share {
            return Err(overloaded(share, " in this namespace"));
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.calls.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.connection.0.calls.fetch_sub(1, Ordering::Relaxed);
        self.calls.by_namespace.remove(&self.namespace);
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
        if method.is_health && !method.is_watch {
            return Box::pin(self.inner.call(request));
        }
        let held = if method.is_watch && method.access == Access::Open {
            self.open_streams.take(shares::of(&request)).map(|place| Held::Open { _place: place })
        } else if method.is_watch {
            self.streams.take(&request).map(|place| Held::Watch { _place: place })
        } else {
            let limit = if method.is_essential { self.limit } else { self.limit - self.limit / KEPT_SHARE };
            Place::take(&self.calls, limit, &request, !method.is_essential).map(|place| Held::Call { _place: place })
        };
        let held = match held {
            Ok(held) => held,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if response.headers().contains_key(Status::GRPC_STATUS) {
                return Ok(response);
            }
            Ok(response.map(|inner| tonic::body::Body::new(PlacedBody { inner, _held: held })))
        })
    }
}

fn overloaded(limit: u32, scope: &str) -> Status {
    refusal(Code::ResourceExhausted, "OVERLOADED", Outcome::NotApplied, format!("too many calls are in flight{scope}"))
        .with("limit", limit.to_string())
        .retry_after(RETRY_AFTER)
        .into_status()
}

/// Response body that holds its place until it has been sent.
struct PlacedBody {
    inner: tonic::body::Body,
    _held: Held,
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

#[cfg(test)]
mod tests;
