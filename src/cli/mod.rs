//! The command line: one command per file.

mod admin;
mod audit;
mod bench;
mod client;
mod demo;
mod dev;
mod doctor;
mod failure;
mod job;
mod json;
mod key;
mod migrate;
mod retry;
mod serve;
mod text;
mod top;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, DatabaseUrl, MetricsListen};
use crate::telemetry::traces::Traces;
use crate::{app, server};

/// A gRPC coordination server over Postgres.
#[derive(Debug, Parser)]
#[command(name = "interlock", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a server with a Postgres of its own, to try it.
    Dev(Box<dev::Dev>),
    /// Run a server over an existing Postgres.
    Serve(Box<serve::Serve>),
    /// Measure the server against one transaction per request.
    Bench(bench::Bench),
    /// Migrate the schema of a database, and exit.
    Migrate(Box<migrate::Migrate>),
    /// Make a narrated film of seven scenes with three Python workers, on a running server.
    Demo(demo::Demo),
    /// Submit, list, show, watch, cancel and retry jobs of a running server.
    Job(Box<job::JobCommand>),
    /// Check a database and a server, and say what to do about each finding.
    Doctor(Box<doctor::Doctor>),
    /// Show running stages by queue, worker and job.
    Top(Box<top::Top>),
    /// Create, list, revoke and rotate API keys, through a server or in the database.
    Key(Box<key::KeyCommand>),
    /// Show the audit log, through a server or from the database.
    Audit(Box<audit::Audit>),
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Aligned columns, for people.
    Table,
    /// One JSON object per line, for programs.
    Json,
}

/// The database of the command.
#[derive(Debug, Args)]
struct Database {
    /// Postgres database, as a URL or as `key=value` pairs. Of several hosts the primary is used. Prefer the environment variable: other users of
    /// the machine can see flags.
    #[arg(long, env = "INTERLOCK_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<DatabaseUrl>,
}

impl Cli {
    /// Runs the command, and prints why it failed.
    pub fn run(self) -> ExitCode {
        self.verb().unwrap_or_else(|error| {
            // The reader has closed the pipe, as in `interlock job list | head`.
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            eprintln!("error: {error:#}");
            error.downcast_ref::<failure::Failed>().map_or(ExitCode::FAILURE, |failed| failed.exit.into())
        })
    }

    fn verb(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let result = runtime.block_on(async {
            match self.verb {
                Verb::Job(verb) => return verb.run().await,
                Verb::Doctor(verb) => return verb.run().await,
                Verb::Top(verb) => return verb.run().await,
                Verb::Key(verb) => return verb.run().await,
                Verb::Audit(verb) => return verb.run().await,
                Verb::Dev(verb) => verb.run().await,
                Verb::Serve(verb) => verb.run().await,
                Verb::Bench(verb) => verb.run().await,
                Verb::Migrate(verb) => verb.run().await,
                Verb::Demo(verb) => verb.run(),
            }
            .map(|()| ExitCode::SUCCESS)
        });
        // No one waits for tasks that still run then.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        result
    }
}

/// Addresses that a server listens on.
#[derive(Clone, Copy, Debug)]
struct Listening {
    /// Address for gRPC calls.
    calls: SocketAddr,
    /// Address of the metrics port. None: off.
    metrics: Option<SocketAddr>,
}

/// Binds the metrics port. None: it is off, or the usual port is taken by another server of this machine.
async fn bind_metrics(listen: MetricsListen) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = listen.address() else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if listen == MetricsListen::Usual => {
            tracing::info!(%address, %error, "no metrics: the usual port is taken; set --metrics-listen");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address} for metrics")),
    }
}

/// Serves until a signal, then drains. `tls` None: TLS as in the settings. `announce` is called with the addresses once connections are accepted.
async fn run_server(
    config: &Config,
    database_url: &str,
    tls: Option<Arc<server::ServerTls>>,
    traces: Option<Traces>,
    announce: impl FnOnce(Listening),
) -> anyhow::Result<()> {
    let tls = match tls {
        Some(tls) => Some(tls),
        None => server::ServerTls::from_config(config)?,
    };
    config.check_exposure(tls.is_some())?;
    if !config.is_loopback() && tls.is_none() {
        tracing::warn!(listen = %config.listen, "connections are not encrypted: others can read and change what is sent");
    }
    if !config.is_loopback() && !config.requires_credentials() {
        tracing::warn!(listen = %config.listen, "credentials are off: everybody who can connect can do everything");
    }
    let shutdown = server::on_signals().context("cannot listen for signals")?;
    let metrics = bind_metrics(config.metrics_listen).await?;
    let app = app::start(config, database_url, shutdown.clone()).await?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
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
