//! A panic is a bug of the server. The caller gets INTERNAL with an id that is also in the log, and nothing else.
//!
//! Panics are caught when a handler is called, while it runs, and while its stream is polled. Unwinding releases the
//! place and the gauge of the call.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::deadline::trailers_of;
use super::refusal::Outcome;
use super::{Answer, Inner, refusal};

/// Turns panics into INTERNAL.
pub fn catch_panics<S>() -> LayerFn<impl Fn(S) -> Caught<S> + Clone> {
    layer_fn(|inner| Caught { inner })
}

/// Service of [`catch_panics`].
#[derive(Debug, Clone)]
pub struct Caught<S> {
    inner: S,
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for Caught<S> {
    type Response = super::Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let path = request.uri().path().to_owned();
        // State left half done by the panic is dropped with the call and not used again.
        let called = std::panic::catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        Box::pin(async move {
            let answered = match called {
                Ok(answer) => AssertUnwindSafe(answer).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            match answered {
                Ok(Ok(response)) if response.headers().contains_key(Status::GRPC_STATUS) => Ok(response),
                Ok(Ok(response)) => {
                    Ok(response.map(|body| tonic::body::Body::new(CaughtBody { inner: Some(body), path })))
                }
                Ok(Err(never)) => match never {},
                Err(panic) => Ok(report(&path, panic.as_ref()).into_http()),
            }
        })
    }
}

/// Response body that ends with an INTERNAL status if polling it panics.
struct CaughtBody {
    /// None after a panic: the body must not be polled again.
    inner: Option<tonic::body::Body>,
    path: String,
}

impl Body for CaughtBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(context)));
        polled.unwrap_or_else(|panic| {
            self.inner = None;
            let status = report(&self.path, panic.as_ref());
            Poll::Ready(Some(trailers_of(&status)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Logs the panic under a new id, and returns a status with the id alone.
fn report(path: &str, panic: &(dyn Any + Send)) -> Status {
    let id = uuid::Uuid::new_v4().to_string();
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    tracing::error!(%id, path, message, "a call panicked");
    refusal(Code::Internal, "INTERNAL", Outcome::Unknown, format!("internal error {id}")).with("id", id).into_status()
}
