//! Authentication and authorization: checks the credential of each call, and that it permits the method.
//!
//! A credential is an API key in `authorization`. Without that header, it is the client certificate of the connection.
//! The namespace of the call is checked where it is resolved, so that a namespace outside the credential looks like one
//! that does not exist. This layer removes the header.

mod figures;
mod known;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, header};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::ended::EndedBody;
use super::methods::Method;
use super::peer::Authenticated;
use super::refusal::Outcome;
use super::roles::{Access, RoleDenial};
use super::{Answer, Inner, Response, methods, peer, refusal, shares};
use crate::domain::credential::{KeyState, KeyText};
pub use figures::{FailureReason, Failures};
pub use known::{DatabaseClock, KnownKeys};
use known::{KeyLookup, KeySession, ShownCredential};

/// Scheme of `authorization` with the space before the key; letter case is ignored.
const SCHEME: &[u8] = b"bearer ";
/// Retry delay. The credentials have been read again by then.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const MISSING: &str =
    "no credential: send an API key as the metadata `authorization: Bearer il_…`, or show a client certificate";
const MALFORMED: &str =
    "the metadata `authorization` must be `Bearer` and an API key, `il_`, 8 characters, `_` and 43 characters";
/// Message for unknown ids and for wrong secrets: the same, so that it does not reveal which ids exist.
const UNKNOWN: &str = "there is no such API key, or its secret is another one";
const UNKNOWN_CERTIFICATE: &str =
    "no credential has a name of the client certificate: an administrator creates one with `certificate_name`";
const EXPIRED: &str = "the credential has expired";
const REVOKED: &str = "the credential was revoked";
pub(super) const ENDED: &str =
    "the credential of this call is valid no longer: it was revoked, has expired, or its secret was replaced";
const UNAVAILABLE: &str =
    "the credential cannot be checked now: the database cannot be read, or too many unknown ones are shown";

/// Admits calls that their credential permits. None: no credential is required, and one that is presented is ignored.
pub fn credentials<S>(known: Option<Arc<KnownKeys>>) -> LayerFn<impl Fn(S) -> Guarded<S> + Clone> {
    layer_fn(move |inner| Guarded { inner, known: known.clone() })
}

/// The service that [`credentials`] puts around another.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    known: Option<Arc<KnownKeys>>,
}

/// Reasons for a refusal.
enum Failure {
    Missing,
    Malformed,
    Unknown { is_certificate: bool },
    WrongSecret,
    Ended(KeyState),
    Denied(Box<RoleDenial>),
    Unavailable,
}

impl Failure {
    fn reason(&self) -> FailureReason {
        match self {
            Failure::Missing => FailureReason::Missing,
            Failure::Malformed => FailureReason::Malformed,
            Failure::Unknown { .. } => FailureReason::Unknown,
            Failure::WrongSecret => FailureReason::WrongSecret,
            Failure::Ended(KeyState::Revoked) => FailureReason::Revoked,
            Failure::Ended(KeyState::Expired | KeyState::Active) => FailureReason::Expired,
            Failure::Denied(_) => FailureReason::RoleDenied,
            Failure::Unavailable => FailureReason::Unavailable,
        }
    }

    fn status(&self) -> Status {
        match self {
            Failure::Missing => invalid(MISSING),
            Failure::Malformed => invalid(MALFORMED),
            Failure::Unknown { is_certificate: true } => invalid(UNKNOWN_CERTIFICATE),
            Failure::Unknown { is_certificate: false } | Failure::WrongSecret => invalid(UNKNOWN),
            Failure::Ended(KeyState::Revoked) => invalid(REVOKED),
            Failure::Ended(KeyState::Expired | KeyState::Active) => invalid(EXPIRED),
            Failure::Denied(denial) => denied(denial),
            Failure::Unavailable => refusal(Code::Unavailable, "STORE_UNAVAILABLE", Outcome::NotApplied, UNAVAILABLE)
                .retry_after(RETRY_AFTER)
                .into_status(),
        }
    }
}

fn invalid(message: &'static str) -> Status {
    refusal(Code::Unauthenticated, "CREDENTIAL_INVALID", Outcome::NotApplied, message).into_status()
}

fn denied(denial: &RoleDenial) -> Status {
    let refused = refusal(Code::PermissionDenied, "ROLE_DENIED", Outcome::NotApplied, &*denial.message)
        .with("principal", &*denial.principal)
        .with("roles", &*denial.roles);
    if denial.everywhere { refused.with("namespaces", "*").into_status() } else { refused.into_status() }
}

/// Reads the credential that a call presents.
fn shown<B>(request: &Request<B>) -> Result<ShownCredential, Failure> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
    match (headers.next(), headers.next()) {
        (Some(header), None) => bearer(header).map(ShownCredential::Key).ok_or(Failure::Malformed),
        (Some(_), Some(_)) => Err(Failure::Malformed),
        (None, _) => peer::of(request).certificate.map(ShownCredential::Certificate).ok_or(Failure::Missing),
    }
}

fn bearer(header: &HeaderValue) -> Option<KeyText> {
    let (scheme, key) = header.as_bytes().split_at_checked(SCHEME.len())?;
    let key = std::str::from_utf8(key).ok().filter(|_| scheme.eq_ignore_ascii_case(SCHEME))?;
    KeyText::parse(key)
}

/// True if the call presents a known and valid credential. Its roles are not checked.
pub(super) fn shows_valid<B>(known: &KnownKeys, request: &Request<B>) -> bool {
    shown(request).is_ok_and(|shown| matches!(known.find(&shown), KeyLookup::Valid(_)))
}

/// Converts the result of a lookup to a session or a failure. None: unknown, so it may be a new credential.
fn judged(found: KeyLookup) -> Option<Result<KeySession, Failure>> {
    match found {
        KeyLookup::Valid(session) => Some(Ok(session)),
        KeyLookup::Ended(state) => Some(Err(Failure::Ended(state))),
        KeyLookup::WrongSecret => Some(Err(Failure::WrongSecret)),
        KeyLookup::Unknown => None,
    }
}

/// Looks up a credential after the credentials were read again.
async fn judged_after_round(known: &KnownKeys, shown: &ShownCredential) -> Result<KeySession, Failure> {
    let found = known.find_after_round(shown).await.ok_or(Failure::Unavailable)?;
    let is_certificate = matches!(shown, ShownCredential::Certificate(_));
    judged(found).unwrap_or(Err(Failure::Unknown { is_certificate }))
}

impl<S, B> tower::Service<Request<B>> for Guarded<S>
where
    S: Inner<B, Future: Unpin> + Clone + Send + 'static,
    B: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = GuardedCall<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let method = methods::of(&request);
        let known = self.known.as_ref().filter(|_| method.access != Access::Open);
        let shown = known.map(|_| shown(&request));
        request.headers_mut().remove(header::AUTHORIZATION);
        let (Some(known), Some(shown)) = (known, shown) else {
            if method.is_known && method.access != Access::Open {
                shares::note_admitted(&request, false);
            }
            return GuardedCall::Called(self.inner.call(request));
        };
        if !method.is_known {
            // The path is not served. Clients without credentials may know that.
            return GuardedCall::boxed(Status::unimplemented("").into_http());
        }
        let judged = match &shown {
            Ok(shown) => judged(known.find(shown)),
            Err(_) => None,
        };
        match (judged, shown) {
            (Some(judged), _) => let_in(&mut self.inner, known, method, judged, request),
            (None, Err(failure)) => let_in(&mut self.inner, known, method, Err(failure), request),
            (None, Ok(shown)) => {
                // `tower` requires that the service that was polled ready serves the call.
                let clone = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, clone);
                let known = Arc::clone(known);
                GuardedCall::Boxed(Box::pin(async move {
                    let judged = judged_after_round(&known, &shown).await;
                    let_in(&mut inner, &known, method, judged, request).await
                }))
            }
        }
    }
}

/// Calls the service if the credential permits it.
fn let_in<S, B>(
    inner: &mut S,
    known: &Arc<KnownKeys>,
    method: Method,
    judged: Result<KeySession, Failure>,
    mut request: Request<B>,
) -> GuardedCall<S::Future>
where
    S: Inner<B, Future: Unpin>,
{
    let permitted = judged.and_then(|session| match method.access.check(&session.principal) {
        Ok(()) => Ok(session),
        Err(denial) => Err(Failure::Denied(denial)),
    });
    let session = match permitted {
        Ok(session) => session,
        Err(failure) => {
            known.failures.count(failure.reason(), peer::of(&request).address);
            return GuardedCall::boxed(failure.status().into_http());
        }
    };
    shares::note_admitted(&request, true);
    request.extensions_mut().insert(Authenticated(session.principal, session.ended.clone()));
    if !method.may_wait {
        return GuardedCall::Called(inner.call(request));
    }
    let ending = Ending { ended: session.ended, known: Arc::clone(known), method, address: peer::of(&request).address };
    GuardedCall::Boxed(until_ended(inner.call(request), ending))
}

/// End of a credential while one of its calls waits.
struct Ending {
    ended: CancellationToken,
    known: Arc<KnownKeys>,
    method: Method,
    address: Option<std::net::IpAddr>,
}

impl Ending {
    async fn status(self) -> Status {
        self.ended.cancelled().await;
        self.known.failures.count(FailureReason::Ended, self.address);
        // A call that waits for a permit or a lease may have got it just now.
        let outcome = if self.method.is_read { Outcome::NotApplied } else { Outcome::Unknown };
        refusal(Code::Unauthenticated, "CREDENTIAL_INVALID", outcome, ENDED).into_status()
    }
}

/// Returns the response of the call, or ends the call with its credential. A dropped call releases what it holds, as
/// when its client disconnects.
fn until_ended(answer: impl Future<Output = Result<Response, Infallible>> + Send + 'static, ending: Ending) -> Answer {
    Box::pin(async move {
        let mut answer = Box::pin(answer);
        let is_watch = ending.method.is_watch;
        let mut ending: Pin<Box<dyn Future<Output = Status> + Send>> = Box::pin(ending.status());
        let response = tokio::select! {
            biased;
            status = &mut ending => return Ok(status.into_http()),
            response = &mut answer => response?,
        };
        if !is_watch || response.headers().contains_key(Status::GRPC_STATUS) {
            return Ok(response);
        }
        Ok(response.map(|body| tonic::body::Body::new(EndedBody::at_once(body, ending))))
    })
}

/// Future of a call that was permitted or refused.
pub enum GuardedCall<F> {
    /// The call of the service below.
    Called(F),
    /// A refusal, or a call that ends with its credential.
    Boxed(Answer),
}

impl<F> GuardedCall<F> {
    fn boxed(response: Response) -> Self {
        GuardedCall::Boxed(Box::pin(std::future::ready(Ok(response))))
    }
}

impl<F: Future<Output = Result<Response, Infallible>> + Unpin> Future for GuardedCall<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            GuardedCall::Called(answer) => Pin::new(answer).poll(context),
            GuardedCall::Boxed(answer) => answer.as_mut().poll(context),
        }
    }
}

#[cfg(test)]
mod tests;
