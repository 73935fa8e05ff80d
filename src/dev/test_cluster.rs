//! One Postgres for all tests of a process, and a fresh database for each of them.
//!
//! The migrations run once, in a template database; a test gets a copy of it, which takes some hundredths of a second.
//! Nothing here is durable. Tests that stop or kill Postgres take a cluster of their own: [`TestCluster::own`].

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{DevError, Durability, Postgres, PostgresOptions, Storage, database};
use crate::config::Host;

/// The migrated database that tests get copies of.
const TEMPLATE: &str = "interlock_template";

static SHARED: OnceCell<TestCluster> = OnceCell::const_new();

/// A Postgres for tests.
#[derive(Debug)]
pub struct TestCluster {
    postgres: Postgres,
    template: OnceCell<()>,
    next: AtomicU64,
    /// Databases that no test needs any more; dropped before the next is made, so that the number stays small.
    finished: Arc<Mutex<Vec<String>>>,
}

/// A database of one test. Dropping it gives it up.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    name: String,
    finished: Arc<Mutex<Vec<String>>>,
}

impl TestCluster {
    /// The cluster that all tests of this process share. It is stopped with the process, and what it leaves on disk is
    /// removed by the next.
    ///
    /// # Errors
    /// As for [`Postgres::start`].
    pub async fn shared() -> Result<&'static TestCluster, DevError> {
        SHARED.get_or_try_init(|| TestCluster::own(Durability::None)).await
    }

    /// A cluster of its own, for a test that does harm to it. [`Durability::Full`] where a crash of the machine matters.
    ///
    /// # Errors
    /// As for [`Postgres::start`].
    pub async fn own(durability: Durability) -> Result<TestCluster, DevError> {
        TestCluster::own_with(durability, &[]).await
    }

    /// The same with settings of Postgres (`name`, `value`), which win over those of tests.
    ///
    /// # Errors
    /// As for [`Postgres::start`].
    pub async fn own_with(durability: Durability, settings: &[(&str, &str)]) -> Result<TestCluster, DevError> {
        let mut options = test_options(durability);
        options.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let postgres = Postgres::start(options).await?;
        Ok(TestCluster { postgres, template: OnceCell::new(), next: AtomicU64::new(1), finished: Arc::default() })
    }

    /// The server, for tests that stop it.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// A new database that `migrate` has prepared. `migrate` gets a connection URL, runs once per cluster, and closes
    /// its connections before it returns.
    ///
    /// # Errors
    /// Those of `migrate`, and of the statements that copy.
    pub async fn database<M, F, E>(&self, migrate: M) -> Result<TestDatabase, E>
    where
        M: FnOnce(String) -> F,
        F: Future<Output = Result<(), E>>,
        E: From<DevError>,
    {
        // A connection per call: tests have runtimes of their own, and a connection does not survive its runtime.
        let client = database::connect(&self.postgres.config_of("postgres")).await.map_err(DevError::from)?;
        self.template
            .get_or_try_init(|| async {
                // A failed attempt may have left half a template.
                database::drop_database(&client, TEMPLATE).await?;
                database::ensure_database(&client, TEMPLATE).await?;
                migrate(self.postgres.database_url_of(TEMPLATE)).await
            })
            .await?;
        let finished = std::mem::take(&mut *self.finished.lock());
        for name in finished {
            database::drop_database(&client, &name).await?;
        }
        let name = format!("test_{}", self.next.fetch_add(1, Ordering::Relaxed));
        database::copy_database(&client, TEMPLATE, &name).await?;
        Ok(TestDatabase { url: self.postgres.database_url_of(&name), name, finished: Arc::clone(&self.finished) })
    }
}

impl TestDatabase {
    /// Connection URL of this database.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        self.finished.lock().push(std::mem::take(&mut self.name));
    }
}

fn test_options(durability: Durability) -> PostgresOptions {
    let host = Host::from_environment();
    PostgresOptions {
        storage: Storage::Ephemeral { cache: host.cache_dir(), parent: host.temporary_dir },
        postgres_bin: host.postgres_bin,
        search_path: host.search_path,
        durability,
        settings: [
            // Many small databases at once; checkpoints and cleaning only cost time here.
            ("max_connections", "400"),
            ("shared_buffers", "64MB"),
            ("max_wal_size", "4GB"),
            ("checkpoint_timeout", "1h"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
    }
}
