//! Ends watches when the server drains.
//!
//! A watch has no end of its own, so one open watch would hold up every drain for its whole time-out. Its client resumes
//! from the last revision on another server, so ending it loses nothing. What was ready to be sent is sent first. Calls
//! that do work end by themselves, or in their services.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::deadline::trailers_of;
use super::{Answer, Inner, Outcome, methods, refusal};

/// At once nearly: another server is there, or this one is when it has restarted.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How long a watch goes on after the drain began: its last news, such as NOT_SERVING, may still be on the way to it.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Ends watches with UNAVAILABLE, DRAINING once `draining` is cancelled.
pub fn end_watches<S>(draining: CancellationToken) -> LayerFn<impl Fn(S) -> Drained<S> + Clone> {
    layer_fn(move |inner| Drained { inner, draining: draining.clone() })
}

/// See [`end_watches`].
#[derive(Debug, Clone)]
pub struct Drained<S> {
    inner: S,
    draining: CancellationToken,
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for Drained<S> {
    type Response = super::Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let is_watch = methods::of(&request).is_watch;
        let answer = self.inner.call(request);
        if !is_watch {
            return Box::pin(answer);
        }
        let draining = self.draining.clone();
        let ending = Box::pin(async move {
            draining.cancelled_owned().await;
            tokio::time::sleep(LAST_WORDS).await;
        });
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| tonic::body::Body::new(DrainedBody { inner: Some(body), ending })))
        })
    }
}

/// A response that ends with the server.
struct DrainedBody {
    /// `None` once it has been ended.
    inner: Option<tonic::body::Body>,
    ending: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Body for DrainedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(context) {
            return Poll::Ready(frame);
        }
        std::task::ready!(self.ending.as_mut().poll(context));
        self.inner = None;
        let status =
            refusal(Code::Unavailable, "DRAINING", Outcome::NotApplied, "the server is stopping; resume on another")
                .retry_after(RETRY_AFTER)
                .into_status();
        Poll::Ready(Some(trailers_of(&status)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
