//! The settings as flags and environment variables give them: each may be absent.
//!
//! The doc comments are the table of settings: meaning, unit, default, reason. `--help` prints them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Auth, ByteSize, CallRate, LogFormat, MetricsListen, Span};

/// One layer of settings; the names in a file are the same with underscores.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct Layer {
    /// A TOML file with settings. Flags and environment variables win over it.
    #[arg(long, env = "INTERLOCK_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// The address to listen on [default: 127.0.0.1:50051]. Loopback, because nothing should be reachable from outside
    /// before somebody has decided so; port 0 takes any free port.
    #[arg(long, env = "INTERLOCK_LISTEN", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,

    /// Whether calls need an API key or a client certificate [default: off on loopback, required elsewhere and with --tls-client-ca]. On loopback only programs of
    /// this machine can connect; set it to required there too if other users share the machine or a proxy forwards to it.
    #[arg(long, env = "INTERLOCK_AUTH", value_name = "WHEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,

    /// Listen beyond loopback without TLS, or with `--auth off` [default: false]. Otherwise the server refuses to start, because others
    /// could read what is sent, or do everything.
    #[arg(long, env = "INTERLOCK_INSECURE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// A PEM file with the server's certificate, and behind it those that lead to its authority [default: none, plaintext]. With it the
    /// port is TLS alone. New content is taken into use within seconds, and at once by SIGHUP; open connections stay.
    #[arg(long, env = "INTERLOCK_TLS_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,

    /// The PEM file of the certificate's private key [default: none].
    #[arg(long, env = "INTERLOCK_TLS_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,

    /// A PEM file with the authorities of client certificates [default: none]. A client may then present a certificate instead of an API
    /// key; one that none of them has signed fails the handshake.
    #[arg(long, env = "INTERLOCK_TLS_CLIENT_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_client_ca: Option<PathBuf>,

    /// The address of /metrics, /healthz and /readyz, or `off` [default: 127.0.0.1:9464, or off if that port is taken]. Plain
    /// HTTP without credentials: it shows figures and names of queues, nothing of jobs.
    #[arg(long, env = "INTERLOCK_METRICS_LISTEN", value_name = "ADDRESS|off")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<MetricsListen>,

    /// The most connections to Postgres [default: 20]. More do not make Postgres faster, and several servers share it.
    #[arg(long, env = "INTERLOCK_POOL_MAX", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_max: Option<u32>,

    /// Connections that are kept open when idle [default: 5], so that a burst after a quiet hour does not wait for logins.
    #[arg(long, env = "INTERLOCK_POOL_MIN", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_min: Option<u32>,

    /// The longest wait for a free connection [default: 30s]; after it, waiting longer would only hide the overload.
    #[arg(long, env = "INTERLOCK_POOL_WAIT", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_wait: Option<Span>,

    /// The longest that one statement may run [default: 60s], a bound on what a stuck one can hold.
    #[arg(long, env = "INTERLOCK_STATEMENT_TIMEOUT", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement_timeout: Option<Span>,

    /// Queries after which a connection is replaced [default: 50000]; a backend's memory grows with use.
    #[arg(long, env = "INTERLOCK_CONNECTION_MAX_QUERIES", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_max_queries: Option<u64>,

    /// Idle time after which a connection is closed [default: 300s], before a firewall forgets it silently.
    #[arg(long, env = "INTERLOCK_CONNECTION_MAX_IDLE", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_max_idle: Option<Span>,

    /// How long after its start a server reaps nothing [default: 30s]. After an outage every lease looks expired; their
    /// holders get this long to heartbeat first.
    #[arg(long, env = "INTERLOCK_REAP_GRACE", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reap_grace: Option<Span>,

    /// How long calls in flight may take after a stop signal [default: 30s], the usual patience of service managers.
    #[arg(long, env = "INTERLOCK_DRAIN_TIMEOUT", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Span>,

    /// Days that a job's history of events is kept [default: 30]; it outlives the job (7 days) for audits.
    #[arg(long, env = "INTERLOCK_HISTORY_DAYS", value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_days: Option<u32>,

    /// The longest wait of a write in the queue [default: 30s]; then it is rejected as overload, not applied.
    #[arg(long, env = "INTERLOCK_QUEUE_WAIT", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_wait: Option<Span>,

    /// Writes that may wait [default: 8192]. New work is refused earlier, once a quarter of a second of it waits by what was measured.
    #[arg(long, env = "INTERLOCK_QUEUE_OPERATIONS", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_operations: Option<u32>,

    /// Memory that waiting writes may take [default: 64MiB]; a few large ones count like many small ones.
    #[arg(long, env = "INTERLOCK_QUEUE_BYTES", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_bytes: Option<ByteSize>,

    /// Rows of state that are cached [default: 10000], the working set of some hundred running jobs.
    #[arg(long, env = "INTERLOCK_CACHE_ENTRIES", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_entries: Option<u32>,

    /// Memory that cached state may take [default: 64MiB], whichever bound is met first.
    #[arg(long, env = "INTERLOCK_CACHE_BYTES", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<ByteSize>,

    /// Memory that messages may take before they have arrived in full [default: 64MiB]; one connection gets at most as much as
    /// is still free for all others. Beyond it calls are rejected as overload.
    #[arg(long, env = "INTERLOCK_ARRIVING_BYTES", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arriving_bytes: Option<ByteSize>,

    /// Reads that one client may make [default: 10000/s, with `dev` off]: `10000/s`, `600/m`, `1000/h` or `off`. Twice as many may come at once
    /// after a pause. A client is a credential, else a namespace at an address. A batch counts its items.
    #[arg(long, env = "INTERLOCK_RATE_LIMIT_READ", value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_read: Option<CallRate>,

    /// Writes that one client may make [default: 10000/s, with `dev` off]; a batch counts its items.
    #[arg(long, env = "INTERLOCK_RATE_LIMIT_WRITE", value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_write: Option<CallRate>,

    /// Watches that one client may open [default: 10000/s, with `dev` off].
    #[arg(long, env = "INTERLOCK_RATE_LIMIT_WATCH", value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_watch: Option<CallRate>,

    /// Heartbeats, ends of attempts, renewals and releases that one client may make [default: 10000/s, with `dev` off]; a batch counts its items.
    /// They are not charged to its writes, so that a client that writes too much keeps its leases.
    #[arg(long, env = "INTERLOCK_RATE_LIMIT_ESSENTIAL", value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_essential: Option<CallRate>,

    /// Calls in flight at once, watches not counted [default: 16384]; one connection, and one namespace beside others, gets
    /// at most as many as are still free for all others, and beyond it new ones are told when to come back.
    #[arg(long, env = "INTERLOCK_MAX_IN_FLIGHT", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,

    /// Calls in flight at once on one connection [default: 1024], so that one client cannot take them all.
    #[arg(long, env = "INTERLOCK_MAX_CONCURRENT_STREAMS", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_streams: Option<u32>,

    /// Connections at once [default: 4096], within the usual limit of file descriptors; beyond it new ones are closed.
    #[arg(long, env = "INTERLOCK_MAX_CONNECTIONS", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,

    /// Watches open at once [default: 10000]; an idle one takes some ten kilobytes. They are not counted as calls in flight.
    #[arg(long, env = "INTERLOCK_WATCH_STREAMS", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_streams: Option<u32>,

    /// Watches open at once in one namespace [default: 10000]. Whatever it says, a namespace may have as many as are free for all others, and all
    /// but an eighth while it is alone.
    #[arg(long, env = "INTERLOCK_WATCH_STREAMS_PER_NAMESPACE", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_streams_per_namespace: Option<u32>,

    /// Watches open at once on one connection [default: 512], half of the calls that a connection may have.
    #[arg(long, env = "INTERLOCK_WATCH_STREAMS_PER_CONNECTION", value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_streams_per_connection: Option<u32>,

    /// A watch without news gets a keepalive message after this [default: 20s], well below the idle limits of proxies,
    /// which do not see HTTP/2 pings.
    #[arg(long, env = "INTERLOCK_WATCH_KEEPALIVE", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_keepalive: Option<Span>,

    /// Whether steps of progress are merged for watchers who are behind [default: true]. Off, each step is told, which is
    /// for measuring.
    #[arg(long, env = "INTERLOCK_WATCH_CONFLATION", value_name = "BOOL", hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_conflation: Option<bool>,

    /// Do without LISTEN and NOTIFY [default: false], where a pooler does not pass them on. What other servers commit is
    /// then found by polling, within 200 ms instead of 50.
    #[arg(long, env = "INTERLOCK_NO_LISTEN", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_listen: Option<bool>,

    /// Age at which a connection is asked to reconnect [default: never]. Behind a load balancer it spreads clients over
    /// new servers.
    #[arg(long, env = "INTERLOCK_MAX_CONNECTION_AGE", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connection_age: Option<Span>,

    /// The longest time to an answer where the client set no deadline [default: 120s], twice the statement timeout.
    #[arg(long, env = "INTERLOCK_MAX_CALL", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_call: Option<Span>,

    /// Whether gRPC reflection is served [default: true with `dev`, else false]: it tells strangers what can be called.
    #[arg(long, env = "INTERLOCK_REFLECTION", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reflection: Option<bool>,

    /// What is logged [default: info]: a level, with which libraries log errors alone, or levels per module, such as
    /// `warn,interlock=debug`.
    #[arg(long, env = "INTERLOCK_LOG", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,

    /// How log lines look [default: text].
    #[arg(long, env = "INTERLOCK_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,

    /// The collector that traces are sent to, by OTLP over gRPC, such as `http://127.0.0.1:4317` [default: none, no traces]. Headers for it,
    /// such as a key, are read from OTEL_EXPORTER_OTLP_HEADERS. OTEL_EXPORTER_OTLP_ENDPOINT alone turns nothing on.
    #[arg(long, env = "INTERLOCK_OTLP_ENDPOINT", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,

    /// The share of calls that are traced if their caller does not say, from 0 to 1 [default: 0.01]. A call with `traceparent` is traced
    /// exactly if its caller is.
    #[arg(long, env = "INTERLOCK_OTLP_SAMPLE_RATIO", value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_sample_ratio: Option<f64>,
}
