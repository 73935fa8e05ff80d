//! Starts a server, serves until a signal, and drains: what `dev` and `serve` share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

use super::failure::Failed;
use crate::app::{self, App};
use crate::config::{Config, MetricsListen};
use crate::proto::CreateNamespaceRequest;
use crate::proto::admin_service_client::AdminServiceClient;
use crate::server;
use crate::telemetry::traces::Traces;

/// Connections that wait to be accepted, at most.
const BACKLOG: u32 = 1_024;

/// Addresses that a server listens on.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// Address for gRPC calls.
    pub calls: SocketAddr,
    /// Address of the metrics port. None: off.
    pub metrics: Option<SocketAddr>,
}

/// The flag that ends a server with the program that started it.
#[derive(Debug, Args)]
pub struct StdinFlag {
    /// Drain and stop when the standard input ends: the server does not outlive the program that has the other end of the pipe, however that
    /// ends.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// The ports of a server, taken before anything is started. Connections are refused until the server listens.
#[derive(Debug)]
pub struct Ports {
    calls: TcpSocket,
    /// None: off, or the usual port is taken by another server of this machine.
    metrics: Option<TcpListener>,
}

/// What a server is started with.
pub struct ServerStart<'a> {
    pub config: &'a Config,
    pub database_url: &'a str,
    pub ports: Ports,
    /// None: TLS as in the settings.
    pub tls: Option<Arc<server::ServerTls>>,
    /// None: no traces.
    pub traces: Option<Traces>,
    /// A namespace to create if it does not exist. None: none.
    pub namespace: Option<&'a str>,
    /// Whether the server also stops when its standard input ends.
    pub until_stdin_closes: bool,
}

impl Ports {
    /// Takes the ports of the settings. `has_certificate`: the server uses TLS whatever the settings say.
    ///
    /// # Errors
    /// If the server may not listen there without TLS and credentials, another program listens there, or this machine has no
    /// such address.
    pub async fn take(config: &Config, has_certificate: bool) -> anyhow::Result<Self> {
        config.check_exposure(has_certificate || config.tls_cert.is_some() && config.tls_key.is_some())?;
        let calls = take(config.listen).map_err(|error| cannot_listen("--listen", config.listen, &error))?;
        Ok(Self { calls, metrics: bind_metrics(config.metrics_listen).await? })
    }
}

/// Takes an address without listening yet.
fn take(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a server that has ended may still hold the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn cannot_listen(flag: &str, address: SocketAddr, error: &io::Error) -> Failed {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; stop it, or choose another address".to_owned(),
        _ => error.to_string(),
    };
    Failed::usage(format!("{flag}: cannot listen on {address}: {why}"))
}

/// Binds the metrics port. None: it is off, or the usual port is taken by another server of this machine.
async fn bind_metrics(listen: MetricsListen) -> Result<Option<TcpListener>, Failed> {
    let Some(address) = listen.address() else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if listen == MetricsListen::Usual => {
            tracing::info!(%address, %error, "no metrics: the usual port is taken; set --metrics-listen");
            Ok(None)
        }
        Err(error) => Err(cannot_listen("--metrics-listen", address, &error)),
    }
}

/// Serves until a signal, then drains. `announce` is called with the addresses once connections are accepted.
///
/// # Errors
/// If the settings make no sense, the database cannot be reached or migrated, or the port cannot be served.
pub async fn run_server(start: ServerStart<'_>, announce: impl FnOnce(Listening)) -> anyhow::Result<()> {
    let ServerStart { config, database_url, ports, tls, traces, namespace, until_stdin_closes } = start;
    let tls = match tls {
        Some(tls) => Some(tls),
        None => server::ServerTls::from_config(config)?,
    };
    if !config.is_loopback() && tls.is_none() {
        tracing::warn!(listen = %config.listen, "connections are not encrypted: others can read and change what is sent");
    }
    if !config.is_loopback() && !config.requires_credentials() {
        tracing::warn!(listen = %config.listen, "credentials are off: everybody who can connect can do everything");
    }
    let shutdown = server::on_signals().context("cannot listen for signals")?;
    if until_stdin_closes {
        server::on_end_of_stdin(shutdown.clone()).context("cannot watch the standard input")?;
    }
    let metrics = ports.metrics;
    let app = app::start(config, database_url, shutdown.clone()).await?;
    if let Some(namespace) = namespace {
        create_namespace(&app, namespace).await?;
    }
    let listener = ports.calls.listen(BACKLOG).map_err(|error| cannot_listen("--listen", config.listen, &error))?;
    let listening = Listening {
        calls: listener.local_addr().context("the listener has no address")?,
        metrics: metrics.as_ref().and_then(|metrics| metrics.local_addr().ok()),
    };
    announce(listening);
    tracing::info!(
        address = %listening.calls,
        metrics = listening.metrics.map(tracing::field::display),
        pool_max = config.pool_max,
        max_in_flight = config.max_in_flight,
        max_connections = config.max_connections,
        queue_operations = config.queue_operations,
        cache_bytes = config.cache_bytes.as_u64(),
        "listening"
    );
    // To the end of the drain, so that it can be watched.
    let stopped = CancellationToken::new();
    let for_operators = metrics
        .map(|metrics| tokio::spawn(server::serve_operators(metrics, Arc::clone(&app.operators), stopped.clone())));
    let options = server::Options {
        overload: app.overload(),
        credentials: app.credentials.clone(),
        rate_limiter: Arc::clone(&app.rate_limiter),
        tls,
        traces: traces.as_ref().map(Traces::sampler),
        ..server::Options::new(config, Arc::clone(&app.statistics))
    };
    let served = server::serve(listener, app.routes.clone(), options, shutdown).await;
    app.stop().await;
    stopped.cancel();
    if let Some(for_operators) = for_operators {
        let _ended = for_operators.await;
    }
    if let Some(traces) = traces {
        traces.stop().await;
    }
    served
}

/// Creates a namespace unless it exists.
async fn create_namespace(app: &App, name: &str) -> Result<(), Failed> {
    let request = CreateNamespaceRequest { name: name.to_owned(), request_id: None };
    match AdminServiceClient::new(app.operator_calls()).create_namespace(Request::new(request)).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        Err(status) => Err(Failed::usage(format!("--namespace: {}", status.message()))),
    }
}
