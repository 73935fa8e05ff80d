//! What is served: builds the services over the store and takes them down again, in order.
//!
//! For now only health and reflection; the engine, its tasks and its services join here.

use std::sync::Arc;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;

use crate::admission::{Methods, Statistics};
use crate::config::Config;
use crate::server;

/// The file descriptor sets of everything that is served: they drive reflection and the table of known methods.
const DESCRIPTORS: &[&[u8]] = &[
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    // So that grpcurl can print the details of an error.
    tonic_types::pb::FILE_DESCRIPTOR_SET,
];

/// A started application.
#[derive(Debug)]
pub struct App {
    /// Every service.
    pub routes: Routes,
    /// Shared with the admission layers, which fill it.
    pub statistics: Arc<Statistics>,
}

/// Opens the store, migrates it, starts the engine and its tasks, and builds the services. `shutdown` is cancelled when
/// the drain begins: health turns to NOT_SERVING, and long streams end.
///
/// # Errors
/// When the database cannot be reached or migrated.
pub async fn start(config: &Config, _database_url: &str, shutdown: CancellationToken) -> anyhow::Result<App> {
    let reflection =
        [tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET];
    let served = [DESCRIPTORS, &reflection].concat();
    let methods = Methods::from_descriptors(&served).context("reading our own descriptors")?;
    let statistics = Arc::new(Statistics::new(methods));
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(async move {
        shutdown.cancelled().await;
        reporter.set_service_status("", ServingStatus::NotServing).await;
    });
    let mut routes = Routes::new(health);
    if config.reflection {
        routes = server::with_reflection(routes, DESCRIPTORS)?;
    }
    Ok(App { routes, statistics })
}

impl App {
    /// Takes the rest down after the last call was answered: tasks, engine, store.
    pub async fn stop(self) {}
}

/// Brings the schema of a database up to date.
///
/// # Errors
/// When the database cannot be reached or migrated.
pub async fn migrate(_database_url: &str) -> anyhow::Result<()> {
    Ok(())
}
