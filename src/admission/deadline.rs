//! Enforces the client's deadline, or a default if the client set none.
//!
//! A handler sees the exact [`Deadline`] and can answer more precisely than this layer: that nothing was applied. So
//! this layer waits [`GRACE`] longer before it answers in the handler's place; then the outcome of a write is unknown.
//! The response is DEADLINE_EXCEEDED.
//! The timeout layer of tonic's server would answer CANCELLED, which clients do not retry.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::methods::Method;
use super::refusal::Outcome;
use super::{Answer, Inner, methods, refusal};

/// Deadline of a call. In the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

/// Extra time for the handler, so that its more precise response wins.
const GRACE: Duration = Duration::from_millis(5);
/// Maximum timeout, so that arithmetic with instants cannot overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Enforces deadlines. `default_timeout` applies to calls without one, until the response begins:
/// streams may last longer.
pub fn deadline<S>(default_timeout: Duration) -> LayerFn<impl Fn(S) -> Timed<S> + Clone> {
    layer_fn(move |inner| Timed { inner, default_timeout })
}

/// Service of [`deadline`].
#[derive(Debug, Clone)]
pub struct Timed<S> {
    inner: S,
    default_timeout: Duration,
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for Timed<S> {
    type Response = super::Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Answer {
        let method = methods::of(&request);
        let timeout = match read_timeout(request.headers()) {
            Ok(timeout) => timeout,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        if timeout == Some(Duration::ZERO) {
            let status = exceeded(Outcome::NotApplied);
            return Box::pin(async move { Ok(status.into_http()) });
        }
        let deadline = Instant::now() + timeout.unwrap_or(self.default_timeout);
        request.extensions_mut().insert(Deadline(deadline));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut sleep = Box::pin(tokio::time::sleep_until(deadline + GRACE));
            tokio::select! {
                biased;
                answer = answer => {
                    let response = answer?;
                    let has_ended = response.headers().contains_key(Status::GRPC_STATUS);
                    if timeout.is_none() || has_ended {
                        return Ok(response);
                    }
                    Ok(response.map(|body| {
                        tonic::body::Body::new(TimedBody { inner: Some(body), sleep, method })
                    }))
                }
                () = &mut sleep => Ok(exceeded(outcome_of(method)).into_http()),
            }
        })
    }
}

/// Response body that ends with DEADLINE_EXCEEDED in its trailers at the deadline.
struct TimedBody {
    /// None once the body has ended.
    inner: Option<tonic::body::Body>,
    sleep: Pin<Box<Sleep>>,
    method: Method,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(context) {
            return Poll::Ready(frame);
        }
        std::task::ready!(self.sleep.as_mut().poll(context));
        self.inner = None;
        let status = exceeded(outcome_of(self.method));
        Poll::Ready(Some(trailers_of(&status)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Builds the last frame of a response from a status.
pub(super) fn trailers_of(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

fn outcome_of(method: Method) -> Outcome {
    if method.is_read { Outcome::NotApplied } else { Outcome::Unknown }
}

fn exceeded(outcome: Outcome) -> Status {
    refusal(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", outcome, "the deadline of the call has passed").into_status()
}

/// Parses `grpc-timeout`: one to eight digits and a unit.
fn read_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(parse_timeout);
    parsed.map(Some).ok_or_else(|| {
        refusal(
            Code::InvalidArgument,
            "INVALID_FIELD",
            Outcome::NotApplied,
            "grpc-timeout must be one to eight digits and one of H M S m u n",
        )
        .with("field", "grpc-timeout")
        .into_status()
    })
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    let timeout = match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_says() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("90S", Some(Duration::from_secs(90))),
            ("250m", Some(Duration::from_millis(250))),
            ("1n", Some(Duration::from_nanos(1))),
            ("99999999H", Some(LONGEST)),
            ("0S", Some(Duration::ZERO)),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("10", None),
            ("-1S", None),
            ("+1S", None),
            ("1 S", None),
            ("1s", None),
            ("1ä", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text:?}");
        }
    }
}
