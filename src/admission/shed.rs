//! Refuses new work before its message is read while the writer is behind: reading and decoding what will be refused is what an overloaded server
//! has no time for.
//!
//! Only calls that can bring nothing but new work are refused here. All others go on, and the writer's queue decides: what keeps accepted work going, what
//! operators do, reads, and calls of which only the message tells (Commit may complete a stage).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use tonic::Code;
use tower::layer::{LayerFn, layer_fn};

use super::{Answer, Inner, Outcome, methods, refusal};

/// Says when a refused call is worth trying again, if new work is refused now.
pub type Overload = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// Refuses new work with RESOURCE_EXHAUSTED, OVERLOADED while `overload` says so.
pub fn shed<S>(overload: Overload) -> LayerFn<impl Fn(S) -> Shed<S> + Clone> {
    layer_fn(move |inner| Shed { inner, overload: Arc::clone(&overload) })
}

/// See [`shed`].
#[derive(Clone)]
pub struct Shed<S> {
    inner: S,
    overload: Overload,
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for Shed<S> {
    type Response = super::Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let refused = if methods::of(&request).is_new_work { (self.overload)() } else { None };
        match refused {
            None => Box::pin(self.inner.call(request)),
            Some(retry_after) => {
                let why = "the server is overloaded: too many writes are waiting";
                let status = refusal(Code::ResourceExhausted, "OVERLOADED", Outcome::NotApplied, why)
                    .retry_after(retry_after)
                    .into_status();
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}
