//! Watches the messages of a request go by, without looking inside: their size, their frame, and that they come at all.
//!
//! The services themselves accept any size: the error of the library would be OUT_OF_RANGE, which says something else.
//! What is refused here reaches the service as an error of its request body, and it answers with exactly that status.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::{Inner, Method, Outcome, methods, refusal};

/// The largest message that is accepted.
pub const MESSAGE_LIMIT_BYTES: u32 = 4 << 20;
/// How long one message may take to arrive, and the first one to begin. Between the messages of a stream any time may
/// pass. 4 MiB in this time is slower than any network that is worth supporting.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);
/// A flag and a length before every message.
const HEADER_BYTES: u8 = 5;

/// Refuses messages above `limit_bytes`, and requests that never say what they want.
pub fn message_guard<S>(limit_bytes: u32) -> LayerFn<impl Fn(S) -> Guarded<S> + Clone> {
    layer_fn(move |inner| Guarded { inner, limit_bytes })
}

/// See [`message_guard`].
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    limit_bytes: u32,
}

impl<S, B> tower::Service<Request<B>> for Guarded<S>
where
    S: Inner<GuardedBody<B>>,
{
    type Response = super::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = methods::of(&request);
        let limit_bytes = self.limit_bytes;
        // What is not gRPC has frames of its own.
        let frames = method.is_known.then(|| Frames::new(limit_bytes, method));
        self.inner.call(request.map(|inner| GuardedBody {
            inner,
            frames,
            arrival_limit: ARRIVAL_LIMIT,
            sleep: None,
            has_ended: false,
        }))
    }
}

/// A request body that fails with our status where the messages in it are not acceptable.
pub struct GuardedBody<B> {
    inner: B,
    frames: Option<Frames>,
    arrival_limit: Duration,
    /// Runs while a message is awaited.
    sleep: Option<Pin<Box<Sleep>>>,
    has_ended: bool,
}

impl<B> Body for GuardedBody<B>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let checked = match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => this.check(frame).map(Some),
            Poll::Ready(Some(Err(error))) => Err(Status::from_error(error.into())),
            Poll::Ready(None) => {
                this.has_ended = true;
                this.frames.as_ref().map_or(Ok(()), Frames::end).map(|()| None)
            }
            Poll::Pending => {
                std::task::ready!(this.poll_late(context));
                Err(late())
            }
        };
        this.has_ended |= checked.is_err();
        Poll::Ready(checked.transpose())
    }

    fn is_end_stream(&self) -> bool {
        // Not the inner's word: an empty request must be polled once, to be told what it lacks.
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl<B> GuardedBody<B> {
    fn check(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Status> {
        if let (Some(frames), Some(data)) = (&mut self.frames, frame.data_ref()) {
            let before = frames.finished;
            frames.read(data)?;
            if frames.finished != before {
                self.sleep = None;
            }
        }
        Ok(frame)
    }

    /// Ready when the message that is awaited has taken too long.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.frames.as_ref().is_some_and(Frames::is_waiting) {
            return Poll::Pending;
        }
        let limit = self.arrival_limit;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(context)
    }
}

/// Follows the frames of gRPC's messages through arbitrarily cut pieces.
#[derive(Debug)]
struct Frames {
    limit_bytes: u32,
    must_have_message: bool,
    header: [u8; HEADER_BYTES as usize],
    /// How much of the header is there.
    filled: u8,
    /// What is missing of the message after a whole header.
    missing_bytes: u32,
    /// Messages that are complete.
    finished: u64,
}

impl Frames {
    fn new(limit_bytes: u32, method: Method) -> Frames {
        Frames {
            limit_bytes,
            must_have_message: !method.is_client_streaming,
            header: [0; HEADER_BYTES as usize],
            filled: 0,
            missing_bytes: 0,
            finished: 0,
        }
    }

    fn read(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while let Some((byte, rest)) = data.split_first() {
            if self.filled < HEADER_BYTES {
                self.header[usize::from(self.filled)] = *byte;
                self.filled += 1;
                data = rest;
                if self.filled == HEADER_BYTES {
                    self.begin()?;
                }
            } else {
                let taken = data.len().min(self.missing_bytes as usize);
                data = &data[taken..];
                // `taken` is at most `missing_bytes`, so it fits.
                self.missing_bytes -= taken as u32;
            }
            if self.filled == HEADER_BYTES && self.missing_bytes == 0 {
                self.filled = 0;
                self.finished += 1;
            }
        }
        Ok(())
    }

    /// Judges a whole header.
    fn begin(&mut self) -> Result<(), Status> {
        let [flag, length @ ..] = self.header;
        match flag {
            0 => {}
            1 => {
                return Err(refusal(
                    Code::Unimplemented,
                    "UNIMPLEMENTED",
                    Outcome::NotApplied,
                    "compressed messages are not supported",
                )
                .into_status());
            }
            _ => return Err(invalid("the message has an invalid compression flag")),
        }
        let length = u32::from_be_bytes(length);
        if length > self.limit_bytes {
            let limit = self.limit_bytes;
            return Err(invalid(&format!("the message has {length} bytes; at most {limit} are accepted")));
        }
        self.missing_bytes = length;
        Ok(())
    }

    /// Judges the end of the request.
    fn end(&self) -> Result<(), Status> {
        if self.filled > 0 {
            return Err(invalid("the request ends within a message"));
        }
        if self.must_have_message && self.finished == 0 {
            return Err(invalid("the request has no message"));
        }
        Ok(())
    }

    /// Whether the client owes us something: the rest of a message, or the first one.
    fn is_waiting(&self) -> bool {
        self.filled > 0 || self.finished == 0
    }
}

fn invalid(message: &str) -> Status {
    refusal(Code::InvalidArgument, "INVALID_FIELD", Outcome::NotApplied, message).into_status()
}

fn late() -> Status {
    refusal(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", Outcome::NotApplied, "the message took too long to arrive")
        .into_status()
}

#[cfg(test)]
mod tests;
