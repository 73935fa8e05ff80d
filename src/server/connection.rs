//! Serves one connection: its limits, and its end.
//!
//! Limits that the libraries do not set by default: concurrent calls, time to the first bytes, silence afterwards,
//! header sizes, flow-control windows (and so memory), frames that no call explains (see `metered`), and, if
//! configured, age.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;

use super::Options;
use super::begun::Begun;
use super::closed::ClosedConnections;
use super::idle::{Ending, Idle, IdleLimits};
use super::metered::{CALLS_PER_POLL, Metered, ReadQuota};
use super::places::{ConnectionPlace, Places};
use super::tls::{Presented, ServerTls};
use crate::admission::{ConnectionShare, Peer, Response, Statistics};
use crate::figures::door::Closed;

/// Timeout for the first bytes of a client.
const FIRST_BYTES_LIMIT: Duration = Duration::from_secs(10);
/// Maximum number of concurrent TLS handshakes. A stalled one holds at most 64 KiB, for at most [`FIRST_BYTES_LIMIT`].
const MAX_HANDSHAKES: u32 = 512;
/// First byte of a TLS handshake record, in any version.
const TLS_HANDSHAKE: u8 = 0x16;
/// Time without received bytes before a ping; well below the idle timeouts of common firewalls and load balancers.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Timeout for the response to a ping; then the peer counts as gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Flow-control window of a call: it takes one message of the maximum size in a few round trips.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Flow-control window of a connection, for all its calls.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Maximum number of bytes buffered for sending per call that the client's window would take; beyond it the stream waits. Of a client that does not
/// read its socket each call holds as much, so it is little: four frames, which keep a connection busy.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Maximum size of the metadata of a call: keys, tokens and trace ids are short.
const HEADER_LIMIT_BYTES: u32 = 16 << 10;
/// Time for calls to end after a connection has reached its maximum age.
const AGE_GRACE: Duration = Duration::from_secs(60);

/// Limits and shared state of all connections.
#[derive(Debug, Clone)]
pub(super) struct ConnectionBounds {
    max_concurrent_streams: u32,
    max_age: Option<Duration>,
    idle: IdleLimits,
    /// Cancelled when the drain begins: no new calls, those in flight may end.
    draining: CancellationToken,
    /// Cancelled to close connections at once.
    pub(super) cut_off: CancellationToken,
    /// TLS acceptor. None: plaintext.
    tls: Option<Arc<ServerTls>>,
    /// Places of running TLS handshakes.
    handshaking: Arc<Places>,
    statistics: Arc<Statistics>,
    closed: ClosedConnections,
}

impl ConnectionBounds {
    pub(super) fn new(options: &Options, draining: CancellationToken) -> ConnectionBounds {
        ConnectionBounds {
            max_concurrent_streams: options.max_concurrent_streams,
            max_age: options.max_connection_age,
            idle: options.idle,
            draining,
            cut_off: CancellationToken::new(),
            tls: options.tls.clone(),
            handshaking: Places::new(MAX_HANDSHAKES),
            statistics: Arc::clone(&options.statistics),
            closed: ClosedConnections::new(&options.statistics),
        }
    }
}

/// Serves a connection until it ends. `place` is released then.
pub(super) async fn serve<S>(stream: TcpStream, place: ConnectionPlace, service: S, bounds: ConnectionBounds)
where
    S: tower::Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    // Messages are small: Nagle's algorithm would delay some of them by 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let address = stream.peer_addr().ok();
    let _open = OpenConnection::count(&bounds.statistics);
    let begun = tokio::select! {
        () = bounds.draining.cancelled() => None,
        begun = tokio::time::timeout(FIRST_BYTES_LIMIT, begin(stream, &bounds, address)) => begun.unwrap_or_else(|_| {
            bounds.closed.count(Closed::Silent);
            None
        }),
    };
    match begun {
        None => {}
        Some(Transport::Plain(stream)) => {
            let peer = Peer { address: address.map(|at| at.ip()), certificate: None };
            Box::pin(run(stream, place, peer, None, service, bounds)).await;
        }
        Some(Transport::Tls(stream, presented)) => {
            let (names, expires) = presented.map(|it| (it.names, it.expires)).unzip();
            let peer = Peer { address: address.map(|at| at.ip()), certificate: names };
            let valid_for = expires.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
            Box::pin(run(*stream, place, peer, valid_for, service, bounds)).await;
        }
    }
}

/// Counts a connection as open until it is dropped.
struct OpenConnection(Arc<Statistics>);

impl OpenConnection {
    fn count(statistics: &Arc<Statistics>) -> Self {
        statistics.door.connections.inc();
        Self(Arc::clone(statistics))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.door.connections.dec();
    }
}

/// A connection with its first HTTP bytes read.
enum Transport {
    Plain(Begun<TcpStream>),
    Tls(Box<Begun<TlsStream<TcpStream>>>, Option<Presented>),
}

/// Performs the TLS handshake if this server uses TLS, and waits for the first bytes. None: the client disconnected, or
/// uses a protocol that this port does not serve.
async fn begin(stream: TcpStream, bounds: &ConnectionBounds, address: Option<SocketAddr>) -> Option<Transport> {
    let mut first = [0];
    if stream.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    let close = |reason: Closed, why: &str| bounds.closed.warn(reason, address, why);
    match (&bounds.tls, first == [TLS_HANDSHAKE]) {
        (None, false) => Begun::read(stream).await.map(Transport::Plain),
        (None, true) => {
            close(Closed::HandshakeFailed, "the client speaks TLS, and this server was started without --tls-cert");
            None
        }
        (Some(_), false) => {
            close(Closed::HandshakeFailed, "the client speaks plaintext, and this port is TLS alone: use https");
            None
        }
        (Some(tls), true) => {
            let Ok(handshaking) = bounds.handshaking.take(address.map(|at| at.ip())) else {
                close(Closed::HandshakesFull, "too many TLS handshakes are going on, in all or at this address");
                return None;
            };
            let accepted = tls.accept(stream).await;
            drop(handshaking);
            match accepted {
                Ok((stream, presented)) => {
                    Begun::read(stream).await.map(|stream| Transport::Tls(Box::new(stream), presented))
                }
                Err(error) => {
                    close(Closed::HandshakeFailed, &format!("the TLS handshake failed: {error}"));
                    None
                }
            }
        }
    }
}

/// Serves the connection after its first bytes. `valid_for`: the time until the client's certificate expires; None: no
/// such limit.
async fn run<T, S>(
    stream: Begun<T>,
    mut place: ConnectionPlace,
    peer: Peer,
    valid_for: Option<Duration>,
    service: S,
    bounds: ConnectionBounds,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: tower::Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
{
    let builder = builder(&bounds);
    let share = ConnectionShare::default();
    let mut idle = Idle::new(bounds.idle, share.clone());
    let of_connection = share.clone();
    let address = peer.address;
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(of_connection.clone());
            request.extensions_mut().insert(peer.clone());
            request
        })
        .service(service);
    let quota = ReadQuota::default();
    let stream = TokioIo::new(Metered::new(stream, quota.clone()));
    let connection = builder.serve_connection(stream, TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let mut old = std::pin::pin!(sleep(bounds.max_age.map(spread)));
    let mut too_old = std::pin::pin!(sleep(bounds.max_age.map(|age| spread(age) + AGE_GRACE)));
    let mut expired = std::pin::pin!(sleep(valid_for));
    let mut is_leaving = false;
    loop {
        tokio::select! {
            ended = std::future::poll_fn(|context| {
                quota.renew();
                if share.is_authenticated() {
                    place.leave_share();
                }
                connection.as_mut().poll(context)
            }) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                if quota.has_flooded() {
                    bounds.closed.warn(Closed::Flooded, address, "it sent far more frames than its calls explain");
                }
                return;
            }
            () = bounds.draining.cancelled(), if !is_leaving => {}
            () = &mut old, if !is_leaving => {}
            () = &mut too_old => return,
            () = &mut expired => return,
            ending = idle.over() => {
                if ending == Ending::Close {
                    return;
                }
                bounds.closed.count(Closed::Idle);
            }
            () = bounds.cut_off.cancelled() => return,
        }
        // At the drain, at the maximum age or without calls: GOAWAY makes the client send its next calls elsewhere.
        is_leaving = true;
        connection.as_mut().graceful_shutdown();
    }
}

fn builder(bounds: &ConnectionBounds) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Also between two requests, so that an idle connection of HTTP/1 ends.
        .header_read_timeout(FIRST_BYTES_LIMIT)
        .max_buf_size(HEADER_LIMIT_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.max_concurrent_streams)
        // A client that cancels calls it has just begun keeps its connection: one poll never finds that many calls, and
        // calls without a response cost tokens.
        .max_pending_accept_reset_streams(CALLS_PER_POLL)
        // The limit of h2 is for the whole life of a connection; ours is a rate. A message that is refused before it is
        // complete continues to arrive for a while, and each of its frames would count.
        .max_local_error_reset_streams(None)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIMIT_BYTES);
    builder
}

/// Shortens an age by up to a tenth, so that connections that began together do not end together.
fn spread(age: Duration) -> Duration {
    age.mul_f64(rand::random_range(0.9..=1.0))
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
