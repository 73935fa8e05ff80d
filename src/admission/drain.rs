//! Ends watches when the server drains.
//!
//! A watch has no end of its own, so one open watch would block every drain until its timeout. Its client resumes from
//! the last revision on another server, so ending it loses nothing. Frames that are ready are sent first. Calls that do
//! work end by themselves; Work streams are ended by their service.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::layer::{LayerFn, layer_fn};

use super::ended::EndedBody;
use super::refusal::Outcome;
use super::{Answer, Inner, methods, refusal};

/// Retry delay of ended watches: short, because another server, or this one after its restart, can serve them.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Time that watches continue after the drain began: last messages, such as NOT_SERVING, may still be on their way.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Ends watches with UNAVAILABLE, DRAINING once `draining` is cancelled.
pub fn end_watches<S>(draining: CancellationToken) -> LayerFn<impl Fn(S) -> Drained<S> + Clone> {
    layer_fn(move |inner| Drained { inner, draining: draining.clone() })
}

/// Service of [`end_watches`].
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
        let method = methods::of(&request);
        let answer = self.inner.call(request);
        if method.ends_by_itself() {
            return Box::pin(answer);
        }
        let draining = self.draining.clone();
        let ending = Box::pin(async move {
            draining.cancelled_owned().await;
            tokio::time::sleep(LAST_WORDS).await;
            refusal(Code::Unavailable, "DRAINING", Outcome::NotApplied, "the server is stopping; resume on another")
                .retry_after(RETRY_AFTER)
                .into_status()
        });
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| tonic::body::Body::new(EndedBody::after_what_is_ready(body, ending))))
        })
    }
}
