//! The metrics port: /metrics for scrapers, /healthz and /readyz.
//!
//! Plain HTTP/1.1 without credentials: the pages hold no secret, and no name of a job, a record or a worker. By default
//! it listens on loopback. Limits: connections, the lifetime of each, one request per connection, one page rendered at
//! a time.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::figures::page::CONTENT_TYPE;
use crate::figures::{Page, Sparse};

/// Maximum number of connections. Further ones wait in the kernel.
const MAX_CONNECTIONS: usize = 16;
/// Maximum lifetime of a connection.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Timeout for the request line and the headers.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Maximum size of request line and headers.
const REQUEST_BYTES: usize = 16 << 10;
/// Age up to which a page is served again: at most ten pages per second are rendered, whatever the number of scrapers.
const PAGE_KEPT: Duration = Duration::from_millis(100);
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(50);

/// Pages of the metrics port.
pub struct Operators {
    page: Page,
    /// True while the health service reports SERVING.
    serving: watch::Receiver<bool>,
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Operators {
    /// Creates the pages. `page`: /metrics; `serving`: the response of /readyz.
    pub fn new(page: Page, serving: watch::Receiver<bool>) -> Self {
        Self { page, serving, last: Mutex::default() }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !["/metrics", "/healthz", "/readyz"].contains(&path) {
            return plain(StatusCode::NOT_FOUND, "not found: there are /metrics, /healthz and /readyz\n");
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/healthz" => plain(StatusCode::OK, "alive\n"),
            "/readyz" if *self.serving.borrow() => plain(StatusCode::OK, "serving\n"),
            "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "not serving\n"),
            _ => match self.text() {
                Some(text) => with_type(StatusCode::OK, CONTENT_TYPE, text),
                None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made\n"),
            },
        }
    }

    /// The page, rendered once for all requests at the same time.
    fn text(&self) -> Option<Bytes> {
        let mut last = self.last.lock();
        if let Some((made, text)) = last.as_ref().filter(|(made, _)| made.elapsed() < PAGE_KEPT) {
            let _age = made;
            return Some(text.clone());
        }
        let text = Bytes::from(self.page.render().ok()?);
        *last = Some((Instant::now(), text.clone()));
        Some(text)
    }
}

/// Serves the metrics port until `end` is cancelled.
pub async fn serve_operators(listener: TcpListener, operators: Arc<Operators>, end: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let failed = Sparse::default();
    loop {
        // Takes a place before accepting: further connections wait in the kernel's bounded queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let serving = serve_one(stream, Arc::clone(&operators));
                let end = end.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = end.cancelled() => {}
                        _ = tokio::time::timeout(CONNECTION_TIME, serving) => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                if let Some(suppressed) = failed.pass() {
                    tracing::warn!(%error, suppressed, "a connection to the metrics port could not be accepted");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn serve_one(stream: TcpStream, operators: Arc<Operators>) -> impl Future<Output = ()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let operators = Arc::clone(&operators);
        async move {
            // Rendering a page blocks a thread for milliseconds.
            let answer = tokio::task::spawn_blocking(move || operators.answer(&request)).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "a fault\n")))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_TIME).max_buf_size(REQUEST_BYTES).keep_alive(false);
    async move {
        if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "a connection to the metrics port ended");
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn with_type(status: StatusCode, content_type: &'static str, text: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
