//! What is served: opens the store, starts engine and loops, builds the services, and takes them down again in order.

mod figures;
mod health;

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::admission::{ClassRate, ClientRates, KnownKeys, Methods, Overload, RateLimiter, Statistics};
use crate::config::{CallRate, Config};
use crate::domain::time::Timestamp;
use crate::engine::dispatcher::Dispatcher;
use crate::engine::{Engine, EngineSettings};
use crate::feed::{Feed, FeedSettings, Hub};
use crate::rpc::{Namespaces, OperatorCalls, Services, operator_calls, routes};
use crate::server::Operators;
use crate::store::Store;
use crate::store::connection::Target;
use crate::store::pool::PoolSettings;
use crate::task::{Loops, TaskSettings};
use crate::{credentials, engine, proto, server, store};

/// The file descriptor sets of everything that is served: they drive reflection and the table of known methods.
const DESCRIPTORS: &[&[u8]] = &[
    proto::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    // So that grpcurl can print the details of an error.
    tonic_types::pb::FILE_DESCRIPTOR_SET,
];

/// A started application.
pub struct App {
    /// Every service.
    pub routes: Routes,
    /// Shared with the admission layers, which fill it.
    pub statistics: Arc<Statistics>,
    /// The credentials that calls need, for the admission layers. None: calls need none.
    pub credentials: Option<Arc<KnownKeys>>,
    /// Shared with the admission layers, which charge calls to it.
    pub rate_limiter: Arc<RateLimiter>,
    /// What the port for operators shows.
    pub operators: Arc<Operators>,
    engine: Engine,
    namespaces: Arc<Namespaces>,
    loops: Arc<Loops>,
    dispatching: JoinHandle<()>,
    keeping: JoinHandle<()>,
    /// Reads credentials.
    reading: Option<JoinHandle<()>>,
    feed: Feed,
}

/// Opens the store, migrates it, starts the engine and its tasks, and builds the services. `shutdown` is cancelled when
/// the drain begins: health turns to NOT_SERVING, and who waits is answered.
///
/// # Errors
/// When the database cannot be reached or migrated.
pub async fn start(config: &Config, database_url: &str, shutdown: CancellationToken) -> anyhow::Result<App> {
    let target = Target::parse(database_url).context("the database URL cannot be read")?;
    store::migrate::migrate(&target).await.context("the database cannot be reached or migrated")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), database = target.name(), "starting");
    let store = Store::new(target, pool_settings(config)).context("the connection pool cannot be made")?;
    let hub = Arc::new(Hub::new(feed_settings(config)));
    let feed = Feed::start(&hub, &store);
    let engine = Engine::start(store.clone(), hub.clone(), engine_settings(config));
    let dispatcher = Arc::new(Dispatcher::new(engine.clone()));
    let dispatching = tokio::spawn(dispatcher.clone().run(shutdown.clone()));
    let keeping = tokio::spawn(engine::permits::loops::run(engine.clone(), shutdown.clone()));
    let tasks = TaskSettings {
        reap_grace: config.reap_grace.get(),
        history_days: i32::try_from(config.history_days).unwrap_or(i32::MAX),
    };
    let loops = Arc::new(Loops::start(&engine, tasks, &shutdown));
    let statistics = Arc::new(Statistics::new(methods()?));
    let rate_limiter = Arc::new(RateLimiter::new(client_rates(config)));
    let namespaces = Arc::new(Namespaces::new(store.clone()));
    let started = SystemTime::now();
    let (serving, is_serving) = watch::channel(false);
    let page = figures::page(figures::Parts {
        engine: engine.clone(),
        store: store.clone(),
        hub: hub.clone(),
        dispatcher: dispatcher.clone(),
        statistics: statistics.clone(),
        rate_limiter: rate_limiter.clone(),
        loops: loops.clone(),
        serving: is_serving.clone(),
        started,
    });
    let operators = Arc::new(Operators::new(page, is_serving));
    let services = Services {
        engine: engine.clone(),
        namespaces: namespaces.clone(),
        watch_store: store.for_watches(),
        store: store.clone(),
        hub,
        dispatcher,
        statistics: statistics.clone(),
        rate_limiter: rate_limiter.clone(),
        loops: loops.clone(),
        shutdown: shutdown.clone(),
        started,
    };
    let credentials = config.requires_credentials().then(|| known_keys(&engine));
    let reading = credentials.clone().map(|known| tokio::spawn(credentials::keep(known, store.clone())));
    let (reporter, health) = tonic_health::server::health_reporter();
    let reporter = health::Reporter { health: reporter, engine: engine.clone(), store, serving, shutdown };
    tokio::spawn(reporter.run());
    let mut routes = routes(services).add_service(health);
    if config.reflection {
        routes = server::with_reflection(routes, DESCRIPTORS)?;
    }
    Ok(App {
        routes,
        statistics,
        operators,
        credentials,
        rate_limiter,
        engine,
        namespaces,
        loops,
        dispatching,
        keeping,
        reading,
        feed,
    })
}

impl App {
    /// Whether new work is refused now, for the admission layers.
    pub fn overload(&self) -> Overload {
        let (engine, namespaces) = (self.engine.clone(), self.namespaces.clone());
        Arc::new(move |namespace| engine.overload(namespaces.remembered(namespace)))
    }

    /// All rpcs inside this process, called by an operator who has the database itself.
    pub fn operator_calls(&self) -> OperatorCalls {
        operator_calls(self.routes.clone())
    }

    /// Takes the rest down after the last call was answered: who claims work, the loops, and last the engine, which
    /// finishes what it has taken.
    pub async fn stop(self) {
        let _ended = self.dispatching.await;
        let _ended = self.keeping.await;
        if let Some(reading) = self.reading {
            reading.abort();
        }
        self.loops.ended().await;
        let shared = self.engine.shared();
        if let Err(error) = shared.store.leave_servers(shared.permits.server).await {
            // The others find out by themselves.
            tracing::debug!(%error, "this server's leaving was not told");
        }
        self.engine.drain().await;
        // Last: what the engine still committed is told.
        self.feed.stop().await;
    }
}

/// A memory of credentials that goes by the clock of the database.
fn known_keys(engine: &Engine) -> Arc<KnownKeys> {
    let engine = engine.clone();
    Arc::new(KnownKeys::new(Arc::new(move || match engine.shared().clock.now() {
        // Nothing was read from the database yet.
        Timestamp(0) => now_here(),
        now => now,
    })))
}

/// The time by the clock of this machine.
fn now_here() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).after(since)
}

fn methods() -> anyhow::Result<Methods> {
    let reflection =
        [tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET];
    Methods::from_descriptors(&[DESCRIPTORS, &reflection].concat()).context("reading our own descriptors")
}

fn client_rates(config: &Config) -> ClientRates {
    let rate = |rate: CallRate| rate.get().map(|(items, period)| ClassRate { items, period });
    ClientRates {
        read: rate(config.rate_limit_read),
        write: rate(config.rate_limit_write),
        watch: rate(config.rate_limit_watch),
        essential: rate(config.rate_limit_essential),
    }
}

fn pool_settings(config: &Config) -> PoolSettings {
    PoolSettings {
        max_connections: config.pool_max as usize,
        min_connections: config.pool_min as usize,
        wait: config.pool_wait.get(),
        command_timeout: config.statement_timeout.get(),
        max_uses: usize::try_from(config.connection_max_queries).unwrap_or(usize::MAX),
        max_idle: config.connection_max_idle.get(),
        ..PoolSettings::default()
    }
}

fn feed_settings(config: &Config) -> FeedSettings {
    FeedSettings {
        keepalive: config.watch_keepalive.get(),
        conflate: config.watch_conflation,
        listen: !config.no_listen,
        ..FeedSettings::default()
    }
}

fn engine_settings(config: &Config) -> EngineSettings {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    EngineSettings {
        queue_operations: config.queue_operations as usize,
        queue_bytes: bytes(config.queue_bytes.get()),
        queue_wait: config.queue_wait.get(),
        cache_entries: config.cache_entries as usize,
        cache_bytes: bytes(config.cache_bytes.get()),
    }
}

/// Brings the schema of a database up to date.
///
/// # Errors
/// When the database cannot be reached or migrated.
pub async fn migrate(database_url: &str) -> anyhow::Result<Vec<String>> {
    let target = Target::parse(database_url).context("the database URL cannot be read")?;
    store::migrate::migrate(&target).await.context("the database cannot be reached or migrated")
}
