//! A client of plain HTTP/1.1, one connection a request.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::PATIENCE;

pub const GET_JOB: &str = "/interlock.v1.JobService/GetJob";
pub const WATCH_JOB: &str = "/interlock.v1.JobService/WatchJob";
pub const SUBMIT: &str = "/interlock.v1.JobService/SubmitJob";

pub type Sent = Request<Full<Bytes>>;

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    /// The JSON of a good response.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!((self.status.as_u16(), self.header("content-type")), (200, "application/json"), "{}", self.text());
        self.json()
    }

    /// The metadata of the ErrorInfo of an error with this status, code and reason.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str, reason: &str) -> Value {
        assert_eq!(
            (self.status.as_u16(), self.header("content-type")),
            (status, "application/json"),
            "{}",
            self.text()
        );
        error_of(&self.json(), code, reason)
    }
}

/// The metadata of the ErrorInfo of an error.
#[track_caller]
pub fn error_of(error: &Value, code: &str, reason: &str) -> Value {
    assert_eq!(error["code"], code, "{error}");
    let info = detail(error, "google.rpc.ErrorInfo");
    assert_eq!((&info["reason"], &info["domain"]), (&reason.into(), &"interlock".into()), "{error}");
    info["metadata"].clone()
}

/// A detail of an error.
#[track_caller]
pub fn detail(error: &Value, name: &str) -> Value {
    let details = error["details"].as_array().unwrap_or_else(|| panic!("no details: {error}"));
    let found = details.iter().find(|detail| detail["type"] == name).unwrap_or_else(|| panic!("no {name}: {error}"));
    assert!(found["value"].is_string(), "{found}");
    found["debug"].clone()
}

/// A POST of this content type; of none if it is empty.
pub fn post(path: &str, content_type: &str, body: impl Into<Bytes>) -> Sent {
    let request = Request::post(path).header("host", "127.0.0.1");
    let request = if content_type.is_empty() { request } else { request.header("content-type", content_type) };
    request.body(Full::new(body.into())).expect("a request")
}

pub fn post_json(path: &str, json: &Value) -> Sent {
    post(path, "application/json", json.to_string())
}

pub fn get(path: &str) -> Sent {
    Request::get(path).header("host", "127.0.0.1").body(Full::default()).expect("a request")
}

pub fn with(mut request: Sent, headers: &[(&'static str, &str)]) -> Sent {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    request
}

/// Sends a request and reads its response to the end.
pub async fn send(address: SocketAddr, request: Sent) -> Reply {
    let stream = TcpStream::connect(address).await.expect("connected");
    send_over(stream, request).await
}

/// The same over a connection.
pub async fn send_over<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S, request: Sent) -> Reply {
    let (parts, body) = open_over(stream, request).await.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.expect("an end in time").expect("a body").to_bytes();
    Reply { status: parts.status, headers: parts.headers, body }
}

/// Sends a request and returns its response with the body unread.
pub async fn open(address: SocketAddr, request: Sent) -> http::Response<Incoming> {
    open_over(TcpStream::connect(address).await.expect("connected"), request).await
}

async fn open_over<S>(stream: S, request: Sent) -> http::Response<Incoming>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    timeout(PATIENCE, sender.send_request(request)).await.expect("in time").expect("a response")
}

/// Sends bytes and returns all that comes until the server closes the connection.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // It may be closed before all was sent.
    let _sent = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _reset = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A message in an envelope.
pub fn enveloped(flags: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
    [&[flags], &length[..], message].concat()
}

/// The messages of a body with envelopes, with their flags.
pub fn envelopes(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((&[flags, ref length @ ..], rest)) = body.split_first_chunk::<5>() {
        let (message, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        found.push((flags, message.to_vec()));
        body = rest;
    }
    assert!(body.is_empty(), "{body:?}");
    found
}
