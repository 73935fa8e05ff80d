//! Servers inside the test's own process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use interlock::config::{Config, DatabaseUrl};
use interlock::dev::{Durability, TestCluster, TestDatabase};
use interlock::server::Operators;
use interlock::{app, server};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Api;

/// A database of one test; clones are the same one.
#[derive(Clone)]
pub struct Database(Arc<TestDatabase>);

impl Database {
    /// A fresh, migrated one.
    pub async fn fresh() -> Database {
        Database::fresh_in(TestCluster::shared().await.expect("a Postgres")).await
    }

    /// One on a Postgres of its own, for tests that do harm to it.
    pub async fn on_own_cluster(durability: Durability) -> (Database, TestCluster) {
        let cluster = TestCluster::own(durability).await.expect("a Postgres");
        (Database::fresh_in(&cluster).await, cluster)
    }

    /// One in which nothing was migrated yet, on a Postgres of its own.
    pub async fn empty() -> (Database, TestCluster) {
        let cluster = TestCluster::own(Durability::None).await.expect("a Postgres");
        let database = cluster.database(|_| async { Ok::<_, interlock::dev::DevError>(()) }).await.expect("a database");
        (Database(Arc::new(database)), cluster)
    }

    /// One in a cluster of the test's own.
    pub async fn fresh_in(cluster: &TestCluster) -> Database {
        let migrate = |url: String| async move { app::migrate(&url).await.map(drop) };
        Database(Arc::new(cluster.database(migrate).await.expect("a copy of the template")))
    }

    pub fn url(&self) -> &str {
        self.0.url()
    }
}

/// A connection past the server, for what no client can do.
pub async fn sql(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("Postgres listens");
    tokio::spawn(connection);
    client
}

/// A server that serves on a port of its own until it is stopped, or dropped with the runtime of its test.
pub struct Server {
    pub api: Api,
    pub address: SocketAddr,
    pub database: Database,
    /// What its port for operators would show.
    pub operators: Arc<Operators>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    /// A server over a fresh database, with settings that make tests quick: silent workers are noticed at once.
    pub async fn start() -> Server {
        Server::with(|_| {}).await
    }

    /// The first column of what a query finds, as text.
    pub async fn column(&self, query: &str) -> Vec<String> {
        let client = sql(self.database.url()).await;
        let rows = client.query(query, &[]).await.expect("a query of the test");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The same with other settings.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Server {
        Server::over(Database::fresh().await, change).await
    }

    /// Another server on the same database.
    pub async fn beside(&self) -> Server {
        Server::over(self.database.clone(), |_| {}).await
    }

    /// A server over a database that is there already.
    pub async fn over(database: Database, change: impl FnOnce(&mut Config)) -> Server {
        let url = database.url().to_owned();
        Server::through(database, &url, change).await
    }

    /// The same, which finds the database under another URL.
    pub async fn through(database: Database, url: &str, change: impl FnOnce(&mut Config)) -> Server {
        let mut config = Config {
            database_url: Some(DatabaseUrl::new(url)),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            reap_grace: Duration::from_secs(0),
            drain_timeout: Duration::from_secs(10),
            reflection: true,
            // Many servers share one Postgres here.
            pool_min: 1,
            pool_max: 5,
            // All clients are at one address, and some are in a hurry.
            ..Config::default().without_rate_limits()
        };
        change(&mut config);
        let shutdown = CancellationToken::new();
        let app = app::start(&config, url, shutdown.clone()).await.expect("a started application");
        let listener = TcpListener::bind(config.listen).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let tls = server::ServerTls::from_config(&config).expect("files of TLS");
        let options = server::Options {
            overload: app.overload(),
            credentials: app.credentials.clone(),
            rate_limiter: Arc::clone(&app.rate_limiter),
            tls,
            ..server::Options::new(&config, Arc::clone(&app.statistics))
        };
        let operators = Arc::clone(&app.operators);
        let ending = shutdown.clone();
        let serving = tokio::spawn(async move {
            server::serve(listener, app.routes.clone(), options, ending).await.expect("serving ends well");
            app.stop().await;
        });
        let api = if config.tls_cert.is_some() { Api::lazy(address) } else { Api::connect(address).await };
        Server { api, address, database, operators, shutdown, serving }
    }

    /// Opens its port for operators, to the end of the test.
    pub async fn operators_port(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(server::serve_operators(listener, self.operators.clone(), CancellationToken::new()));
        address
    }

    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }

    /// Drains, and gives back the database for the next server.
    pub async fn stop(self) -> Database {
        self.begin_stop();
        tokio::time::timeout(super::PATIENCE, self.serving).await.expect("a drain in time").expect("no panic");
        self.database
    }
}
