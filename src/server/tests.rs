//! The whole stack on a real TCP port, with a real client, around a service that misbehaves on demand.

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
use prost_types::{
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use super::*;
use crate::admission::{Deadline, Methods, Response};

/// `test.Probe`: each method does one thing that a server has to survive.
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
                let mut grpc =
                    tonic::server::Grpc::new(codec).max_decoding_message_size(usize::MAX);
                Ok(grpc.unary(Echo, request).await)
            }),
            "/test.Probe/Panic" => Box::pin(async { panic!("the secret of the handler") }),
            "/test.Probe/PanicAtOnce" => panic!("the secret of the handler"),
            "/test.Probe/PanicInStream" => streaming(futures::stream::poll_fn(|_| {
                panic!("the secret of the handler")
            })),
            "/test.Probe/GetForever" | "/test.Probe/UpdateForever" => {
                Box::pin(std::future::pending())
            }
            "/test.Probe/Heartbeat" => Box::pin(async { Ok(Status::aborted("beat").into_http()) }),
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
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    );
    Box::pin(async move { Ok(response) })
}

fn descriptor() -> Vec<u8> {
    let names = [
        "Echo",
        "Panic",
        "PanicAtOnce",
        "PanicInStream",
        "GetForever",
        "UpdateForever",
        "WatchForever",
        "Heartbeat",
    ];
    let service = ServiceDescriptorProto {
        name: Some("Probe".to_owned()),
        method: names
            .iter()
            .map(|name| MethodDescriptorProto {
                name: Some((*name).to_owned()),
                ..MethodDescriptorProto::default()
            })
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

struct Server {
    address: SocketAddr,
    statistics: Arc<Statistics>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Server {
    async fn start() -> Server {
        Server::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Options)) -> Server {
        let descriptor = descriptor();
        let methods =
            Methods::from_descriptors(&[&descriptor, tonic_health::pb::FILE_DESCRIPTOR_SET]);
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
        Server {
            address,
            statistics,
            shutdown,
            task,
        }
    }

    /// A connection that speaks HTTP/2 and nothing else: tonic's channel would enforce `grpc-timeout` by itself, and
    /// answer CANCELLED before the server's word arrives.
    async fn connect(&self) -> SendRequest<Body> {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(executor, io).await;
        let (sender, connection) = handshake.expect("a handshake");
        tokio::spawn(connection);
        sender
    }

    /// Calls a method of the probe.
    async fn call(
        &self,
        method: &str,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<HealthCheckResponse, Status> {
        call(self.connect().await, method, request).await
    }

    /// The number of ended calls of a method with this code.
    fn finished(&self, method: &str, code: Code) -> u64 {
        let snapshot = self.statistics.snapshot();
        let path = format!("/test.Probe/{method}");
        let found = snapshot.methods.iter().find(|found| found.path == path);
        found.map_or(0, |method| method.finished[code as usize])
    }

    fn in_flight(&self) -> u64 {
        let snapshot = self.statistics.snapshot();
        snapshot.methods.iter().map(|method| method.in_flight).sum()
    }
}

async fn call(
    sender: SendRequest<Body>,
    method: &str,
    request: tonic::Request<HealthCheckRequest>,
) -> Result<HealthCheckResponse, Status> {
    let origin = "http://localhost".parse().expect("a URI");
    let mut client = tonic::client::Grpc::with_origin(service(sender), origin);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(format!("/test.Probe/{method}")).expect("a path");
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    client
        .unary(request, path, codec)
        .await
        .map(tonic::Response::into_inner)
}

/// The connection as a service.
fn service(
    sender: SendRequest<Body>,
) -> impl tower::Service<
    Request<Body>,
    Response = http::Response<Incoming>,
    Error = hyper::Error,
    Future: Send,
> + Clone {
    tower::service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    })
}

fn small() -> tonic::Request<HealthCheckRequest> {
    tonic::Request::new(HealthCheckRequest::default())
}

fn with_timeout(timeout: &str) -> tonic::Request<HealthCheckRequest> {
    let mut request = small();
    request
        .metadata_mut()
        .insert("grpc-timeout", timeout.parse().expect("a value"));
    request
}

fn reason_and_outcome(status: &Status) -> (String, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "interlock");
    (info.reason.clone(), info.metadata["outcome"].clone())
}

#[track_caller]
fn assert_status(
    result: Result<HealthCheckResponse, Status>,
    code: Code,
    reason: &str,
    outcome: &str,
) -> Status {
    let status = result.expect_err("an error");
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(
        reason_and_outcome(&status),
        (reason.to_owned(), outcome.to_owned())
    );
    status
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "did not become true in time");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_call_passes_and_is_counted() {
    let server = Server::start().await;
    let answer = server.call("Echo", small()).await.expect("an answer");
    assert_eq!(answer.status(), ServingStatus::Serving);
    eventually(|| server.finished("Echo", Code::Ok) == 1).await;
    assert_eq!(server.in_flight(), 0);
}

#[tokio::test]
async fn an_expired_deadline_is_deadline_exceeded() {
    let server = Server::start().await;
    let read = server.call("GetForever", with_timeout("20m")).await;
    assert_status(
        read,
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "NOT_APPLIED",
    );
    let write = server.call("UpdateForever", with_timeout("20m")).await;
    assert_status(
        write,
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "UNKNOWN",
    );
    let stream = server.call("WatchForever", with_timeout("20m")).await;
    assert_status(
        stream,
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "NOT_APPLIED",
    );
    let at_once = server.call("UpdateForever", with_timeout("0S")).await;
    assert_status(
        at_once,
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "NOT_APPLIED",
    );
    let malformed = server.call("Echo", with_timeout("soon")).await;
    assert_status(
        malformed,
        Code::InvalidArgument,
        "INVALID_FIELD",
        "NOT_APPLIED",
    );
    eventually(|| server.finished("WatchForever", Code::DeadlineExceeded) == 1).await;
    assert_eq!(server.in_flight(), 0);
}

#[tokio::test]
async fn without_a_deadline_the_cap_applies() {
    let server = Server::start_with(|options| options.max_call = Duration::from_millis(20)).await;
    let result = server.call("UpdateForever", small()).await;
    assert_status(
        result,
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "UNKNOWN",
    );
}

#[tokio::test]
async fn a_panic_is_internal_with_an_id_and_nothing_else() {
    let server = Server::start().await;
    let sender = server.connect().await;
    for method in ["Panic", "PanicAtOnce", "PanicInStream"] {
        let result = call(sender.clone(), method, small()).await;
        let status = assert_status(result, Code::Internal, "INTERNAL", "UNKNOWN");
        assert!(!format!("{status:?}").contains("secret"), "{status:?}");
        let details = status.get_error_details();
        let id = &details.error_info().expect("an ErrorInfo").metadata["id"];
        assert_eq!(status.message(), format!("internal error {id}"));
    }
    // The connection has survived.
    call(sender, "Echo", small()).await.expect("an answer");
    eventually(|| server.in_flight() == 0).await;
}

#[tokio::test]
async fn an_oversized_message_is_invalid_argument() {
    let server = Server::start().await;
    let sized = |bytes: usize| {
        tonic::Request::new(HealthCheckRequest {
            service: "x".repeat(bytes),
        })
    };
    server
        .call("Echo", sized((4 << 20) - 16))
        .await
        .expect("just below the limit");
    let result = server.call("Echo", sized(4 << 20)).await;
    let status = assert_status(
        result,
        Code::InvalidArgument,
        "INVALID_FIELD",
        "NOT_APPLIED",
    );
    assert!(status.message().contains("4194304"), "{status:?}");
}

#[tokio::test]
async fn beyond_the_limit_calls_are_told_when_to_come_back() {
    let server = Server::start_with(|options| options.max_in_flight = 8).await;
    let sender = server.connect().await;
    let held: Vec<_> = (0..7)
        .map(|_| tokio::spawn(call(sender.clone(), "WatchForever", small())))
        .collect();
    eventually(|| server.in_flight() == 7).await;

    let result = call(sender.clone(), "Echo", small()).await;
    let status = assert_status(result, Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED");
    assert!(status.get_error_details().retry_info().is_some());
    assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
    // What keeps accepted work going passes, and so do health checks.
    let beat = call(sender.clone(), "Heartbeat", small()).await;
    assert_eq!(beat.expect_err("its own error").code(), Code::Aborted);
    let health = HealthClient::with_origin(
        service(sender.clone()),
        "http://localhost".parse().expect("a URI"),
    )
    .check(HealthCheckRequest::default())
    .await;
    assert!(health.is_ok());

    // A client that goes away gives its place back.
    held.iter().for_each(tokio::task::JoinHandle::abort);
    eventually(|| server.in_flight() == 0).await;
    call(sender, "Echo", small()).await.expect("a free place");
}

/// Sends a raw call and gives the status that came back.
async fn raw(server: &Server, request: Request<Body>) -> (http::StatusCode, Option<Status>) {
    let mut sender = server.connect().await;
    let response = sender.send_request(request).await.expect("a response");
    let status = Status::from_header_map(response.headers());
    (response.status(), status)
}

fn request(path: &str, pieces: &[&'static [u8]]) -> Request<Body> {
    let frame = |piece: &&'static [u8]| http_body::Frame::data(Bytes::from_static(piece));
    let frames: Vec<_> = pieces.iter().map(frame).map(Ok::<_, Infallible>).collect();
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(futures::stream::iter(frames))))
        .expect("a request")
}

#[tokio::test]
async fn malformed_requests_are_the_callers_mistake() {
    let server = Server::start().await;
    let cases: [(&str, &[&'static [u8]], Code); 6] = [
        ("nothing at all", &[], Code::InvalidArgument),
        ("half a header", &[&[0, 0]], Code::InvalidArgument),
        (
            "half a message",
            &[&[0, 0, 0, 0, 9], &[10, 7]],
            Code::InvalidArgument,
        ),
        (
            "not a message",
            &[&[0, 0, 0, 0, 2, 255, 255]],
            Code::InvalidArgument,
        ),
        ("no such flag", &[&[7, 0, 0, 0, 0]], Code::InvalidArgument),
        ("compressed", &[&[1, 0, 0, 0, 0]], Code::Unimplemented),
    ];
    for (name, pieces, code) in cases {
        let (_, status) = raw(&server, request("/test.Probe/Echo", pieces)).await;
        let status = status.unwrap_or_else(|| panic!("{name}: no status"));
        assert_eq!(status.code(), code, "{name}: {status:?}");
        assert_eq!(reason_and_outcome(&status).1, "NOT_APPLIED", "{name}");
    }
    let (_, status) = raw(&server, request("/test.Nobody/Home", &[])).await;
    let status = status.expect("a status");
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(reason_and_outcome(&status).0, "UNIMPLEMENTED");
}

#[tokio::test]
async fn strangers_get_an_answer_they_understand() {
    let server = Server::start().await;
    let mut stranger = request("/test.Probe/Echo", &[]);
    stranger.headers_mut().remove("content-type");
    assert_eq!(raw(&server, stranger).await.0, 415);
    let mut stranger = request("/favicon.ico", &[]);
    stranger.headers_mut().remove("content-type");
    assert_eq!(raw(&server, stranger).await.0, 404);
    // HTTP/1 too: somebody points a browser at the port.
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn a_drain_lets_calls_end_and_then_cuts_them_off() {
    let server =
        Server::start_with(|options| options.drain_timeout = Duration::from_millis(200)).await;
    let sender = server.connect().await;
    let ends = tokio::spawn(call(sender.clone(), "GetForever", with_timeout("100m")));
    let stays = tokio::spawn(call(sender, "WatchForever", small()));
    // A peer that has said nothing yet does not hold up the drain.
    let _silent = TcpStream::connect(server.address).await.expect("connected");
    eventually(|| server.in_flight() == 2).await;
    server.shutdown.cancel();
    server.task.await.expect("no panic").expect("served");
    let ended = ends.await.expect("no panic").expect_err("its deadline");
    assert_eq!(ended.code(), Code::DeadlineExceeded);
    let cut = stays.await.expect("no panic").expect_err("cut off");
    assert_ne!(cut.code(), Code::DeadlineExceeded);
    let refused = TcpStream::connect(server.address).await;
    assert!(refused.is_err(), "still listening");
}

#[tokio::test]
async fn idle_clients_do_not_hold_up_a_drain() {
    let server = Server::start().await;
    let sender = server.connect().await;
    call(sender, "Echo", small()).await.expect("an answer");
    server.shutdown.cancel();
    let drained = tokio::time::timeout(Duration::from_secs(5), server.task).await;
    drained
        .expect("in time")
        .expect("no panic")
        .expect("served");
}
