//! Response streams: gRPC's messages, in the envelopes of Connect or as server-sent events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::errors::{end_json, error_response};
use super::reply::{PREFIX_BYTES, status_in, whole_status};
use super::rpcs::{MessageForm, Rpc};
use crate::admission::Response;

/// Flag of the last envelope.
const END: u8 = 2;

/// Converts the response of a call to envelopes. Errors are in the last one, whose HTTP status is always 200.
pub(super) fn enveloped(response: Response, rpc: &'static Rpc, form: MessageForm) -> Response {
    let frames = Frames { rpc, packing: Packing::Envelopes(form) };
    let mut response = match whole_status(response.headers()) {
        None => converted(response, frames),
        Some(status) => {
            let mut end = BytesMut::new();
            frames.end(&status, response.headers(), &mut end);
            http::Response::new(tonic::body::Body::new(http_body_util::Full::new(end.freeze())))
        }
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(form.stream_type()));
    response
}

/// Converts the response of a call to server-sent events. An error before the first message is an error of HTTP.
pub(super) fn events(response: Response, rpc: &'static Rpc) -> Response {
    if let Some(status) = whole_status(response.headers()) {
        return error_response(&status, response.headers());
    }
    let has_version = rpc.input.get_field_by_name("from_version").is_some();
    let mut response = converted(response, Frames { rpc, packing: Packing::Events { has_version } });
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn converted(response: Response, frames: Frames) -> Response {
    response
        .map(|inner| tonic::body::Body::new(StreamReply { inner, frames, received: BytesMut::new(), has_ended: false }))
}

/// How messages are packed.
struct Frames {
    rpc: &'static Rpc,
    packing: Packing,
}

enum Packing {
    Envelopes(MessageForm),
    /// Events. `has_version`: the rpc can go on after a version, so events have it as their id.
    Events {
        has_version: bool,
    },
}

impl Frames {
    /// Appends a message.
    fn message(&self, message: Bytes, out: &mut BytesMut) -> Result<(), Status> {
        match self.packing {
            Packing::Envelopes(form) => envelope(0, &self.rpc.encode(form, message)?, out),
            Packing::Events { has_version } => {
                let (name, version) = self.rpc.update_of(&message);
                if let Some(version) = version.filter(|_| has_version) {
                    out.extend_from_slice(format!("id: {version}\n").as_bytes());
                }
                event(&name, &self.rpc.encode(MessageForm::Json, message)?, out);
            }
        }
        Ok(())
    }

    /// Appends the end.
    fn end(&self, status: &Status, metadata: &HeaderMap, out: &mut BytesMut) {
        let json = end_json(status, metadata);
        match self.packing {
            Packing::Envelopes(_) => envelope(END, &json, out),
            Packing::Events { .. } => event("end", &json, out),
        }
    }
}

fn envelope(flags: u8, message: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(&[flags]);
    // A message of the server has a few MiB at most.
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
}

fn event(name: &str, json: &[u8], out: &mut BytesMut) {
    // JSON has no line breaks.
    for part in [b"event: ", name.as_bytes(), b"\ndata: ", json, b"\n\n"] {
        out.extend_from_slice(part);
    }
}

/// A response stream on its way out.
struct StreamReply {
    inner: tonic::body::Body,
    frames: Frames,
    /// Beginning of the next message.
    received: BytesMut,
    has_ended: bool,
}

impl StreamReply {
    /// Converts the whole messages that were received.
    fn convert(&mut self, piece: Bytes) -> Result<Bytes, Status> {
        self.received.extend_from_slice(&piece);
        let mut out = BytesMut::new();
        while let Some(&[_, ref length @ ..]) = self.received.first_chunk::<PREFIX_BYTES>() {
            let length = u32::from_be_bytes(*length) as usize;
            if self.received.len() < PREFIX_BYTES + length {
                break;
            }
            self.received.advance(PREFIX_BYTES);
            let message = self.received.split_to(length).freeze();
            self.frames.message(message, &mut out)?;
        }
        if self.received.is_empty() {
            // Nothing of its memory is kept until the next message.
            self.received = BytesMut::new();
        }
        Ok(out.freeze())
    }

    fn end(&mut self, status: &Status, metadata: &HeaderMap) -> Bytes {
        self.has_ended = true;
        let mut out = BytesMut::new();
        self.frames.end(status, metadata, &mut out);
        out.freeze()
    }
}

impl Body for StreamReply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.has_ended {
            return Poll::Ready(None);
        }
        loop {
            let out = match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                None => this.end(&status_in(&HeaderMap::new()), &HeaderMap::new()),
                Some(Err(status)) => this.end(&status, status.metadata().as_ref()),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => match this.convert(piece) {
                        Ok(out) => out,
                        Err(status) => this.end(&status, status.metadata().as_ref()),
                    },
                    Err(rest) => {
                        let trailers = rest.into_trailers().unwrap_or_default();
                        this.end(&status_in(&trailers), &trailers)
                    }
                },
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
