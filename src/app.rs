//! Starts the parts of a server (store, engine, loops, services) and stops them in order.

mod figures;
mod health;
mod settings;

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::admission::{KnownKeys, Methods, Overload, RateLimiter, Statistics};
use crate::config::Config;
use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::engine::dispatcher::Dispatcher;
use crate::feed::{Feed, Hub};
use crate::rpc::{Namespaces, OperatorCalls, Services, TimelineGate, operator_calls, routes};
use crate::server::Operators;
use crate::store::Store;
use crate::store::connection::Target;
use crate::store::replica::Replica;
use crate::task::BackgroundJobs;
use crate::{credentials, engine, proto, server, store};

/// The file descriptor sets of everything that is served: they drive reflection and the table of known methods.
const DESCRIPTORS: &[&[u8]] = &[
    proto::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    // So that grpcurl can print the details of an error.
    tonic_types::pb::FILE_DESCRIPTOR_SET,
];

/// The running parts of a server, without its listener.
pub struct App {
    /// Routes of all services.
    pub routes: Routes,
    /// Shared with the admission layers, which fill it.
    pub statistics: Arc<Statistics>,
    /// The credentials that calls need, for the admission layers. None: calls need none.
    pub credentials: Option<Arc<KnownKeys>>,
    /// Shared with the admission layers, which charge calls to it.
    pub rate_limiter: Arc<RateLimiter>,
    /// Content of the metrics port.
    pub operators: Arc<Operators>,
    engine: Engine,
    namespaces: Arc<Namespaces>,
    loops: Arc<BackgroundJobs>,
    dispatching: JoinHandle<()>,
    keeping: JoinHandle<()>,
    /// Task that reads changed credentials. None: credentials are not required.
    reading: Option<JoinHandle<()>>,
    /// Task that looks at the read replica. None: there is none.
    following: Option<JoinHandle<()>>,
    feed: Feed,
}

/// Opens the store, migrates it, starts the engine and its tasks, and builds the services. `shutdown` is cancelled when
/// the drain begins: health turns to NOT_SERVING, and waiting calls are answered.
///
/// # Errors
/// When the database cannot be reached or migrated.
pub async fn start(config: &Config, database_url: &str, shutdown: CancellationToken) -> anyhow::Result<App> {
    let target = Target::parse(database_url).context("the database URL cannot be read")?;
    store::migrate::migrate(&target).await.context("the database cannot be reached or migrated")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), database = target.name(), "starting");
    let store = Store::new(target, config.into()).context("the connection pool cannot be made")?;
    let replica = replica(config)?;
    let hub = Arc::new(Hub::new(config.into()));
    let feed = Feed::start(&hub, &store);
    let engine = Engine::start(store.clone(), hub.clone(), config.into());
    let dispatcher = Arc::new(Dispatcher::new(engine.clone()));
    let dispatching = tokio::spawn(dispatcher.clone().run(shutdown.clone()));
    let keeping = tokio::spawn(engine::permits::loops::run(engine.clone(), shutdown.clone()));
    let loops = Arc::new(BackgroundJobs::start(&engine, config.into(), &shutdown));
    let statistics = Arc::new(Statistics::new(methods()?));
    let rate_limiter = Arc::new(RateLimiter::new(config.into()));
    let namespaces = Arc::new(Namespaces::new(store.clone()));
    let timeline_gate = Arc::new(TimelineGate::new(config.into()));
    let started = SystemTime::now();
    let (serving, is_serving) = watch::channel(false);
    let page = figures::page(figures::Parts {
        engine: engine.clone(),
        store: store.clone(),
        hub: hub.clone(),
        dispatcher: dispatcher.clone(),
        statistics: statistics.clone(),
        rate_limiter: rate_limiter.clone(),
        timeline_gate: timeline_gate.clone(),
        replica: replica.clone(),
        loops: loops.clone(),
        serving: is_serving.clone(),
        started,
    });
    let operators = Arc::new(Operators::new(page, is_serving));
    let services = Services {
        engine: engine.clone(),
        namespaces: namespaces.clone(),
        watch_store: store.for_watches(),
        replica: replica.clone(),
        primary: None,
        store: store.clone(),
        hub,
        dispatcher,
        statistics: statistics.clone(),
        rate_limiter: rate_limiter.clone(),
        timeline_gate,
        worker_instances: Arc::default(),
        loops: loops.clone(),
        shutdown: shutdown.clone(),
        started,
    };
    let credentials = config.requires_credentials().then(|| known_keys(&engine));
    let reading = credentials.clone().map(|known| tokio::spawn(credentials::keep(known, store.clone())));
    let following = replica.map(|replica| tokio::spawn(replica.keep(store.clone())));
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
        following,
        feed,
    })
}

impl App {
    /// The check for overload, for the admission layers.
    pub fn overload(&self) -> Overload {
        let (engine, namespaces) = (self.engine.clone(), self.namespaces.clone());
        Arc::new(move |namespace| engine.overload(namespaces.remembered(namespace)))
    }

    /// All rpcs inside this process, for operators with access to the database.
    pub fn operator_calls(&self) -> OperatorCalls {
        operator_calls(self.routes.clone())
    }

    /// Stops the rest after the last call was answered: dispatcher, loops, and last the engine, which finishes the operations that it
    /// has accepted.
    pub async fn stop(self) {
        let _ended = self.dispatching.await;
        let _ended = self.keeping.await;
        for task in [self.reading, self.following].into_iter().flatten() {
            task.abort();
        }
        self.loops.ended().await;
        let shared = self.engine.shared();
        if let Err(error) = shared.store.leave_servers(shared.permits.server).await {
            // The other servers notice by themselves.
            tracing::debug!(%error, "other servers were not notified of the shutdown");
        }
        self.engine.drain().await;
        // Last, so that commits of the drain are published.
        self.feed.stop().await;
    }
}

/// The read replica. None: no URL names one.
fn replica(config: &Config) -> anyhow::Result<Option<Arc<Replica>>> {
    let Some(url) = &config.read_database_url else { return Ok(None) };
    let replica = Replica::new(url.expose(), config.into()).context("the URL of the read replica cannot be used")?;
    Ok(Some(Arc::new(replica)))
}

/// Known credentials, which expire by the clock of the database.
fn known_keys(engine: &Engine) -> Arc<KnownKeys> {
    let engine = engine.clone();
    Arc::new(KnownKeys::new(Arc::new(move || match engine.shared().clock.now() {
        // Nothing was read from the database yet.
        Timestamp(0) => now_here(),
        now => now,
    })))
}

/// Current time by the clock of this machine.
fn now_here() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).after(since)
}

fn methods() -> anyhow::Result<Methods> {
    let reflection =
        [tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET];
    Methods::from_descriptors(&[DESCRIPTORS, &reflection].concat()).context("reading our own descriptors")
}

/// Brings the schema of a database up to date.
///
/// # Errors
/// When the database cannot be reached or migrated.
pub async fn migrate(database_url: &str) -> anyhow::Result<Vec<String>> {
    let target = Target::parse(database_url).context("the database URL cannot be read")?;
    store::migrate::migrate(&target).await.context("the database cannot be reached or migrated")
}
