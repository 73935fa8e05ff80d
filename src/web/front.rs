//! The outermost service: finds the protocol of a request.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{BoxFuture, Either};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use tonic::codegen::StdError;
use tower::layer::{Layer, LayerFn, layer_fn};
use tower::{Service, ServiceExt};

use super::origins::{self, Origins, WebOptions};
use super::query::{QueryFault, QueryRequest};
use super::request::RequestBody;
use super::rpcs::{self, MessageForm, Rpc};
use super::{page, reply, stream};
use crate::admission::Response;

/// Answer to a GET of the root.
const GREETING: &str = concat!(
    "Interlock ",
    env!("CARGO_PKG_VERSION"),
    ": jobs, records and permits for many programs at once, by gRPC, Connect and gRPC-Web on this port.\n",
    "Try: curl -d '{}' http://HOST:PORT/interlock.v1.AdminService/GetServerInfo (with -H 'authorization: Bearer KEY' if keys are needed)\n",
    "In a browser this is a page. More: README.md and proto/interlock/v1 of this version; reads also by GET, watches as text/event-stream.\n",
);
/// The exact content types of gRPC-Web.
const GRPC_WEB: [&[u8]; 4] = [
    b"application/grpc-web",
    b"application/grpc-web+proto",
    b"application/grpc-web-text",
    b"application/grpc-web-text+proto",
];
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// Serves HTTP clients of all protocols with a service of gRPC.
pub fn front<S>(options: &WebOptions) -> LayerFn<impl Fn(S) -> Front<S> + Clone> {
    let origins = Arc::new(Origins::new(options));
    layer_fn(move |inner| Front { inner, origins: Arc::clone(&origins) })
}

/// The service that [`front()`] puts around another.
#[derive(Debug, Clone)]
pub struct Front<S> {
    inner: S,
    origins: Arc<Origins>,
}

/// The protocol of a request.
enum Protocol {
    /// gRPC, and all that no protocol here answers: the service below says what is wrong with it.
    Grpc,
    GrpcWeb,
    Connect(&'static Rpc, MessageForm),
    /// A unary rpc by GET.
    Get(&'static Rpc, QueryRequest),
    /// A watch as events.
    Events(&'static Rpc, QueryRequest),
    /// Answered without a call.
    Answer(Response),
}

impl Protocol {
    fn of<B>(request: &Request<B>) -> Protocol {
        let path = request.uri().path();
        let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if GRPC_WEB.contains(&content_type) && request.method() == Method::POST {
            return Protocol::GrpcWeb;
        }
        let Some(rpc) = rpcs::find(path) else { return Protocol::Grpc };
        if request.method() == Method::POST {
            return match form_of(content_type, rpc.gives_stream || rpc.takes_stream) {
                Some(form) => Protocol::Connect(rpc, form),
                None => Protocol::Grpc,
            };
        }
        if request.method() != Method::GET || !rpc.is_safe {
            return Protocol::Grpc;
        }
        match QueryRequest::read(rpc, request.uri().query().unwrap_or_default()) {
            Ok(query) if rpc.gives_stream => Protocol::Events(rpc, query),
            Ok(query) => Protocol::Get(rpc, query),
            Err(QueryFault::UnknownEncoding) => Protocol::Answer(problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unimplemented",
                "the parameter `encoding` must be json or proto",
            )),
            Err(QueryFault::Malformed(why)) if rpc.gives_stream => Protocol::Events(rpc, QueryRequest::broken(why)),
            Err(QueryFault::Malformed(why)) => Protocol::Get(rpc, QueryRequest::broken(why)),
        }
    }
}

/// The form of a message of this content type. None: the rpc has no such messages.
fn form_of(content_type: &[u8], is_stream: bool) -> Option<MessageForm> {
    let (name, parameters) = match content_type.iter().position(|byte| *byte == b';') {
        Some(end) => (&content_type[..end], &content_type[end + 1..]),
        None => (content_type, &[][..]),
    };
    let name = name.trim_ascii_end().to_ascii_lowercase();
    let form = match (name.as_slice(), is_stream) {
        (b"application/proto", false) | (b"application/connect+proto", true) => MessageForm::Proto,
        (b"application/json", false) | (b"application/connect+json", true) => MessageForm::Json,
        // What curl sends with `-d`, and what pages can send without asking: see `origins`.
        (b"application/x-www-form-urlencoded", false) => MessageForm::Json,
        _ => return None,
    };
    let parameters = parameters.trim_ascii().to_ascii_lowercase();
    [&b""[..], b"charset=utf-8", b"charset=\"utf-8\""].contains(&parameters.as_slice()).then_some(form)
}

impl<S, B> Service<Request<B>> for Front<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response, Error = Infallible, Future: Unpin + Send + 'static>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<StdError>> + Send + Unpin + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_grpc(request.headers()) {
            return Either::Left(self.inner.call(request.map(RequestBody::Grpc)));
        }
        // `tower` requires that the service that was polled ready serves the call.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        Either::Right(Box::pin(answer(inner, Arc::clone(&self.origins), request)))
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    content_type.starts_with(b"application/grpc") && !content_type.starts_with(b"application/grpc-web")
}

/// Answers a request that is not gRPC.
async fn answer<S, B>(mut inner: S, origins: Arc<Origins>, request: Request<B>) -> Result<Response, Infallible>
where
    S: Service<Request<RequestBody<B>>, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<StdError>> + Send + Unpin + 'static,
{
    if let Some(file) = page::answer(&request) {
        return Ok(file);
    }
    if request.uri().path() == "/" && [Method::GET, Method::HEAD].contains(request.method()) {
        return Ok(greeting());
    }
    let origin = match origins.admit(&request) {
        Ok(origin) => origin,
        Err(why) => return Ok(problem(StatusCode::FORBIDDEN, "permission_denied", &why)),
    };
    if origins::is_preflight(&request) {
        let mut response = Response::new(tonic::body::Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        origins::permit(request.headers(), response.headers_mut());
        origins.describe(origin, response.headers_mut());
        return Ok(response);
    }
    let mut response = match Protocol::of(&request) {
        Protocol::Answer(response) => response,
        Protocol::Grpc => inner.call(request.map(RequestBody::Grpc)).await?,
        Protocol::GrpcWeb => {
            let below = inner.map_request(|request: Request<tonic::body::Body>| request.map(RequestBody::GrpcWeb));
            tonic_web::GrpcWebLayer::new().layer(below).call(request.map(RequestBody::Grpc)).await?
        }
        Protocol::Connect(rpc, form) => {
            let response = inner.call(RequestBody::of_post(request, rpc, form)).await?;
            if rpc.gives_stream || rpc.takes_stream {
                stream::enveloped(response, rpc, form)
            } else {
                reply::unary(response, rpc, form).await
            }
        }
        Protocol::Get(rpc, query) => {
            let form = query.form;
            let response = inner.call(RequestBody::of_query(request, rpc, query, None)).await?;
            uncached(reply::unary(response, rpc, form).await)
        }
        Protocol::Events(rpc, query) => {
            let last = request.headers().get(LAST_EVENT).and_then(|id| id.to_str().ok()?.parse().ok());
            let response = inner.call(RequestBody::of_query(request, rpc, query, last)).await?;
            uncached(stream::events(response, rpc))
        }
    };
    origins.describe(origin, response.headers_mut());
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// What is read changes at any time.
fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An error without a call.
fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    let json = serde_json::json!({ "code": code, "message": message }).to_string();
    let mut response = Response::new(tonic::body::Body::new(Full::new(Bytes::from(json))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn greeting() -> Response {
    let mut response = Response::new(tonic::body::Body::new(Full::new(Bytes::from_static(GREETING.as_bytes()))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
