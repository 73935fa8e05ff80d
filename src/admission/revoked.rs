//! Refuses calls if their credential ended while the message was arriving. A message may take long to arrive, and a
//! call must not run under a credential that is valid no longer.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::Request;
use tonic::Code;
use tower::layer::{LayerFn, layer_fn};

use super::credentials::ENDED;
use super::peer::Authenticated;
use super::refusal::Outcome;
use super::{Inner, Response, refusal};

/// Refuses calls with UNAUTHENTICATED, CREDENTIAL_INVALID if the layer of credentials admitted them and their
/// credential has ended since.
pub fn refuse_revoked<S>() -> LayerFn<impl Fn(S) -> Revoked<S> + Clone> {
    layer_fn(|inner| Revoked { inner })
}

/// The service that [`refuse_revoked`] puts around another.
#[derive(Debug, Clone)]
pub struct Revoked<S> {
    inner: S,
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for Revoked<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let has_ended =
            request.extensions().get::<Authenticated>().is_some_and(|Authenticated(_, ended)| ended.is_cancelled());
        if !has_ended {
            return Either::Left(self.inner.call(request));
        }
        let refused = refusal(Code::Unauthenticated, "CREDENTIAL_INVALID", Outcome::NotApplied, ENDED);
        Either::Right(ready(Ok(refused.into_response())))
    }
}
