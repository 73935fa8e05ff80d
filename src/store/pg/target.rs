//! The hosts of the database, and how connections to them are made and closed.
//!
//! Of several hosts the one that accepts writes is used. They are tried 200 ms apart and not one after the other, so that a host that hangs does
//! not delay the others. When the database is found unavailable, connections made before are closed: their callers get an error at once, instead
//! of after the timeout of the statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::{DbResult, Explained};
use super::no_connection::NoConnection;
use super::sessions;
use super::target_hosts::{each_host, name_of, of_one};
use super::target_text::{BadTarget, take_apart};
use super::tls::{self, DatabaseTls};
use crate::figures::Sparse;
use crate::figures::database::DatabaseFigures;

/// How long a connection attempt may take, with TLS and authentication. The driver bounds only the TCP connection.
pub(in crate::store) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How much later than the host before it a host is tried.
const HEAD_START: Duration = Duration::from_millis(200);
/// TCP keepalive: idle time before the first probe.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// TCP keepalive: interval between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Time without an acknowledgement after which the kernel closes a connection (TCP_USER_TIMEOUT).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// The pause before the attempt that follows a failed one. Each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One host of the database, with the settings to connect to it.
struct TargetHost {
    /// Host and port, for logs.
    name: String,
    config: Config,
    /// Whether sessions were checked to belong to their connections (see `sessions`) since a connection to the host was last lost.
    is_proved: AtomicBool,
}

/// The task of a connection, which the driver needs to be polled.
type DriverConnection = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A client, the connection that the caller has to poll, and the place of its host.
pub(in crate::store) struct Dialled {
    pub client: tokio_postgres::Client,
    pub connection: DriverConnection,
    pub host: usize,
}

/// The hosts of the database, of which the one that accepts writes is used.
#[derive(Clone)]
pub struct Target {
    config: Config,
    hosts: Arc<[TargetHost]>,
    tls: Arc<DatabaseTls>,
    /// Connections that were made before this moment are closed.
    away: Arc<watch::Sender<Instant>>,
    /// Failed attempts to connect since the last successful one.
    failures: Arc<AtomicU32>,
    /// Metrics of connections to these hosts.
    pub figures: Arc<DatabaseFigures>,
    lines: Arc<Sparse>,
}

impl Target {
    /// Parses a connection string, `postgres://…` or `host=… user=…`. Timeouts that it does not set get bounded defaults.
    ///
    /// # Errors
    /// When it cannot be parsed, or a parameter of TLS cannot be used.
    pub fn parse(url: &str) -> Result<Self, BadTarget> {
        Self::parse_for(url, TargetSessionAttrs::ReadWrite)
    }

    /// As [`Target::parse`], for a host that need not accept writes.
    ///
    /// # Errors
    /// As there.
    pub fn parse_replica(url: &str) -> Result<Self, BadTarget> {
        Self::parse_for(url, TargetSessionAttrs::Any)
    }

    fn parse_for(url: &str, attributes: TargetSessionAttrs) -> Result<Self, BadTarget> {
        let (rest, parameters) = take_apart(url)?;
        let tls = Arc::new(DatabaseTls::new(parameters)?);
        let mut config: Config = rest.parse()?;
        config.ssl_mode(tls.mode());
        config.target_session_attrs(attributes);
        config.connect_timeout(*config.get_connect_timeout().unwrap_or(&CONNECT_TIMEOUT));
        config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
        config.tcp_user_timeout(*config.get_tcp_user_timeout().unwrap_or(&TCP_USER_TIMEOUT));
        if config.get_application_name().is_none() {
            config.application_name("interlock");
        }
        let away = Arc::new(watch::Sender::new(Instant::now()));
        let hosts = each_host(&config).into_iter().map(TargetHost::new).collect();
        let (failures, figures, lines) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Self { hosts, tls, config, away, failures, figures, lines })
    }

    /// The settings of the driver, for a pool that this module does not manage.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// Hosts and name of the database, for logs: no user, no password.
    pub fn name(&self) -> String {
        let hosts: Vec<&str> = self.hosts.iter().map(|host| &*host.name).collect();
        format!("{}/{}", hosts.join(","), self.config.get_dbname().unwrap_or_default())
    }

    /// The TLS connector, for the connections of such a pool.
    pub async fn connector(&self) -> MakeRustlsConnect {
        self.tls.connector().await
    }

    /// Asks Postgres to cancel the statement that runs on a connection, with the same TLS settings.
    pub(in crate::store) async fn cancel(&self, client: &tokio_postgres::Client) -> DbResult<()> {
        client.cancel_token().cancel_query(self.tls.connector().await).await
    }

    /// Makes a connection and runs `setup` on it.
    ///
    /// # Errors
    /// When no connection was made; the reason is logged, at most once in a while.
    pub async fn connect(&self, setup: &str) -> Result<ClientWrapper, NoConnection> {
        self.pause().await;
        let opened = timeout(CONNECT_TIMEOUT, self.open(setup)).await.unwrap_or_else(|_| {
            self.failed();
            Err(NoConnection::TimedOut)
        });
        opened.inspect_err(|error| {
            if let Some(suppressed) = self.lines.pass() {
                tracing::warn!(%error, suppressed, "no connection to the database");
            }
        })
    }

    /// The same without pause, timeout and log, for callers that have their own.
    pub(in crate::store) async fn open(&self, setup: &str) -> Result<ClientWrapper, NoConnection> {
        let session = self.session(setup).await;
        match &session {
            Ok(_) => self.failures.store(0, Ordering::Relaxed),
            Err(error) => {
                self.failed();
                self.figures.failed(error);
            }
        }
        session
    }

    /// Closes all connections that were made before a moment, since the database was unavailable then.
    pub(in crate::store) fn lost_since(&self, moment: Instant) {
        self.away.send_if_modified(|last| {
            let later = *last < moment;
            *last = moment.max(*last);
            later
        });
        self.figures.losses.inc();
    }

    /// Waits before an attempt to connect, longer after each failed one, so that servers do not flood a database that is coming back.
    pub(in crate::store) async fn pause(&self) {
        sleep(pause(self.failures.load(Ordering::Relaxed), rand::random())).await;
    }

    fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    async fn session(&self, setup: &str) -> Result<ClientWrapper, NoConnection> {
        let made = Instant::now();
        let dialled = self.dial().await?;
        let host = dialled.host;
        let client = self.carried(dialled, made);
        self.prove(&client, host).await?;
        client.batch_execute(setup).await.map_err(|error| self.no_connection(host, error))?;
        if self.figures.connected(host) {
            tracing::info!(host = self.hosts[host].name, "another host of the database accepts the writes");
        }
        Ok(client)
    }

    /// Spawns the task that polls a connection until it ends or is given up.
    fn carried(&self, dialled: Dialled, made: Instant) -> ClientWrapper {
        let Dialled { client, connection, host } = dialled;
        let target = self.clone();
        let task: JoinHandle<()> = tokio::spawn(async move {
            let ended = tokio::select! {
                ended = connection => ended,
                () = target.lost_after(made) => {
                    tracing::debug!("a database connection was given up");
                    target.hosts[host].is_proved.store(false, Ordering::Relaxed);
                    return;
                }
            };
            // Its caller gets the error too.
            if let Err(error) = ended {
                target.hosts[host].is_proved.store(false, Ordering::Relaxed);
                tracing::debug!(error = %Explained(&error), "a database connection ended");
            }
        });
        ClientWrapper::new(client, task)
    }

    /// Checks that sessions belong to their connections: once for each host, and again after a connection to it was lost, since there may be a
    /// pooler now. It needs a second connection for a moment.
    pub(in crate::store) async fn prove(
        &self,
        client: &tokio_postgres::Client,
        host: usize,
    ) -> Result<(), NoConnection> {
        let TargetHost { name, config, is_proved } = &self.hosts[host];
        if is_proved.load(Ordering::Relaxed) {
            return Ok(());
        }
        let made = Instant::now();
        let (second, connection) = match self.connect_host(config).await {
            Ok(second) => second,
            // Without a free connection the check is left for the next connection.
            Err(error) if error.code().is_some_and(|code| code.code().starts_with("53")) => return Ok(()),
            Err(error) => return Err(self.no_connection(host, error)),
        };
        let second = self.carried(Dialled { client: second, connection, host }, made);
        match sessions::fault(client, &second).await {
            Ok(None) => {
                is_proved.store(true, Ordering::Relaxed);
                Ok(())
            }
            Ok(Some(fault)) => Err(NoConnection::Pooled { host: name.clone(), fault }),
            Err(error) => Err(self.no_connection(host, error)),
        }
    }

    /// Connects to the first host that accepts writes, without pause or timeout.
    pub(in crate::store) async fn dial(&self) -> Result<Dialled, NoConnection> {
        let attempts = (0..).zip(self.hosts.iter()).map(|(place, host)| async move {
            sleep(HEAD_START * place).await;
            (place as usize, self.connect_host(&host.config).await)
        });
        let mut attempts: FuturesUnordered<_> = attempts.collect();
        let mut failures = Vec::new();
        while let Some((host, attempt)) = attempts.next().await {
            match attempt {
                Ok((client, connection)) => return Ok(Dialled { client, connection, host }),
                Err(error) => failures.push((self.hosts[host].name.clone(), error)),
            }
        }
        Err(NoConnection::of(failures))
    }

    /// Connects to one host. If TLS is preferred and fails, it is tried without, as libpq does; of two errors the first is returned.
    async fn connect_host(&self, config: &Config) -> DbResult<(tokio_postgres::Client, DriverConnection)> {
        let connector = self.tls.connector().await;
        let connected = config.connect(connector.clone()).await;
        match connected {
            Err(error) if config.get_ssl_mode() == SslMode::Prefer && tls::may_be_plain(&error) => {
                let mut plain = config.clone();
                plain.ssl_mode(SslMode::Disable);
                plain.connect(connector).await.map_err(|_| error)
            }
            connected => connected,
        }
    }

    fn no_connection(&self, host: usize, error: tokio_postgres::Error) -> NoConnection {
        NoConnection::of(vec![(self.hosts[host].name.clone(), error)])
    }

    /// Waits until connections that were made at a moment are to be closed.
    pub(in crate::store) async fn lost_after(&self, moment: Instant) {
        // The channel cannot be closed while `self` is borrowed.
        let mut away = self.away.subscribe();
        let _is_lost = away.wait_for(|since| moment < *since).await.is_ok();
    }
}

impl TargetHost {
    fn new(config: Config) -> Self {
        Self { name: name_of(&config), config: of_one(config), is_proved: AtomicBool::new(false) }
    }
}

/// The pause after a number of failed attempts in a row. `jitter`, from 0 to 1, spreads the attempts of servers that lost the same database.
fn pause(failures: u32, jitter: f64) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(before) => {
            let doubled = FIRST_PAUSE.saturating_mul(1 << before.min(10)).min(LONGEST_PAUSE);
            doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_are_spread() {
        assert_eq!(pause(0, 0.5), Duration::ZERO, "the first attempt waits for nothing");
        for failures in 1..100 {
            let (shortest, longest) = (pause(failures, 0.0), pause(failures, 1.0));
            assert!(shortest >= FIRST_PAUSE / 2 && longest <= LONGEST_PAUSE, "{failures}: {shortest:?} to {longest:?}");
            assert_eq!(shortest * 2, longest);
            assert!(pause(failures + 1, 0.5) >= pause(failures, 0.5));
        }
    }

    #[test]
    fn each_host_keeps_all_other_settings() {
        let url = "postgres://me:secret@a:1,b:2/db?application_name=x&options=-cgeqo%3Doff&keepalives_retries=2";
        let target = Target::parse(url).expect("a URL");
        let alone = |host: &str| {
            let url =
                format!("postgres://me:secret@{host}/db?application_name=x&options=-cgeqo%3Doff&keepalives_retries=2");
            Target::parse(&url).expect("a URL").config
        };
        let hosts: Vec<&Config> = target.hosts.iter().map(|host| &host.config).collect();
        assert_eq!(hosts, [&alone("a:1"), &alone("b:2")]);
        let target = Target::parse("host=a,b port=7 user=me").expect("pairs");
        assert_eq!(target.hosts.iter().map(|host| host.config.get_ports().to_vec()).collect::<Vec<_>>(), [[7], [7]]);
        assert_eq!(
            Target::parse("host=a,b port=1,2,3 user=me").expect("pairs").hosts.len(),
            1,
            "for the driver to refuse"
        );
    }
}
