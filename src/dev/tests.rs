//! Against real clusters: start, stop, kill, locks, versions, the template.

use std::time::{Duration, Instant};

use super::*;
use crate::config::Host;

/// A directory of this test below the temporary one; removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let name = format!("interlock-test-{}", uuid::Uuid::new_v4().simple());
        Scratch(std::env::temp_dir().join(name))
    }

    fn options(&self) -> PostgresOptions {
        let host = Host::from_environment();
        PostgresOptions {
            postgres_bin: host.postgres_bin,
            search_path: host.search_path,
            storage: Storage::Persistent(self.0.clone()),
            durability: Durability::Full,
            settings: Vec::new(),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _absent = std::fs::remove_dir_all(&self.0);
    }
}

async fn execute(postgres: &Postgres, statement: &str) {
    let client = database::connect(&postgres.config()).await.expect("a connection");
    client.batch_execute(statement).await.expect("a statement");
}

async fn count(postgres: &Postgres, query: &str) -> i64 {
    let url: tokio_postgres::Config = postgres.database_url().parse().expect("a URL");
    let client = database::connect(&url).await.expect("a connection");
    client.query_one(query, &[]).await.expect("a row").get(0)
}

/// Waits for a condition, ten seconds at most.
async fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "did not become true in time");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn data_survives_a_stop_a_kill_and_a_new_owner() {
    let scratch = Scratch::new();
    let cold = Instant::now();
    let postgres = Postgres::start(scratch.options()).await.expect("a start");
    let cold = cold.elapsed();
    execute(&postgres, "CREATE TABLE kept (id bigint)").await;
    execute(&postgres, "INSERT INTO kept VALUES (1)").await;

    postgres.stop().await;
    assert_eq!(postgres.pid(), None);
    postgres.start_again().await.expect("a start after a stop");
    execute(&postgres, "INSERT INTO kept VALUES (2)").await;

    postgres.kill().await;
    postgres.start_again().await.expect("a start after a kill");
    execute(&postgres, "INSERT INTO kept VALUES (3)").await;

    postgres.stop_immediately().await;
    postgres.start_again().await.expect("a start after an immediate stop");
    drop(postgres);

    let warm = Instant::now();
    let postgres = Postgres::start(scratch.options()).await.expect("a start");
    println!("cold {cold:?}, warm {:?}", warm.elapsed());
    assert_eq!(count(&postgres, "SELECT count(*) FROM kept").await, 3);
    assert_eq!(
        count(
            &postgres,
            "SELECT count(*) FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') \
             AND setting = 'on'"
        )
        .await,
        3
    );
    assert_eq!(
        count(&postgres, "SELECT count(*) FROM pg_settings WHERE name = 'listen_addresses' AND setting = ''").await,
        1
    );
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let scratch = Scratch::new();
    let first = Postgres::start(scratch.options()).await.expect("a start");
    let error = Postgres::start(scratch.options()).await.expect_err("it is in use");
    assert!(matches!(error, DevError::InUse { .. }), "{error}");
    assert!(matches!(first.start_again().await, Err(DevError::InUse { .. })));
}

#[tokio::test]
async fn what_a_killed_owner_left_does_not_stop_the_next() {
    let scratch = Scratch::new();
    let mut first = Postgres::start(scratch.options()).await.expect("a start");
    first.kill().await;
    drop(first);
    // The number of a live process that is not this Postgres: ours.
    let pid_file = scratch.0.join("cluster/postmaster.pid");
    let left = std::fs::read_to_string(&pid_file).expect("left by the kill");
    let (_, rest) = left.split_once('\n').expect("several lines");
    std::fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).expect("writable");
    first = Postgres::start(scratch.options()).await.expect("a start over what was left");
    assert_eq!(count(&first, "SELECT 1::bigint").await, 1);
}

#[tokio::test]
async fn data_of_another_version_is_refused_by_name() {
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.0.join("cluster")).expect("a directory");
    std::fs::write(scratch.0.join("cluster/PG_VERSION"), "9\n").expect("a file");
    let error = Postgres::start(scratch.options()).await.expect_err("another version");
    assert!(matches!(error, DevError::OtherVersion { written_by: 9, .. }), "{error}");
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_refused_by_name() {
    let mut scratch = Scratch::new();
    scratch.0 = scratch.0.join("x".repeat(100));
    let error = Postgres::start(scratch.options()).await.expect_err("a long path");
    assert!(matches!(error, DevError::SocketPath(_)), "{error}");
    scratch.0.pop();
}

#[tokio::test]
async fn others_cannot_open_the_socket() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = TestCluster::shared().await.expect("a cluster");
    let directory = cluster.postgres().data_dir().join("socket");
    let mode = directory.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

#[tokio::test]
async fn each_test_gets_its_own_copy_of_the_migrated_database() {
    // Its own: the template of the shared one is made by whoever comes first, and shall hold our real schema.
    let cluster = TestCluster::own(Durability::None).await.expect("a cluster");
    let migrate = async |url: String| -> Result<(), DevError> {
        let client = database::connect(&url.parse().expect("a URL")).await?;
        Ok(client.batch_execute("CREATE TABLE thing (id bigint)").await?)
    };
    let first = cluster.database(migrate).await.expect("a database");
    let second = cluster.database(migrate).await.expect("a database");
    let config = |database: &TestDatabase| database.url().parse().expect("a URL");
    let client = database::connect(&config(&first)).await.expect("connected");
    client.batch_execute("INSERT INTO thing VALUES (1)").await.expect("migrated");
    let client = database::connect(&config(&second)).await.expect("connected");
    let rows = client.query("SELECT * FROM thing", &[]).await;
    assert_eq!(rows.expect("migrated").len(), 0);
}

#[tokio::test]
async fn an_ephemeral_cluster_leaves_nothing() {
    let started = Instant::now();
    let cluster = TestCluster::own(Durability::None).await.expect("a cluster");
    println!("ephemeral {:?}", started.elapsed());
    let directory = cluster.postgres().data_dir().to_path_buf();
    let pid = cluster.postgres().pid().expect("running");
    assert!(directory.is_dir());
    drop(cluster);
    assert!(!directory.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn postgres_ends_with_the_thread_that_watches_it_only() {
    // Started from a thread that ends: with the parent-death signal on that thread, Postgres would end with it.
    let scratch = Scratch::new();
    let options = scratch.options();
    let postgres = std::thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(Postgres::start(options))
    })
    .join()
    .expect("no panic")
    .expect("a start");
    for _ in 0..20 {
        assert_eq!(count(&postgres, "SELECT 1::bigint").await, 1);
    }
    let pid = postgres.pid().expect("still running");
    postgres.stop().await;
    eventually(|| !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
}
