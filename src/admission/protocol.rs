//! Errors of the protocol itself: calls that are not gRPC, and errors that the libraries below return by themselves.
//!
//! A library's own error has no `ErrorInfo`, and it is INTERNAL if the bytes are not a message of the method. That is
//! the caller's mistake, so it becomes INVALID_ARGUMENT. Errors with details are our own and stay unchanged.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::{Answer, Inner, Outcome, Response, methods, refusal};

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
        let is_known = methods::of(&request).is_known;
        if is_known && !is_grpc {
            let answer = plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "this is a gRPC method: content-type must be application/grpc\n",
            );
            return Box::pin(async move { Ok(answer) });
        }
        if is_known && request.method() != http::Method::POST {
            let answer = plain(StatusCode::METHOD_NOT_ALLOWED, "a gRPC call is a POST\n");
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
                return Ok(plain(StatusCode::NOT_FOUND, "nothing here but gRPC\n"));
            }
            Ok(translate(response))
        })
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
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

/// Response for a client that does not speak gRPC.
fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = http::Response::new(tonic::body::Body::new(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
