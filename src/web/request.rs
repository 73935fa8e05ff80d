//! Requests of HTTP clients as gRPC requests: their headers, and a body that is one message of gRPC.
//!
//! A body that is not what it should be fails only when it is read: then the credential and the rate of the client were
//! checked, and the call is counted with its error.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};
use tonic::codegen::StdError;
use tonic::{Code, Status};

use super::query::QueryRequest;
use super::rpcs::{MessageForm, Rpc};
use crate::admission::{HeldBytes, MESSAGE_LIMIT_BYTES, Outcome, refusal};

/// Bytes before a message of gRPC and of a Connect stream: a flag and a length.
const ENVELOPE_BYTES: usize = 5;
/// Maximum size of a body: a message with its envelope.
const BODY_LIMIT: usize = MESSAGE_LIMIT_BYTES as usize + ENVELOPE_BYTES;

const TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");
const VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const STREAM_ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The body of a request, whatever the protocol.
pub enum RequestBody<B> {
    /// gRPC, as it was sent.
    Grpc(B),
    /// gRPC-Web, converted by its library.
    GrpcWeb(tonic::body::Body),
    /// Any other, converted here.
    Converted(Converted<B>),
}

/// A message of another protocol, which becomes one of gRPC when it is complete.
pub struct Converted<B> {
    source: Source<B>,
    rpc: &'static Rpc,
    form: MessageForm,
    /// True if the message has an envelope.
    is_enveloped: bool,
    received: BytesMut,
    held: HeldBytes,
}

enum Source<B> {
    Body(B),
    /// Everything was received.
    Complete,
    /// The request cannot be served.
    Failed(Box<Status>),
    Ended,
}

impl<B> RequestBody<B> {
    fn converted(
        request: Request<B>,
        rpc: &'static Rpc,
        form: MessageForm,
        check: Result<(), Status>,
    ) -> Request<Self> {
        let (mut parts, body) = request.into_parts();
        let held = HeldBytes::default();
        parts.extensions.insert(held.clone());
        let headers = to_grpc(&mut parts.headers);
        let source = match check.and(headers) {
            Ok(()) => Source::Body(body),
            Err(status) => Source::Failed(Box::new(status)),
        };
        parts.method = Method::POST;
        parts.version = Version::HTTP_2;
        parts.uri = without_query(&parts.uri);
        let received = BytesMut::new();
        let body = Converted { source, rpc, form, is_enveloped: rpc.gives_stream, received, held };
        Request::from_parts(parts, RequestBody::Converted(body))
    }

    /// Converts a POST of Connect: a message for a unary rpc, a message in an envelope for a stream.
    pub(super) fn of_post(request: Request<B>, rpc: &'static Rpc, form: MessageForm) -> Request<Self> {
        let check = if rpc.takes_stream {
            Err(unimplemented("this rpc takes a stream: call it by gRPC"))
        } else {
            check_encoding(request.headers(), &header::CONTENT_ENCODING)
                .and_then(|()| check_encoding(request.headers(), &STREAM_ENCODING))
        };
        Self::converted(request, rpc, form, check)
    }

    /// Converts a GET, whose message is in the query. `resumed_from`: the version that an event stream goes on from.
    pub(super) fn of_query(
        request: Request<B>,
        rpc: &'static Rpc,
        query: QueryRequest,
        resumed_from: Option<u64>,
    ) -> Request<Self> {
        let check = check_query(&query);
        let mut request = Self::converted(request, rpc, query.form, check);
        if let RequestBody::Converted(body) = request.body_mut() {
            body.is_enveloped = false;
            body.received.extend_from_slice(&query.message);
            if let Source::Body(_) = body.source {
                body.source = Source::Complete;
                body.resume(resumed_from);
            }
        }
        request
    }
}

impl<B> Converted<B> {
    /// Sets `from_version`, if the rpc has it. It wins over the one of the query, which stays the same when a page reconnects.
    fn resume(&mut self, from: Option<u64>) {
        let (Some(version), Some(field)) = (from, self.rpc.input.get_field_by_name("from_version")) else { return };
        let mut message = Vec::new();
        if let Err(status) = self.rpc.decode(self.form, &self.received, &mut message) {
            self.source = Source::Failed(Box::new(status));
            return;
        }
        // Of two values of a field the last counts.
        prost::encoding::uint64::encode(field.number(), &version, &mut message);
        self.form = MessageForm::Proto;
        self.received = BytesMut::from(message.as_slice());
    }

    /// The message of gRPC.
    fn finish(&mut self) -> Result<Bytes, Status> {
        let received = std::mem::take(&mut self.received);
        let message = if self.is_enveloped { only_message(&received)? } else { &received[..] };
        let mut whole = Vec::with_capacity(ENVELOPE_BYTES + message.len());
        whole.extend_from_slice(&[0; ENVELOPE_BYTES]);
        self.rpc.decode(self.form, message, &mut whole)?;
        let length = u32::try_from(whole.len() - ENVELOPE_BYTES).map_err(|_| too_large())?;
        whole[1..ENVELOPE_BYTES].copy_from_slice(&length.to_be_bytes());
        self.held.set(0, 0);
        Ok(whole.into())
    }
}

impl<B> Converted<B>
where
    B: Body<Data = Bytes, Error: Into<StdError>> + Unpin,
{
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match &mut self.source {
                Source::Ended => return Poll::Ready(None),
                Source::Complete => {
                    self.source = Source::Ended;
                    return Poll::Ready(Some(self.finish()));
                }
                Source::Failed(status) => {
                    let status = std::mem::replace(&mut **status, Status::ok(""));
                    self.source = Source::Ended;
                    return Poll::Ready(Some(Err(status)));
                }
                Source::Body(body) => {
                    let room = BODY_LIMIT - self.received.len();
                    let is_too_large = body.size_hint().lower() > room as u64;
                    let data = if is_too_large { Some(Err(too_large())) } else { ready!(poll_data(body, context)) };
                    match data {
                        None => self.source = Source::Complete,
                        Some(Ok(data)) if data.len() <= room => {
                            self.received.extend_from_slice(&data);
                            self.held.set(self.received.len(), self.received.capacity());
                        }
                        Some(Ok(_)) => self.source = Source::Failed(Box::new(too_large())),
                        Some(Err(status)) => self.source = Source::Failed(Box::new(status)),
                    }
                }
            }
        }
    }
}

/// The next data of a body; its trailers are dropped.
fn poll_data<B>(body: &mut B, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>
where
    B: Body<Data = Bytes, Error: Into<StdError>> + Unpin,
{
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes, Error: Into<StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            RequestBody::Grpc(body) => {
                Pin::new(body).poll_frame(context).map_err(|error| Status::from_error(error.into()))
            }
            RequestBody::GrpcWeb(body) => Pin::new(body).poll_frame(context),
            RequestBody::Converted(body) => body.poll_message(context).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Grpc(body) => body.is_end_stream(),
            RequestBody::GrpcWeb(_) | RequestBody::Converted(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Grpc(body) => body.size_hint(),
            RequestBody::GrpcWeb(_) | RequestBody::Converted(_) => SizeHint::default(),
        }
    }
}

/// Replaces the headers of Connect by those of gRPC.
fn to_grpc(headers: &mut HeaderMap) -> Result<(), Status> {
    let (timeout, version) = (headers.remove(TIMEOUT), headers.remove(VERSION));
    let encodings = [header::CONTENT_ENCODING, STREAM_ENCODING];
    for name in encodings.iter().chain(&[header::CONTENT_LENGTH, header::TRANSFER_ENCODING, GRPC_TIMEOUT]) {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    if version.is_some_and(|version| version != "1") {
        return Err(invalid("connect-protocol-version", "connect-protocol-version must be 1"));
    }
    if let Some(timeout) = timeout {
        let timeout = timeout.to_str().ok().and_then(grpc_timeout);
        let timeout =
            timeout.ok_or_else(|| invalid("connect-timeout-ms", "connect-timeout-ms must be one to ten digits"))?;
        headers.insert(GRPC_TIMEOUT, timeout);
    }
    Ok(())
}

/// The same timeout in gRPC, which has at most eight digits. Long ones are cut to whole seconds.
fn grpc_timeout(milliseconds: &str) -> Option<HeaderValue> {
    let is_number = (1..=10).contains(&milliseconds.len()) && milliseconds.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = milliseconds.parse().ok().filter(|_| is_number)?;
    let timeout = if number < 100_000_000 { format!("{number}m") } else { format!("{}S", number / 1_000) };
    HeaderValue::try_from(timeout).ok()
}

fn check_encoding(headers: &HeaderMap, name: &HeaderName) -> Result<(), Status> {
    match headers.get(name) {
        Some(encoding) if encoding != "identity" => Err(compressed()),
        _ => Ok(()),
    }
}

fn check_query(query: &QueryRequest) -> Result<(), Status> {
    if let Some(fault) = query.fault {
        return Err(invalid("", fault));
    }
    if query.compression.as_deref().is_some_and(|compression| compression != "identity") {
        return Err(compressed());
    }
    match query.version.as_deref() {
        None | Some("v1") => Ok(()),
        Some(_) => Err(invalid("connect", "the parameter `connect` must be v1")),
    }
}

/// The only message of a request with envelopes.
fn only_message(body: &[u8]) -> Result<&[u8], Status> {
    let Some((&[flags, ref length @ ..], message)) = body.split_first_chunk::<ENVELOPE_BYTES>() else {
        return Err(invalid(
            "",
            "the request has no message in an envelope: a flag, four bytes of length, the message",
        ));
    };
    if flags & 1 != 0 {
        return Err(compressed());
    }
    if flags != 0 {
        return Err(invalid("", "the message has invalid flags"));
    }
    if u32::from_be_bytes(*length) as usize != message.len() {
        return Err(invalid("", "the request is not exactly one message of the length in its envelope"));
    }
    Ok(message)
}

fn without_query(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = uri.path().parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

fn compressed() -> Status {
    unimplemented("compressed messages are not supported; supported is: identity")
}

fn unimplemented(message: &str) -> Status {
    refusal(Code::Unimplemented, "UNIMPLEMENTED", Outcome::NotApplied, message).into_status()
}

fn too_large() -> Status {
    invalid("", &format!("the message is too large: at most {MESSAGE_LIMIT_BYTES} bytes are accepted"))
}

fn invalid(field: &str, message: &str) -> Status {
    refusal(Code::InvalidArgument, "INVALID_FIELD", Outcome::NotApplied, message).at_field(field, message).into_status()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_those_of_grpc_with_at_most_eight_digits() {
        for (milliseconds, expected) in [
            ("0", Some("0m")),
            ("250", Some("250m")),
            ("99999999", Some("99999999m")),
            ("100000000", Some("100000S")),
            ("9999999999", Some("9999999S")),
            ("", None),
            ("12345678901", None),
            ("-1", None),
            ("1.0", None),
        ] {
            assert_eq!(grpc_timeout(milliseconds), expected.map(HeaderValue::from_static), "{milliseconds:?}");
        }
    }

    #[test]
    fn a_query_does_not_reach_the_service() {
        for (uri, expected) in [("/a.B/C?key=x", "/a.B/C"), ("http://h:1/a.B/C?x", "http://h:1/a.B/C")] {
            assert_eq!(without_query(&uri.parse().expect("a URI")), expected, "{uri}");
        }
    }
}
