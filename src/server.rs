//! The tower stack as one readable column; serve, drain.
//!
//! Connections are served by hyper itself and not by tonic's transport server, whose outermost layer would answer an
//! expired deadline with CANCELLED and which leaves several bounds open (see `connection`).

mod begun;
mod closed;
mod connection;
mod idle;
mod metered;
mod operators;
mod places;
mod tls;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Request;
use http_body::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codegen::StdError;
use tonic::service::Routes;
use tower::util::MapRequestLayer;
use tower::{Layer, Service, ServiceBuilder};

use crate::admission::{
    self, ArrivalLimits, ClientRates, KnownKeys, MessageBody, Overload, RateLimiter, Response, Statistics, StreamLimits,
};
use crate::config::{Config, Origin};
use crate::figures::Sparse;
use crate::figures::door::Closed;
use crate::spans::Sampler;
use crate::web::{self, WebOptions};
use closed::ClosedConnections;
pub use idle::IdleLimits;
pub use operators::{Operators, serve_operators};
use places::{ConnectionPlace, Full, Places};
pub use tls::ServerTls;

/// How long to wait after a failed accept. It fails when file descriptors have run out, and at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time that connections get to close after they were cut off.
const FORCED_LIMIT: Duration = Duration::from_secs(2);
/// How long nothing must be in flight until a drain counts as done: the last answers have reached their clients.
const QUIET: Duration = Duration::from_secs(1);
/// How long a message may take to arrive. Most come with their call; this is for networks that lose packets.
const ARRIVAL_TIME: Duration = Duration::from_secs(10);
/// The rate above which larger messages may take longer: 4 MiB get 42 seconds.
const ARRIVAL_BYTES_PER_SECOND: u32 = 128 << 10;
/// Between two looks at what is in flight.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// The bounds of serving; see [`Config`] for reasons.
#[derive(Clone)]
#[allow(missing_docs, reason = "the names are those of the settings")]
pub struct Options {
    pub max_in_flight: u32,
    pub max_concurrent_streams: u32,
    pub watches: StreamLimits,
    pub max_connections: u32,
    pub max_connection_age: Option<Duration>,
    /// How long a connection may carry no calls.
    pub idle: IdleLimits,
    pub default_deadline: Duration,
    pub arrival: ArrivalLimits,
    pub drain_timeout: Duration,
    pub statistics: Arc<Statistics>,
    /// TLS acceptor. None: plaintext.
    pub tls: Option<Arc<ServerTls>>,
    /// How often a client may call.
    pub rate_limiter: Arc<RateLimiter>,
    /// Whether new work is refused now.
    pub overload: Overload,
    /// The credentials that calls need. None: calls need none.
    pub credentials: Option<Arc<KnownKeys>>,
    /// Which calls are traced. None: traces are off.
    pub traces: Option<Sampler>,
    /// Origins of web pages that may call.
    pub allow_origin: Vec<Origin>,
}

impl Options {
    /// What the settings say; nothing is refused for overload or for a rate unless `overload` and `rate_limiter` are set, and connections are
    /// plaintext unless `tls` is. Where credentials are required, all calls that need one are refused unless `credentials` is set.
    pub fn new(config: &Config, statistics: Arc<Statistics>) -> Options {
        Options {
            max_in_flight: config.max_in_flight,
            max_concurrent_streams: config.max_concurrent_streams,
            watches: StreamLimits {
                total: config.watch_streams,
                per_namespace: config.watch_streams_per_namespace,
                per_connection: config.watch_streams_per_connection,
            },
            max_connections: config.max_connections,
            max_connection_age: config.max_connection_age,
            idle: IdleLimits::default(),
            default_deadline: config.default_deadline,
            arrival: ArrivalLimits {
                message_bytes: admission::MESSAGE_LIMIT_BYTES,
                calls: config.max_in_flight as usize,
                bytes: usize::try_from(config.arriving_bytes.as_u64()).unwrap_or(usize::MAX),
                time: ARRIVAL_TIME,
                bytes_per_second: ARRIVAL_BYTES_PER_SECOND,
            },
            drain_timeout: config.drain_timeout,
            statistics,
            tls: None,
            rate_limiter: Arc::new(RateLimiter::new(ClientRates::default())),
            overload: Arc::new(|_| None),
            credentials: config.requires_credentials().then(|| Arc::new(KnownKeys::unread())),
            traces: None,
            allow_origin: config.allow_origin.clone(),
        }
    }
}

/// Serves until `shutdown` is cancelled, then drains: no new connections, no new calls on the old ones, and the calls in
/// flight get `drain_timeout` to end. What is left then is cut off.
///
/// # Errors
/// None at present; a failed accept is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    options: Options,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let web = WebOptions {
        allow_origin: options.allow_origin.clone(),
        has_tls: options.tls.is_some(),
        needs_credentials: options.credentials.is_some(),
    };
    // Outside of all, so that the layers below see one kind of call.
    let stack = web::front(&web).layer(stack(&options, shutdown.clone(), routes.prepare()));
    let stack = admission::bound_watches(Arc::clone(&options.statistics)).layer(stack);
    let stack = web::read_rest().layer(stack);
    let bounds = connection::ConnectionBounds::new(&options, shutdown.clone());
    if let Some(tls) = options.tls.clone() {
        tokio::spawn(tls.keep(options.statistics.door.certificate_expires.clone(), shutdown.clone()));
    }
    let door = Door::new(&options);
    let connections = TaskTracker::new();
    let failed = Sparse::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(suppressed) = failed.pass() {
                    tracing::warn!(%error, suppressed, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Without a place the stream is dropped, which closes it: the client will try again, perhaps elsewhere.
        if let Some(place) = door.place_for(&stream) {
            connections.spawn(connection::serve(stream, place, stack.clone(), bounds.clone()));
        }
    }
    // Closed before the drain, so that new clients are refused at once and find another server.
    drop(listener);
    drain(&connections, &bounds, &options).await;
    Ok(())
}

/// All layers that a call passes, around a service.
fn stack<S, B>(
    options: &Options,
    shutdown: CancellationToken,
    service: S,
) -> impl Service<Request<B>, Response = Response, Error = Infallible, Future: Send + Unpin + 'static> + Clone + Send + 'static
where
    S: Service<Request<MessageBody<B>>, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Unpin
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<StdError>> + Unpin + Send + 'static,
{
    // From the outermost to the innermost.
    ServiceBuilder::new()
        // Every call is counted, whoever answers it.
        .layer(admission::statistics(Arc::clone(&options.statistics)))
        // Calls that are traced have their span here, so that refused ones are seen too.
        .option_layer(
            options.traces.clone().map(|sampler| admission::trace_calls(sampler, options.credentials.clone())),
        )
        // A panic in any layer below becomes INTERNAL, and unwinding gives back what the call held.
        .layer(admission::catch_panics())
        // Strangers get an answer that they understand; errors of the libraries below get our form.
        .layer(admission::protocol_errors())
        // Who calls, and whether he may call this.
        .layer(admission::credentials(options.credentials.clone()))
        // A client that calls too often is refused before its message is read.
        .layer(admission::rate_limit(Arc::clone(&options.rate_limiter)))
        // While the writer is behind, new work is refused before its message is read.
        .layer(admission::shed(Arc::clone(&options.overload)))
        // DEADLINE_EXCEEDED in time, streams included; handlers see the exact deadline.
        .layer(admission::deadline(options.default_deadline))
        // Messages that are too large, cut off or never sent fail with our errors. A call without its message gets no further.
        .layer(admission::arrival(options.arrival))
        // A credential that was revoked while the message arrived permits nothing.
        .layer(admission::refuse_revoked())
        // The items of a batch are charged as soon as they can be counted. A batch that is refused is not decoded and takes no place.
        .layer(admission::rate_limit_items(Arc::clone(&options.rate_limiter)))
        // Beyond this, refusing is cheaper for everybody than trying.
        .layer(admission::in_flight_limit(options.max_in_flight, options.watches))
        // A watch ends when the server drains: it would hold it up, and its client can resume elsewhere.
        .layer(admission::end_watches(shutdown))
        .option_layer(options.traces.as_ref().map(|_| MapRequestLayer::new(admission::note_principal)))
        .service(service)
}

/// Gives each connection a place, or closes it.
struct Door {
    places: Arc<Places>,
    closed: ClosedConnections,
}

impl Door {
    fn new(options: &Options) -> Door {
        Door { places: Places::new(options.max_connections), closed: ClosedConnections::new(&options.statistics) }
    }

    fn place_for(&self, stream: &TcpStream) -> Option<ConnectionPlace> {
        let address = stream.peer_addr().ok().map(|peer| peer.ip());
        let full = match self.places.take(address) {
            Ok(place) => return Some(place),
            Err(full) => full,
        };
        let (reason, why) = match full {
            Full::Server => (Closed::ServerFull, "--max-connections are open"),
            Full::Address => {
                (Closed::AddressFull, "its address has its share of --max-connections without a valid call")
            }
        };
        self.closed.warn(reason, address, why);
        None
    }
}

async fn drain(connections: &TaskTracker, bounds: &connection::ConnectionBounds, options: &Options) {
    connections.close();
    tracing::info!(connections = connections.len(), "draining");
    tokio::select! {
        () = connections.wait() => {
            tracing::info!("drained");
            return;
        }
        () = all_answered(&options.statistics) => {
            tracing::info!(connections = connections.len(), "drained; the rest are clients that hang");
        }
        () = tokio::time::sleep(options.drain_timeout) => {
            tracing::warn!(connections = connections.len(), "some calls did not end in time and are cut off");
        }
    }
    bounds.cut_off.cancel();
    // Only connections that are stuck in a write of the kernel are left then.
    let _ = tokio::time::timeout(FORCED_LIMIT, connections.wait()).await;
}

/// Waits until no call has been in flight for [`QUIET`]. By then watches have ended, except those with a client that does not read. A connection closes when its client has confirmed that it is to
/// close, which a hanging client never does; with nothing left to answer there is no reason to wait for it.
async fn all_answered(statistics: &Statistics) {
    loop {
        if statistics.unanswered() == 0 {
            tokio::time::sleep(QUIET).await;
            if statistics.unanswered() == 0 {
                return;
            }
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// Adds reflection, in the version of today and in the one that older tools ask for.
///
/// # Errors
/// When a descriptor cannot be read.
pub fn with_reflection(routes: Routes, descriptors: &[&'static [u8]]) -> anyhow::Result<Routes> {
    let builder = || {
        descriptors.iter().fold(tonic_reflection::server::Builder::configure(), |builder, descriptor| {
            builder.register_encoded_file_descriptor_set(descriptor)
        })
    };
    let doing = "reading our own descriptors";
    Ok(routes.add_service(builder().build_v1().context(doing)?).add_service(builder().build_v1alpha().context(doing)?))
}

/// A token that is cancelled by the first SIGTERM or SIGINT; the second ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signals() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        token.cancel();
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!("stopped by a second signal, before the drain was over");
        // What a shell reports for a process that was ended by SIGINT.
        std::process::exit(130);
    });
    Ok(shutdown)
}

/// Cancels a token when the standard input ends, or cannot be read.
///
/// # Errors
/// When there is no thread for it.
pub fn on_end_of_stdin(token: CancellationToken) -> std::io::Result<()> {
    // Not one of the runtime, which would wait for it at its end.
    let read = move || {
        let _ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        token.cancel();
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(read).map(drop)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

#[cfg(test)]
mod tests;
