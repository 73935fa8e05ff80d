//! A panic is our bug and the caller's INTERNAL: with an id that the log has too, and nothing else.
//!
//! Panics are caught where a handler is called, while it runs, and while its stream is polled. A place or a gauge that
//! the call held is given back by unwinding.

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
use super::{Answer, Inner, Outcome, refusal};

/// Turns panics into INTERNAL.
pub fn catch_panics<S>() -> LayerFn<impl Fn(S) -> Caught<S> + Clone> {
    layer_fn(|inner| Caught { inner })
}

/// The service of [`catch_panics`].
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
        // State that the panic left half done is dropped with the call; nothing of it is used here again.
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

/// A response that ends with an INTERNAL status if polling it panics.
struct CaughtBody {
    /// `None` once it has panicked: it must not be polled again.
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

/// Logs the panic under a new id, and tells the caller the id alone.
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
