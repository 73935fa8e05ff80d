//! Where the database is, and how a connection to it comes about and ends.
//!
//! Of several hosts the one that takes writes is used. They are asked a moment apart and not one after the other, so that one
//! that hangs does not keep the others from being asked. And a connection ends when the database was found away after it was made:
//! whoever waits on it is told at once, instead of after all the time that a statement may take.

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
use super::tls::{self, Tls};
use crate::figures::Sparse;
use crate::figures::database::DatabaseFigures;

/// How long a connection attempt may take, all of it. The driver bounds only its first step.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How much later than the one before it a host is asked.
const HEAD_START: Duration = Duration::from_millis(200);
/// After so much silence the kernel asks whether the other side is still there,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// so often,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// and after this without an answer the connection is lost.
const TCP_PATIENCE: Duration = Duration::from_secs(15);

/// The pause before the attempt after one that failed; each further failure doubles it,
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One host.
struct Host {
    /// For logs.
    name: String,
    config: Config,
    /// Whether its sessions were found to be the connections' own since the last connection to it broke.
    is_proved: AtomicBool,
}

/// What carries a connection.
type Connection = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A connection that the caller has to carry, and the host it leads to.
pub(super) struct Dialled {
    pub client: tokio_postgres::Client,
    pub connection: Connection,
    pub host: usize,
}

/// Where the database is: one or several hosts, of which the one that takes writes is used.
#[derive(Clone)]
pub struct Target {
    config: Config,
    hosts: Arc<[Host]>,
    tls: Arc<Tls>,
    /// Connections that were made before this moment lead nowhere.
    away: Arc<watch::Sender<Instant>>,
    /// Attempts to connect that failed since the last good one.
    failures: Arc<AtomicU32>,
    /// What is counted of all this.
    pub figures: Arc<DatabaseFigures>,
    lines: Arc<Sparse>,
}

impl Target {
    /// Reads a connection string, `postgres://…` or `host=… user=…`. What it does not say is set to safe bounds.
    ///
    /// # Errors
    /// When it cannot be read, or a parameter of TLS names what cannot be used.
    pub fn parse(url: &str) -> Result<Self, BadTarget> {
        let (rest, parameters) = take_apart(url)?;
        let tls = Arc::new(Tls::new(parameters)?);
        let mut config: Config = rest.parse()?;
        config.ssl_mode(tls.mode());
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(*config.get_connect_timeout().unwrap_or(&CONNECT_TIMEOUT));
        config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
        config.tcp_user_timeout(*config.get_tcp_user_timeout().unwrap_or(&TCP_PATIENCE));
        if config.get_application_name().is_none() {
            config.application_name("interlock");
        }
        let away = Arc::new(watch::Sender::new(Instant::now()));
        let hosts = each_host(&config).into_iter().map(Host::new).collect();
        let (failures, figures, lines) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Self { hosts, tls, config, away, failures, figures, lines })
    }

    /// The settings, for another pool than ours.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// Its hosts and the name of the database, for logs: no user, no password.
    pub fn name(&self) -> String {
        let hosts: Vec<&str> = self.hosts.iter().map(|host| &*host.name).collect();
        format!("{}/{}", hosts.join(","), self.config.get_dbname().unwrap_or_default())
    }

    /// What encrypts the connections of such a pool.
    pub async fn connector(&self) -> MakeRustlsConnect {
        self.tls.connector().await
    }

    /// Asks Postgres to cancel what runs on a connection, encrypted as that is.
    pub(super) async fn cancel(&self, client: &tokio_postgres::Client) -> DbResult<()> {
        client.cancel_token().cancel_query(self.tls.connector().await).await
    }

    /// A new connection with a session prepared by `setup`.
    ///
    /// # Errors
    /// None came about; why is in the log.
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

    /// The same for whoever bounds it, at once and without a word in the log.
    pub(super) async fn open(&self, setup: &str) -> Result<ClientWrapper, NoConnection> {
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

    /// Ends all connections that were made before a moment: the database was away since.
    pub(super) fn lost_since(&self, moment: Instant) {
        self.away.send_if_modified(|last| {
            let later = *last < moment;
            *last = moment.max(*last);
            later
        });
        self.figures.losses.inc();
    }

    /// A database that is not there is not hammered: everybody's next attempt waits longer for each one that failed.
    pub(super) async fn pause(&self) {
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
            tracing::info!(host = self.hosts[host].name, "another host of the database takes the writes");
        }
        Ok(client)
    }

    /// A connection with the task that carries it.
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
            // Whoever used it gets the error too.
            if let Err(error) = ended {
                target.hosts[host].is_proved.store(false, Ordering::Relaxed);
                tracing::debug!(error = %Explained(&error), "a database connection ended");
            }
        });
        ClientWrapper::new(client, task)
    }

    /// Makes sure that what a connection sets stays its own, once for each host and again after a connection to it broke: there may be a
    /// pooler now. It takes a second connection for a moment.
    pub(super) async fn prove(&self, client: &tokio_postgres::Client, host: usize) -> Result<(), NoConnection> {
        let Host { name, config, is_proved } = &self.hosts[host];
        if is_proved.load(Ordering::Relaxed) {
            return Ok(());
        }
        let made = Instant::now();
        let (second, connection) = match self.connect_host(config).await {
            Ok(second) => second,
            // Where this was the last connection to be had nothing can be found out, until one is free.
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

    /// A client and its connection, which the caller has to carry; unbounded, and at once.
    pub(super) async fn dial(&self) -> Result<Dialled, NoConnection> {
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

    /// Connects to one host. If TLS is preferred and fails, it is tried without, as libpq does; of two errors the first is told.
    async fn connect_host(&self, config: &Config) -> DbResult<(tokio_postgres::Client, Connection)> {
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

    /// Waits until the database was found away after a moment.
    pub(super) async fn lost_after(&self, moment: Instant) {
        // It cannot be closed as long as this waits.
        let mut away = self.away.subscribe();
        let _is_lost = away.wait_for(|since| moment < *since).await.is_ok();
    }
}

impl Host {
    fn new(config: Config) -> Self {
        Self { name: name_of(&config), config: of_one(config), is_proved: AtomicBool::new(false) }
    }
}

/// How long to wait after so many failed attempts. `jitter`, from 0 to 1, keeps servers that lost the same database apart.
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
