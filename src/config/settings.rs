//! The table of settings: name, unit, default and reason of each, in one struct.
//!
//! The doc comments are what `--help` prints. A setting has the same name as a flag (`--pool-max`), as an environment
//! variable (`INTERLOCK_POOL_MAX`) and in a file (`pool_max`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{ArgAction, Args, Command, FromArgMatches};
use serde::{Deserialize, Serialize, Serializer};

use super::call_rate::CallRate;
use super::exposure::Auth;
use super::metrics::MetricsListen;
use super::origin::Origin;
use super::{DatabaseUrl, LogFormat};

/// Everything that can be set.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on. Loopback, because nothing should be reachable from outside before somebody has decided so; port 0 takes any free
    /// port.
    #[arg(long, env = "INTERLOCK_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,

    /// Whether calls need an API key or a client certificate. Unset: off on loopback, required elsewhere and with --tls-client-ca. On loopback only
    /// programs of this machine can connect; set it to required there too if other users share the machine or a proxy forwards to it.
    #[arg(long, env = "INTERLOCK_AUTH", value_name = "WHEN")]
    pub auth: Option<Auth>,

    /// Listen beyond loopback without TLS, or with `--auth off`. Otherwise the server refuses to start, because others could read what is sent, or
    /// do everything.
    #[arg(long, env = "INTERLOCK_INSECURE", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1)]
    #[arg(default_value_t = false, default_missing_value = "true")]
    pub insecure: bool,

    /// PEM file with the server's certificate, followed by the certificates that lead to its authority. Unset: plaintext. With it the port
    /// speaks TLS only. New content is taken into use within seconds, and at once on SIGHUP; open connections stay.
    #[arg(long, env = "INTERLOCK_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the certificate's private key.
    #[arg(long, env = "INTERLOCK_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// PEM file with the authorities of client certificates. Unset: clients present none. With it a client may present a certificate instead of
    /// an API key; a certificate that none of the authorities has signed fails the handshake.
    #[arg(long, env = "INTERLOCK_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,

    /// Origin of web pages that may call, such as `https://board.example`; repeated, or separated by commas. None by default: a page of another
    /// origin could otherwise do whatever the browser's user can reach. Pages of this server's own address need no permission.
    #[arg(long, env = "INTERLOCK_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origin: Vec<Origin>,

    /// Address of /metrics, /healthz and /readyz, or `off`; `usual` is 127.0.0.1:9464, or off if that port is taken. Plain HTTP without
    /// credentials: it shows figures and names of queues, nothing of jobs.
    #[arg(long, env = "INTERLOCK_METRICS_LISTEN", value_name = "ADDRESS|off", default_value = "usual")]
    pub metrics_listen: MetricsListen,

    /// Database to use. A flag of some verbs only, because it usually holds a password.
    #[arg(skip)]
    pub database_url: Option<DatabaseUrl>,

    /// Streaming replica of the database, as a URL or as `key=value` pairs of one host. Reads that name a `max_staleness` are answered by it while it
    /// is new enough, and by the primary otherwise. Unset: the primary answers all. Prefer the environment variable: other users of the machine can
    /// see flags.
    #[arg(long, env = "INTERLOCK_READ_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub read_database_url: Option<DatabaseUrl>,

    /// Maximum number of connections to Postgres. More do not make Postgres faster, and several servers share it.
    #[arg(long, env = "INTERLOCK_POOL_MAX", value_name = "COUNT", default_value_t = 20)]
    pub pool_max: u32,

    /// Connections that stay open when idle, so that a burst after a quiet hour does not wait for logins.
    #[arg(long, env = "INTERLOCK_POOL_MIN", value_name = "COUNT", default_value_t = 5)]
    pub pool_min: u32,

    /// Maximum wait of a call for a free connection; then it fails with OVERLOADED. Waiting longer would only hide the overload.
    #[arg(long, env = "INTERLOCK_POOL_ACQUIRE_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub pool_acquire_timeout: Duration,

    /// Maximum run time of one statement, a bound on how long a stuck one can hold locks.
    #[arg(long, env = "INTERLOCK_STATEMENT_TIMEOUT", value_name = "DURATION", default_value = "60s")]
    #[arg(value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,

    /// Queries after which a connection is replaced; the memory of a Postgres backend grows with use.
    #[arg(long, env = "INTERLOCK_CONNECTION_MAX_QUERIES", value_name = "COUNT", default_value_t = 50_000)]
    pub connection_max_queries: u64,

    /// Idle time after which a connection is closed, before a firewall drops it silently.
    #[arg(long, env = "INTERLOCK_CONNECTION_MAX_IDLE", value_name = "DURATION", default_value = "300s")]
    #[arg(value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub connection_max_idle: Duration,

    /// Time after its start in which a server treats no lease as expired. After an outage every lease looks expired; workers get this long to
    /// send a heartbeat first.
    #[arg(long, env = "INTERLOCK_REAP_GRACE", value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub reap_grace: Duration,

    /// Time that calls in flight get to end after a stop signal. Service managers usually wait this long before they kill.
    #[arg(long, env = "INTERLOCK_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,

    /// Days for which a job's history of events is stored. It outlives the job itself (7 days), for audits.
    #[arg(long, env = "INTERLOCK_HISTORY_DAYS", value_name = "DAYS", default_value_t = 30)]
    pub history_days: u32,

    /// Maximum wait of a write in the queue; then it fails with OVERLOADED and is not applied.
    #[arg(long, env = "INTERLOCK_QUEUE_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub queue_timeout: Duration,

    /// Maximum number of writes in the queue. New work is refused earlier, once the queue takes a quarter of a second by the measured pace.
    #[arg(long, env = "INTERLOCK_QUEUE_OPERATIONS", value_name = "COUNT", default_value_t = 8_192)]
    pub queue_operations: u32,

    /// Memory for writes in the queue, at least 4MiB; few large writes count like many small ones.
    #[arg(long, env = "INTERLOCK_QUEUE_BYTES", value_name = "SIZE", default_value = "64MiB")]
    #[serde(serialize_with = "as_number")]
    pub queue_bytes: ByteSize,

    /// Maximum number of rows in the cache. A drain of a backlog beyond it loads each job again.
    #[arg(long, env = "INTERLOCK_CACHE_ENTRIES", value_name = "COUNT", default_value_t = 50_000)]
    pub cache_entries: u32,

    /// Memory for the cache. Rows are evicted when either bound is met.
    #[arg(long, env = "INTERLOCK_CACHE_BYTES", value_name = "SIZE", default_value = "64MiB")]
    #[serde(serialize_with = "as_number")]
    pub cache_bytes: ByteSize,

    /// Maximum number of segments of timelines in the cache, beside the rows of --cache-entries. They take at most a quarter of --cache-bytes.
    #[arg(long, env = "INTERLOCK_SEGMENT_CACHE_ENTRIES", value_name = "COUNT", default_value_t = 1_000)]
    pub segment_cache_entries: u32,

    /// Maximum number of calls of TimelineService at the database at once, watches not counted. The others wait in line.
    #[arg(long, env = "INTERLOCK_TIMELINE_OPERATIONS", value_name = "COUNT", default_value_t = 50)]
    pub timeline_operations: u32,

    /// Maximum wait of a call of TimelineService in line; then it fails with OVERLOADED and is not applied.
    #[arg(long, env = "INTERLOCK_TIMELINE_WAIT", value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub timeline_wait: Duration,

    /// Memory for messages that have not arrived in full, at least 8MiB. One connection gets at most as much as is still free for all others.
    /// Beyond it calls fail with OVERLOADED.
    #[arg(long, env = "INTERLOCK_ARRIVING_BYTES", value_name = "SIZE", default_value = "64MiB")]
    #[serde(serialize_with = "as_number")]
    pub arriving_bytes: ByteSize,

    /// Reads per client: `10000/s`, `600/m`, `1000/h` or `off`. After a pause twice as many may come at once. A client is a credential, else a
    /// namespace at an address. A batch counts its items.
    #[arg(long, env = "INTERLOCK_RATE_LIMIT_READ", value_name = "RATE", default_value = "10000/s")]
    pub rate_limit_read: CallRate,

    /// Writes per client; a batch counts its items.
    #[arg(long, env = "INTERLOCK_RATE_LIMIT_WRITE", value_name = "RATE", default_value = "10000/s")]
    pub rate_limit_write: CallRate,

    /// Watches that one client may open.
    #[arg(long, env = "INTERLOCK_RATE_LIMIT_WATCH", value_name = "RATE", default_value = "10000/s")]
    pub rate_limit_watch: CallRate,

    /// Heartbeats, ends of attempts, renewals and releases per client; a batch counts its items. They are not charged to its writes, so that a
    /// client that writes too much does not lose its leases.
    #[arg(long, env = "INTERLOCK_RATE_LIMIT_ESSENTIAL", value_name = "RATE", default_value = "10000/s")]
    pub rate_limit_essential: CallRate,

    /// Maximum number of calls in flight, watches not counted. One connection, and one namespace beside others, gets at most as many as are
    /// still free for all others; beyond it new calls fail with OVERLOADED and a retry delay.
    #[arg(long, env = "INTERLOCK_MAX_IN_FLIGHT", value_name = "COUNT", default_value_t = 16_384)]
    pub max_in_flight: u32,

    /// Maximum number of calls in flight on one connection, so that one client cannot take them all.
    #[arg(long, env = "INTERLOCK_MAX_CONCURRENT_STREAMS", value_name = "COUNT", default_value_t = 1_024)]
    pub max_concurrent_streams: u32,

    /// Maximum number of open connections, within the usual limit of file descriptors; beyond it new connections are closed.
    #[arg(long, env = "INTERLOCK_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 4_096)]
    pub max_connections: u32,

    /// Maximum number of open watches; an idle one takes some ten kilobytes. They do not count as calls in flight.
    #[arg(long, env = "INTERLOCK_WATCH_STREAMS", value_name = "COUNT", default_value_t = 10_000)]
    pub watch_streams: u32,

    /// Maximum number of open watches in one namespace. Whatever is set, a namespace may have as many as are free for all others, and all but an
    /// eighth while it is alone.
    #[arg(long, env = "INTERLOCK_WATCH_STREAMS_PER_NAMESPACE", value_name = "COUNT", default_value_t = 10_000)]
    pub watch_streams_per_namespace: u32,

    /// Maximum number of open watches on one connection: half of the calls that a connection may have.
    #[arg(long, env = "INTERLOCK_WATCH_STREAMS_PER_CONNECTION", value_name = "COUNT", default_value_t = 512)]
    pub watch_streams_per_connection: u32,

    /// Silence after which a watch sends a keepalive message, well below the idle limits of proxies, which do not see HTTP/2 pings.
    #[arg(long, env = "INTERLOCK_WATCH_KEEPALIVE", value_name = "DURATION", default_value = "20s")]
    #[arg(value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub watch_keepalive: Duration,

    /// Whether progress updates are merged for watchers that are behind. `false` sends each one, for measurements.
    #[arg(long, env = "INTERLOCK_WATCH_CONFLATION", value_name = "BOOL", action = ArgAction::Set, hide = true)]
    #[arg(default_value_t = true)]
    pub watch_conflation: bool,

    /// Whether servers notify each other of commits by LISTEN and NOTIFY. Set it to false where a pooler does not pass them on; commits of other
    /// servers are then found by polling, within 200 ms instead of 50.
    #[arg(long, env = "INTERLOCK_LISTEN_NOTIFY", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1)]
    #[arg(default_value_t = true, default_missing_value = "true")]
    pub listen_notify: bool,

    /// Age at which a connection is asked to reconnect. Unset: never. Behind a load balancer it spreads clients over new servers.
    #[arg(long, env = "INTERLOCK_MAX_CONNECTION_AGE", value_name = "DURATION")]
    #[arg(value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub max_connection_age: Option<Duration>,

    /// Deadline of calls whose client set none, above the statement timeout. It bounds the time to the response, of a stream to its beginning.
    #[arg(long, env = "INTERLOCK_DEFAULT_DEADLINE", value_name = "DURATION", default_value = "120s")]
    #[arg(value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub default_deadline: Duration,

    /// Whether gRPC reflection is served. It shows every method and message to whoever can connect.
    #[arg(long, env = "INTERLOCK_REFLECTION", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1)]
    #[arg(default_value_t = false, default_missing_value = "true")]
    pub reflection: bool,

    /// Log filter: a level, with which libraries log errors only, or levels per module, such as `warn,interlock=debug`.
    #[arg(long, env = "INTERLOCK_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// Format of log lines.
    #[arg(long, env = "INTERLOCK_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Collector that traces are sent to, by OTLP over gRPC, such as `http://127.0.0.1:4317`. Unset: no traces. Headers for it, such as a key,
    /// are read from OTEL_EXPORTER_OTLP_HEADERS. OTEL_EXPORTER_OTLP_ENDPOINT alone turns nothing on.
    #[arg(long, env = "INTERLOCK_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Share of calls that are traced if the caller does not say, from 0 to 1. A call with `traceparent` is traced exactly if its caller is.
    #[arg(long, env = "INTERLOCK_OTLP_SAMPLE_RATIO", value_name = "SHARE", default_value_t = 0.01)]
    pub otlp_sample_ratio: f64,
}

impl Default for Config {
    /// The defaults of the flags; the environment is not read.
    fn default() -> Self {
        let command = Self::augment_args(Command::new("interlock")).mut_args(|arg| arg.env(None));
        let matches = command.try_get_matches_from(["interlock"]);
        let defaults = matches.and_then(|matches| Self::from_arg_matches(&matches));
        defaults.expect("every setting has a default or is optional")
    }
}

impl Config {
    /// The same without limits on how often a client may call, for a server that only its developer calls, or that is measured.
    #[must_use]
    pub fn without_rate_limits(self) -> Self {
        Config {
            rate_limit_read: CallRate::OFF,
            rate_limit_write: CallRate::OFF,
            rate_limit_watch: CallRate::OFF,
            rate_limit_essential: CallRate::OFF,
            ..self
        }
    }
}

/// As a whole number of bytes: what [`ByteSize`] writes by itself is rounded.
fn as_number<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(size.as_u64())
}
