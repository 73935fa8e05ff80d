//! The response of a unary call: gRPC's, as one message with the status in the HTTP status.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tonic::{Code, Status};

use super::errors::{add_trailers, error_response};
use super::rpcs::{MessageForm, Rpc};
use crate::admission::Response;

/// Bytes before a message of gRPC.
pub(super) const PREFIX_BYTES: usize = 5;

/// Waits for the end of a call, and converts its response.
pub(super) async fn unary(response: Response, rpc: &Rpc, form: MessageForm) -> Response {
    if let Some(status) = whole_status(response.headers()) {
        return error_response(&status, response.headers());
    }
    let (mut parts, mut body) = response.into_parts();
    let mut data = BytesMut::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(piece)) => data.extend_from_slice(&piece),
            Ok(Err(rest)) => trailers = rest.into_trailers().unwrap_or_default(),
            Err(status) => return error_response(&status, status.metadata().as_ref()),
        }
    }
    let status = status_in(&trailers);
    if status.code() != Code::Ok {
        return error_response(&status, &trailers);
    }
    data.advance(PREFIX_BYTES.min(data.len()));
    let message = match rpc.encode(form, data.freeze()) {
        Ok(message) => message,
        Err(status) => return error_response(&status, status.metadata().as_ref()),
    };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.unary_type()));
    add_trailers(&mut parts.headers, &trailers);
    Response::from_parts(parts, tonic::body::Body::new(ReplyBody { message: Some(message), _call: body }))
}

/// The status of a response without a body. None: it has one.
pub(super) fn whole_status(headers: &HeaderMap) -> Option<Status> {
    headers.contains_key(Status::GRPC_STATUS).then(|| status_in(headers))
}

/// The status in trailers. Trailers without one are not gRPC's.
pub(super) fn status_in(trailers: &HeaderMap) -> Status {
    Status::from_header_map(trailers).unwrap_or_else(|| Status::unknown("the response has no status"))
}

/// A message, with the call that it answers: its place in flight is taken until the message has been sent.
struct ReplyBody {
    message: Option<Bytes>,
    _call: tonic::body::Body,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.message.take().map(|message| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.message.as_ref().map_or(0, Bytes::len) as u64)
    }
}
