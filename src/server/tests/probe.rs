//! A service that misbehaves on demand, a server around it, and clients for it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Request;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use super::super::*;
use crate::admission::{Deadline, Methods, Response};

/// Service `test.Probe`: each method does one thing that a server must survive.
#[derive(Clone)]
struct Probe;

impl tonic::server::NamedService for Probe {
    const NAME: &'static str = "test.Probe";
}

#[derive(Clone)]
struct Echo;

impl tonic::server::UnaryService<HealthCheckRequest> for Echo {
    type Response = HealthCheckResponse;
    type Future = BoxFuture<'static, Result<tonic::Response<HealthCheckResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<HealthCheckRequest>) -> Self::Future {
        Box::pin(async move {
            assert!(request.extensions().get::<Deadline>().is_some());
            Ok(tonic::Response::new(HealthCheckResponse { status: 1 }))
        })
    }
}

impl tower::Service<Request<Body>> for Probe {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match request.uri().path() {
            "/test.Probe/Echo" => Box::pin(async move {
                let codec = ProstCodec::<HealthCheckResponse, HealthCheckRequest>::default();
                let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(usize::MAX);
                Ok(grpc.unary(Echo, request).await)
            }),
            "/test.Probe/Panic" => Box::pin(async { panic!("the secret of the handler") }),
            "/test.Probe/PanicAtOnce" => panic!("the secret of the handler"),
            "/test.Probe/PanicInStream" => streaming(futures::stream::poll_fn(|_| panic!("the secret of the handler"))),
            "/test.Probe/GetForever" | "/test.Probe/UpdateForever" => Box::pin(std::future::pending()),
            "/test.Probe/Heartbeat" => Box::pin(async { Ok(Status::aborted("heartbeat").into_http()) }),
            // Sends its headers, then nothing.
            "/test.Probe/WatchForever" => streaming(futures::stream::pending()),
            path => panic!("no such method: {path}"),
        }
    }
}

fn streaming(
    stream: impl futures::Stream<Item = Result<http_body::Frame<Bytes>, Status>> + Send + 'static,
) -> BoxFuture<'static, Result<Response, Infallible>> {
    let mut response = http::Response::new(Body::new(StreamBody::new(stream)));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    Box::pin(async move { Ok(response) })
}

fn descriptor() -> Vec<u8> {
    let names =
        ["Echo", "Panic", "PanicAtOnce", "PanicInStream", "GetForever", "UpdateForever", "WatchForever", "Heartbeat"];
    let service = ServiceDescriptorProto {
        name: Some("Probe".to_owned()),
        method: names
            .iter()
            .map(|name| MethodDescriptorProto { name: Some((*name).to_owned()), ..MethodDescriptorProto::default() })
            .collect(),
        ..ServiceDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        package: Some("test".to_owned()),
        service: vec![service],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) statistics: Arc<Statistics>,
    pub(super) shutdown: CancellationToken,
    pub(super) task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub(super) async fn start() -> Server {
        Server::start_with(|_| {}).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut Options)) -> Server {
        let descriptor = descriptor();
        let methods = Methods::from_descriptors(&[&descriptor, tonic_health::pb::FILE_DESCRIPTOR_SET]);
        let statistics = Arc::new(Statistics::new(methods.expect("descriptors")));
        let mut options = Options::new(&Config::default(), Arc::clone(&statistics));
        change(&mut options);
        let (_, health) = tonic_health::server::health_reporter();
        let routes = Routes::new(health).add_service(Probe);
        let routes = with_reflection(routes, &[tonic_health::pb::FILE_DESCRIPTOR_SET]);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let routes = routes.expect("reflection");
        let task = tokio::spawn(serve(listener, routes, options, shutdown.clone()));
        Server { address, statistics, shutdown, task }
    }

    /// Opens a connection that speaks HTTP/2 and nothing else: tonic's channel would enforce `grpc-timeout` by itself,
    /// and answer CANCELLED before the server's response arrives.
    pub(super) async fn connect(&self) -> SendRequest<Body> {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        // All gRPC clients set this; otherwise the end of a request waits 40 ms for the server's acknowledgement.
        stream.set_nodelay(true).expect("set");
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(executor, io).await;
        let (sender, connection) = handshake.expect("a handshake");
        tokio::spawn(connection);
        sender
    }

    /// Calls a method of the probe.
    pub(super) async fn call(
        &self,
        method: &str,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<HealthCheckResponse, Status> {
        call(self.connect().await, method, request).await
    }

    /// Number of ended calls of a method with this code.
    pub(super) fn finished(&self, method: &str, code: Code) -> u64 {
        let snapshot = self.statistics.snapshot();
        let path = format!("/test.Probe/{method}");
        let found = snapshot.methods.iter().find(|found| found.path == path);
        found.map_or(0, |method| method.finished[code as usize])
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.statistics.in_flight()
    }
}

pub(super) async fn call(
    sender: SendRequest<Body>,
    method: &str,
    request: tonic::Request<HealthCheckRequest>,
) -> Result<HealthCheckResponse, Status> {
    let origin = "http://localhost".parse().expect("a URI");
    let mut client = tonic::client::Grpc::with_origin(service(sender), origin);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(format!("/test.Probe/{method}")).expect("a path");
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    client.unary(request, path, codec).await.map(tonic::Response::into_inner)
}

/// The connection as a `tower` service.
pub(super) fn service(
    sender: SendRequest<Body>,
) -> impl tower::Service<Request<Body>, Response = http::Response<Incoming>, Error = hyper::Error, Future: Send> + Clone
{
    tower::service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    })
}

pub(super) fn small() -> tonic::Request<HealthCheckRequest> {
    tonic::Request::new(HealthCheckRequest::default())
}

pub(super) fn with_timeout(timeout: &str) -> tonic::Request<HealthCheckRequest> {
    let mut request = small();
    request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("a value"));
    request
}

pub(super) fn reason_and_outcome(status: &Status) -> (String, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "interlock");
    (info.reason.clone(), info.metadata["outcome"].clone())
}

#[track_caller]
pub(super) fn assert_status(
    result: Result<HealthCheckResponse, Status>,
    code: Code,
    reason: &str,
    outcome: &str,
) -> Status {
    let status = result.expect_err("an error");
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(reason_and_outcome(&status), (reason.to_owned(), outcome.to_owned()));
    status
}

pub(super) async fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "did not become true in time");
        tokio::task::yield_now().await;
    }
}

/// Sends a raw call and returns its status.
pub(super) async fn raw(server: &Server, request: Request<Body>) -> (http::StatusCode, Option<Status>) {
    let mut sender = server.connect().await;
    let response = sender.send_request(request).await.expect("a response");
    let status = Status::from_header_map(response.headers());
    (response.status(), status)
}

pub(super) fn request(path: &str, pieces: &[&'static [u8]]) -> Request<Body> {
    request_of(path, futures::stream::iter(frames(pieces)))
}

/// Builds a request without an end.
pub(super) fn unfinished_request(path: &str, pieces: &[&'static [u8]]) -> Request<Body> {
    request_of(path, futures::StreamExt::chain(futures::stream::iter(frames(pieces)), futures::stream::pending()))
}

type Piece = Result<http_body::Frame<Bytes>, Infallible>;

fn frames(pieces: &[&'static [u8]]) -> Vec<Piece> {
    pieces.iter().map(|piece| Ok(http_body::Frame::data(Bytes::from_static(piece)))).collect()
}

fn request_of(path: &str, pieces: impl futures::Stream<Item = Piece> + Send + 'static) -> Request<Body> {
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(pieces)))
        .expect("a request")
}
