//! The only reader of flags, environment and file.
//!
//! Precedence: a flag wins over its environment variable, that over the file, that over the default. What comes out is
//! validated as a whole, so that a server that starts has settings that make sense together. Secrets never show in
//! `Debug`.

pub mod exposure;
pub mod host;
pub mod layer;
pub mod metrics;
pub mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

pub use exposure::Auth;
pub use host::Host;
pub use layer::Layer;
pub use metrics::MetricsListen;
pub use units::{ByteSize, CallRate, Span};

/// Everything that can be set, with its default. The reasons stand in [`Layer`], which is also what `--help` shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is documented, with unit and reason, in Layer")]
pub struct Config {
    pub listen: SocketAddr,
    pub auth: Option<Auth>,
    pub insecure: bool,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_client_ca: Option<PathBuf>,
    pub metrics_listen: MetricsListen,
    pub database_url: Option<DatabaseUrl>,
    pub pool_max: u32,
    pub pool_min: u32,
    pub pool_wait: Span,
    pub statement_timeout: Span,
    pub connection_max_queries: u64,
    pub connection_max_idle: Span,
    pub reap_grace: Span,
    pub drain_timeout: Span,
    pub history_days: u32,
    pub queue_wait: Span,
    pub queue_operations: u32,
    pub queue_bytes: ByteSize,
    pub cache_entries: u32,
    pub cache_bytes: ByteSize,
    pub arriving_bytes: ByteSize,
    pub rate_limit_read: CallRate,
    pub rate_limit_write: CallRate,
    pub rate_limit_watch: CallRate,
    pub rate_limit_essential: CallRate,
    pub max_in_flight: u32,
    pub max_concurrent_streams: u32,
    pub max_connections: u32,
    pub watch_streams: u32,
    pub watch_streams_per_namespace: u32,
    pub watch_streams_per_connection: u32,
    pub watch_keepalive: Span,
    pub watch_conflation: bool,
    pub no_listen: bool,
    pub max_connection_age: Option<Span>,
    pub max_call: Span,
    pub reflection: bool,
    pub log: String,
    pub log_format: LogFormat,
    pub otlp_endpoint: Option<String>,
    pub otlp_sample_ratio: f64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
            auth: None,
            insecure: false,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            metrics_listen: MetricsListen::Usual,
            database_url: None,
            pool_max: 20,
            pool_min: 5,
            pool_wait: Span::seconds(30),
            statement_timeout: Span::seconds(60),
            connection_max_queries: 50_000,
            connection_max_idle: Span::seconds(300),
            reap_grace: Span::seconds(30),
            drain_timeout: Span::seconds(30),
            history_days: 30,
            queue_wait: Span::seconds(30),
            queue_operations: 8_192,
            queue_bytes: ByteSize::mebibytes(64),
            cache_entries: 10_000,
            cache_bytes: ByteSize::mebibytes(64),
            arriving_bytes: ByteSize::mebibytes(64),
            rate_limit_read: CallRate::per_second(10_000),
            rate_limit_write: CallRate::per_second(10_000),
            rate_limit_watch: CallRate::per_second(10_000),
            rate_limit_essential: CallRate::per_second(10_000),
            max_in_flight: 16_384,
            max_concurrent_streams: 1_024,
            max_connections: 4_096,
            watch_streams: 10_000,
            watch_streams_per_namespace: 10_000,
            watch_streams_per_connection: 512,
            watch_keepalive: Span::seconds(20),
            watch_conflation: true,
            no_listen: false,
            max_connection_age: None,
            max_call: Span::seconds(120),
            reflection: false,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            otlp_endpoint: None,
            otlp_sample_ratio: 0.01,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// A connection URL, which usually holds a password: it shows only through [`DatabaseUrl::expose`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Wraps a URL.
    pub fn new(url: impl Into<String>) -> Self {
        DatabaseUrl(url.into())
    }

    /// The URL itself, password included.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// With several hosts, a primary is looked for unless the URL says otherwise: after a failover the old primary may
    /// be back as a standby, and every write to it would fail.
    fn requiring_primary(self) -> Self {
        if self.0.contains("target_session_attrs") {
            return self;
        }
        let separator = match (self.0.contains("://"), self.0.contains('?')) {
            (true, true) => "&",
            (true, false) => "?",
            // The form of `key=value` pairs.
            (false, _) => " ",
        };
        DatabaseUrl(format!("{}{separator}target_session_attrs=read-write", self.0))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl std::str::FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(DatabaseUrl::new(text))
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is missing, is not TOML, names an unknown setting or a value of the wrong kind.
    #[error("{0}")]
    Unreadable(Box<figment::Error>),
    /// The file that was named does not exist.
    #[error("there is no configuration file {}", .0.display())]
    NoFile(PathBuf),
    /// A value, or two together, make no sense.
    #[error("{0}")]
    Invalid(String),
}

impl Config {
    /// Puts defaults, the file and what flags and environment say on top of each other, and validates the result.
    ///
    /// # Errors
    /// When a value cannot be read or makes no sense; the message names the setting.
    pub fn load(layer: &Layer, database_url: Option<&DatabaseUrl>) -> Result<Config, Error> {
        Config::load_over(Config::default(), layer, database_url)
    }

    /// The same over other defaults, as `interlock dev` has them.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn load_over(defaults: Config, layer: &Layer, database_url: Option<&DatabaseUrl>) -> Result<Config, Error> {
        let mut figment = Figment::from(Serialized::defaults(defaults));
        if let Some(path) = &layer.config {
            if !path.is_file() {
                return Err(Error::NoFile(path.clone()));
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        figment = figment.merge(Serialized::globals(layer));
        if let Some(url) = database_url {
            figment = figment.merge(Serialized::global("database_url", url));
        }
        let mut config: Config = figment.extract().map_err(|error| Error::Unreadable(Box::new(error)))?;
        config.database_url = config.database_url.map(DatabaseUrl::requiring_primary);
        config.validate()?;
        Ok(config)
    }

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

    fn validate(&self) -> Result<(), Error> {
        let rules = [
            (self.pool_max >= 1, "pool_max must be at least 1"),
            (self.pool_min <= self.pool_max, "pool_min must not be above pool_max"),
            (self.connection_max_queries >= 1, "connection_max_queries must be at least 1"),
            (
                !self.pool_wait.get().is_zero() && !self.statement_timeout.get().is_zero(),
                "pool_wait and statement_timeout must be above zero",
            ),
            (
                self.queue_operations >= 1 && self.queue_bytes.get() >= 1 << 22,
                "queue_operations must be at least 1, and queue_bytes at least 4MiB (one message of the largest size)",
            ),
            (
                self.arriving_bytes.get() >= 1 << 23,
                "arriving_bytes must be at least 8MiB (one connection gets half of it, one message of the largest size)",
            ),
            (self.cache_entries >= 1, "cache_entries must be at least 1"),
            (
                self.max_in_flight >= 1 && self.max_concurrent_streams >= 1 && self.max_connections >= 1,
                "max_in_flight, max_concurrent_streams and max_connections must be at least 1",
            ),
            (
                self.max_call.get() > self.statement_timeout.get(),
                "max_call must be above statement_timeout, or a call ends before its statement does",
            ),
            (
                self.watch_streams >= 1
                    && self.watch_streams_per_namespace >= 1
                    && self.watch_streams_per_connection >= 1
                    && !self.watch_keepalive.get().is_zero(),
                "watch_streams, watch_streams_per_namespace, watch_streams_per_connection and watch_keepalive must be above zero",
            ),
            (self.history_days >= 1, "history_days must be at least 1"),
            (
                self.tls_cert.is_some() == self.tls_key.is_some(),
                "tls_cert and tls_key belong together: name both or neither",
            ),
            (
                self.tls_client_ca.is_none() || self.tls_cert.is_some(),
                "tls_client_ca needs tls_cert and tls_key: client certificates are presented over TLS",
            ),
            (
                self.otlp_endpoint.as_deref().is_none_or(is_collector),
                "otlp_endpoint must be http://HOST:PORT or https://HOST:PORT, without a user and a path",
            ),
            ((0.0..=1.0).contains(&self.otlp_sample_ratio), "otlp_sample_ratio must be from 0 to 1"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, message)) => Err(Error::Invalid((*message).to_owned())),
            None => Ok(()),
        }
    }

    /// The database that was named.
    ///
    /// # Errors
    /// When none was.
    pub fn require_database_url(&self) -> Result<&DatabaseUrl, Error> {
        self.database_url.as_ref().ok_or_else(|| {
            Error::Invalid(
                "no database: set --database-url or INTERLOCK_DATABASE_URL \
                 (`interlock dev` brings its own Postgres)"
                    .to_owned(),
            )
        })
    }
}

/// Whether this is the URL of a gRPC server. A password in it would show in logs.
fn is_collector(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        !rest.trim_end_matches('/').is_empty() && !rest.trim_end_matches('/').contains(['/', '@', ' '])
    })
}

#[cfg(test)]
mod tests;
