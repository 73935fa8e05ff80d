//! Reassembles the messages of a request as they arrive, without decoding them, and validates their frames and sizes.
//!
//! Only whole messages are passed on. The library behind allocates the length that the five bytes before a message
//! claim, so it gets them only together with the rest. Until then the received bytes are buffered here and take only
//! the memory of what was sent. A message that arrives in one piece, as most do, is passed on without a copy.
//!
//! The size limit is enforced only here: the error of the library would be OUT_OF_RANGE, which means something else.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{Code, Status};

use super::arrival::{Arrival, ArrivalLimits};
use super::held::HeldBytes;
use super::methods::Method;
use super::refusal;
use super::refusal::Outcome;

/// Maximum size of a message, in bytes.
pub const MESSAGE_LIMIT_BYTES: u32 = 4 << 20;
/// Bytes before every message: a flag and a length.
const HEADER_BYTES: u8 = 5;

/// Messages of a request as a body; fails with our status if they are invalid.
pub struct MessageBody<B> {
    inner: B,
    /// None: the request is not gRPC and passes unchanged.
    frames: Option<Frames>,
    /// Whole messages that were not read yet.
    whole: Option<Bytes>,
    /// Beginning of the next message.
    partial: BytesMut,
    arrival: Arrival,
    /// Bytes that `inner` holds back. None: it holds none.
    held: Option<HeldBytes>,
    patience: Patience,
    has_ended: bool,
}

impl<B> MessageBody<B>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    pub(super) fn new(
        inner: B,
        method: Method,
        arrival: Arrival,
        deadline: Option<Instant>,
        held: Option<HeldBytes>,
    ) -> Self {
        let limits = arrival.limits();
        MessageBody {
            inner,
            frames: method.is_known.then(|| Frames::new(limits.message_bytes, method)),
            whole: None,
            partial: BytesMut::new(),
            arrival,
            held,
            patience: Patience { limits, deadline, wait: None },
            has_ended: false,
        }
    }

    /// Ready when the service can begin: with the only message, or with the first one of a stream.
    pub(super) fn poll_arrived(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let Some(frames) = &self.frames else { return Poll::Ready(Ok(())) };
        let needs_end = !frames.is_stream;
        while !self.has_ended && (needs_end || self.whole.is_none()) {
            ready!(self.poll_more(context))?;
        }
        self.arrival.finish();
        Poll::Ready(Ok(()))
    }

    /// The only message of a unary call that has arrived, without its header.
    pub(super) fn only_message(&self) -> Option<&[u8]> {
        self.whole.as_ref()?.get(usize::from(HEADER_BYTES)..)
    }

    /// Reads one piece of the request.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            // gRPC requests have no trailers, so they are dropped.
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(frame.into_data().map_or(Ok(()), |data| self.take(data))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Status::from_error(error.into()))),
            Poll::Ready(None) => {
                self.has_ended = true;
                Poll::Ready(self.frames.as_ref().map_or(Ok(()), Frames::end))
            }
            Poll::Pending => {
                if self.frames.as_ref().is_none_or(Frames::is_between) {
                    return Poll::Pending;
                }
                self.disown();
                let whole = self.whole.as_ref().map_or(0, Bytes::len);
                let received = whole + self.partial.len() + self.held.as_ref().map_or(0, HeldBytes::received);
                // A buffer that grows takes up to twice as much.
                let memory = whole + self.partial.capacity() + self.held.as_ref().map_or(0, HeldBytes::memory);
                self.arrival.waits_with(memory)?;
                ready!(self.patience.poll_over(context, received));
                Poll::Ready(Err(late(received)))
            }
        }
    }

    /// Processes one piece of data.
    fn take(&mut self, mut data: Bytes) -> Result<(), Status> {
        let Some(frames) = &mut self.frames else {
            self.whole = Some(data);
            return Ok(());
        };
        let end = frames.read(&data)?;
        if end > 0 {
            self.patience.wait = None;
            let mut last = data.split_to(end);
            if !self.partial.is_empty() {
                let mut message = std::mem::take(&mut self.partial);
                message.extend_from_slice(&last);
                last = message.freeze();
            }
            self.whole = Some(last);
        }
        self.partial.extend_from_slice(&data);
        Ok(())
    }

    /// Copies a message that waits for the end of its request: it is a slice of the connection's buffer and would keep
    /// all of that in memory.
    fn disown(&mut self) {
        if self.patience.wait.is_none()
            && let Some(whole) = &mut self.whole
        {
            *whole = Bytes::copy_from_slice(whole);
        }
    }
}

impl<B> Body for MessageBody<B>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(whole) = this.whole.take() {
                this.arrival.finish();
                return Poll::Ready(Some(Ok(Frame::data(whole))));
            }
            if this.has_ended {
                return Poll::Ready(None);
            }
            if let Err(status) = ready!(this.poll_more(context)) {
                this.has_ended = true;
                this.arrival.finish();
                return Poll::Ready(Some(Err(status)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Not `inner.is_end_stream()`: an empty request must be polled once, for its error.
        self.has_ended && self.whole.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Time limit of a message.
#[derive(Debug)]
struct Patience {
    limits: ArrivalLimits,
    /// Deadline of the call. None: no deadline.
    deadline: Option<Instant>,
    /// Start of the wait for a message, and its timer. None: not waiting.
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Patience {
    /// Ready when a message with `received` bytes so far has taken too long.
    fn poll_over(&mut self, context: &mut Context<'_>, received: usize) -> Poll<()> {
        let mut wait = self.wait.take().unwrap_or_else(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(self.end(now, received))))
        });
        let (began, timer) = &mut wait;
        while timer.as_mut().poll(context).is_ready() {
            // More bytes may have arrived since the timer was set.
            let end = self.end(*began, received);
            if end <= timer.deadline() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
        self.wait = Some(wait);
        Poll::Pending
    }

    /// Time at which a message with `received` bytes so far has taken too long.
    fn end(&self, began: Instant, received: usize) -> Instant {
        let by_size = Duration::from_secs_f64(received as f64 / f64::from(self.limits.bytes_per_second));
        let end = began + self.limits.time + by_size;
        self.deadline.map_or(end, |deadline| deadline.min(end))
    }
}

/// Parser of gRPC message frames in arbitrarily cut pieces.
#[derive(Debug)]
struct Frames {
    limit_bytes: u32,
    /// True if any number of messages is allowed; otherwise exactly one.
    is_stream: bool,
    header: [u8; HEADER_BYTES as usize],
    /// Bytes of the header received, at most [`HEADER_BYTES`].
    filled: u8,
    /// Bytes of the message that are still missing after a complete header.
    missing_bytes: u32,
    /// Number of complete messages.
    finished: u64,
}

impl Frames {
    fn new(limit_bytes: u32, method: Method) -> Frames {
        Frames {
            limit_bytes,
            is_stream: method.is_client_streaming,
            header: [0; HEADER_BYTES as usize],
            filled: 0,
            missing_bytes: 0,
            finished: 0,
        }
    }

    /// Reads a piece. Returns the number of its bytes up to the end of the last complete message.
    fn read(&mut self, piece: &[u8]) -> Result<usize, Status> {
        let (mut data, mut end) = (piece, 0);
        while let Some((byte, rest)) = data.split_first() {
            if !self.is_stream && self.finished > 0 {
                return Err(invalid("the request has more than one message"));
            }
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
                end = piece.len() - data.len();
            }
        }
        Ok(end)
    }

    /// Validates a complete header.
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

    /// Validates the end of the request.
    fn end(&self) -> Result<(), Status> {
        if self.filled > 0 {
            return Err(invalid("the request ends within a message"));
        }
        if !self.is_stream && self.finished == 0 {
            return Err(invalid("the request has no message"));
        }
        Ok(())
    }

    /// True if the client is between two messages of a stream, so that nothing is due.
    fn is_between(&self) -> bool {
        self.is_stream && self.filled == 0 && self.finished > 0
    }
}

fn invalid(message: &str) -> Status {
    refusal(Code::InvalidArgument, "INVALID_FIELD", Outcome::NotApplied, message).into_status()
}

fn late(received: usize) -> Status {
    let message = format!("the message took too long to arrive: {received} bytes of the request had come");
    refusal(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", Outcome::NotApplied, message).into_status()
}

#[cfg(test)]
mod tests;
