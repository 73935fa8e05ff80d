//! Errors of the protocol itself: calls that are not gRPC, and errors that the libraries below return by themselves.
//!
//! A library's own error has no `ErrorInfo`, and it is INTERNAL if the bytes are not a message of the method. That is
//! the caller's mistake, so it becomes INVALID_ARGUMENT. Errors with details are our own and stay unchanged. Clients of
//! other protocols were converted before (see `web`); what is left of theirs gets an error as JSON.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::methods::Method;
use super::refusal::Outcome;
use super::{Answer, Inner, Response, methods, refusal};

/// Converts errors of the libraries to errors with an `ErrorInfo`.
pub fn protocol_errors<S>() -> LayerFn<impl Fn(S) -> Translated<S> + Clone> {
    layer_fn(|inner| Translated { inner })
}

/// Service of [`protocol_errors`].
#[derive(Debug, Clone)]
pub struct Translated<S> {
    inner: S,
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for Translated<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let is_grpc = is_grpc(request.headers());
        let method = methods::of(&request);
        if method.is_known && request.method() != http::Method::POST {
            let (allowed, text) = if method.is_read && !method.is_client_streaming {
                ("GET, POST", "call this rpc by POST or GET")
            } else {
                ("POST", "this rpc has side effects: call it by POST")
            };
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "unknown", text);
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
            return Box::pin(async move { Ok(answer) });
        }
        if method.is_known && !is_grpc {
            let answer = plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown", content_types(method));
            return Box::pin(async move { Ok(answer) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let has_details = response.headers().contains_key(Status::GRPC_STATUS_DETAILS);
            if has_details || !response.headers().contains_key(Status::GRPC_STATUS) {
                return Ok(response);
            }
            if !is_grpc {
                return Ok(plain(
                    StatusCode::NOT_FOUND,
                    "unimplemented",
                    "there is nothing at this path: rpcs are at /interlock.v1.SERVICE/METHOD",
                ));
            }
            Ok(translate(response))
        })
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    content_type.starts_with(b"application/grpc") && !content_type.starts_with(b"application/grpc-web")
}

fn translate(response: Response) -> Response {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    match status.code() {
        Code::Internal => {
            refusal(Code::InvalidArgument, "INVALID_FIELD", Outcome::NotApplied, status.message()).into_response()
        }
        Code::Unimplemented => {
            let message = match status.message() {
                "" => "there is no such method",
                message => message,
            };
            let refusal = refusal(Code::Unimplemented, "UNIMPLEMENTED", Outcome::NotApplied, message);
            let mut translated = refusal.into_response();
            // Header with the compressions that the server accepts.
            if let Some(accepted) = response.headers().get("grpc-accept-encoding") {
                translated.headers_mut().insert("grpc-accept-encoding", accepted.clone());
            }
            translated
        }
        // The health service does not know the requested service. Its clients check the code; ours check the reason.
        Code::NotFound => {
            refusal(Code::NotFound, "SERVICE_NOT_FOUND", Outcome::NotApplied, status.message()).into_response()
        }
        // Reflection reports errors inside its stream.
        _ => response,
    }
}

/// The content types of a method, for who sends another one.
fn content_types(method: Method) -> &'static str {
    match method {
        Method { is_client_streaming: true, .. } => "content-type must be application/grpc: this rpc takes a stream",
        Method { is_watch: true, .. } => {
            "content-type must be application/grpc, application/grpc-web, application/connect+json or \
             application/connect+proto: this rpc is a stream; GET it as text/event-stream"
        }
        Method { .. } => {
            "content-type must be application/json, application/proto, application/grpc or application/grpc-web"
        }
    }
}

/// Response for a client that does not speak gRPC: an error of Connect.
fn plain(status: StatusCode, code: &str, message: &str) -> Response {
    let json = serde_json::json!({ "code": code, "message": message }).to_string();
    let mut response = http::Response::new(tonic::body::Body::new(Full::new(Bytes::from(json))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
