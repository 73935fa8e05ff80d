//! The only reader of flags, environment and file.
//!
//! Precedence: a flag wins over its environment variable, that over the file, that over the default. What comes out is
//! validated as a whole, so that a server that starts has settings that make sense together. Secrets never show in
//! `Debug`.

pub mod call_rate;
pub mod exposure;
pub mod host;
pub mod metrics;
pub mod origin;
pub mod overrides;
pub mod settings;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use call_rate::CallRate;
pub use exposure::Auth;
pub use host::Host;
pub use metrics::MetricsListen;
pub use origin::Origin;
pub use overrides::Overrides;
pub use settings::Config;

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text, for people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// A connection URL, which usually holds a password: it shows only through [`DatabaseUrl::expose`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Takes a URL as it is; it is parsed when the store connects.
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
pub enum ConfigError {
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
    /// The settings if they make sense together.
    ///
    /// # Errors
    /// When a value, or two together, make no sense; the message names the settings.
    pub fn validated(mut self) -> Result<Config, ConfigError> {
        self.database_url = self.database_url.map(DatabaseUrl::requiring_primary);
        self.validate()?;
        Ok(self)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let rules = [
            (self.pool_max >= 1, "pool_max must be at least 1"),
            (self.pool_min <= self.pool_max, "pool_min must not be above pool_max"),
            (self.connection_max_queries >= 1, "connection_max_queries must be at least 1"),
            (
                !self.pool_acquire_timeout.is_zero() && !self.statement_timeout.is_zero(),
                "pool_acquire_timeout and statement_timeout must be above zero",
            ),
            (
                self.queue_operations >= 1 && self.queue_bytes.as_u64() >= 1 << 22,
                "queue_operations must be at least 1, and queue_bytes at least 4MiB (one message of the largest size)",
            ),
            (
                self.arriving_bytes.as_u64() >= 1 << 23,
                "arriving_bytes must be at least 8MiB (one connection gets half of it, one message of the largest size)",
            ),
            (self.cache_entries >= 1, "cache_entries must be at least 1"),
            (self.segment_cache_entries >= 1, "segment_cache_entries must be at least 1"),
            (self.timeline_operations >= 1, "timeline_operations must be at least 1"),
            (
                self.max_in_flight >= 1 && self.max_concurrent_streams >= 1 && self.max_connections >= 1,
                "max_in_flight, max_concurrent_streams and max_connections must be at least 1",
            ),
            (
                self.default_deadline > self.statement_timeout,
                "default_deadline must be above statement_timeout, or a call ends before its statement does",
            ),
            (
                self.watch_streams >= 1
                    && self.watch_streams_per_namespace >= 1
                    && self.watch_streams_per_connection >= 1
                    && !self.watch_keepalive.is_zero(),
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
            Some((_, message)) => Err(ConfigError::Invalid((*message).to_owned())),
            None => Ok(()),
        }
    }

    /// The database URL.
    ///
    /// # Errors
    /// If no database URL is set.
    pub fn require_database_url(&self) -> Result<&DatabaseUrl, ConfigError> {
        self.database_url.as_ref().ok_or_else(|| {
            ConfigError::Invalid(
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
