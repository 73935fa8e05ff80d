//! A streaming replica of a Postgres.

use std::fs;
use std::process::Command;

use interlock::dev::{Durability, Postgres, TestCluster};

use super::{Database, sql};

/// A streaming replica of another Postgres. Dropping it stops it.
pub struct Standby {
    cluster: TestCluster,
    database: String,
}

impl Standby {
    /// A replica of a cluster in which one database was made. No server may use it yet, because it is stopped to be copied.
    pub async fn of(primary: &Postgres, database: &Database) -> Standby {
        let cluster = TestCluster::own(Durability::Full).await.expect("a Postgres");
        let postgres = cluster.postgres();
        let [own, theirs] = [postgres, primary].map(|postgres| postgres.data_dir().join("cluster"));
        postgres.stop().await;
        primary.stop().await;
        fs::remove_dir_all(&own).expect("its directory");
        // Owners and permissions too.
        let copied = Command::new("cp").arg("-a").args([&theirs, &own]).status().expect("cp");
        assert!(copied.success());
        fs::write(own.join("standby.signal"), "").expect("a file");
        let host = primary.data_dir().join("socket");
        let conninfo = format!("primary_conninfo = 'host={} port=5432 user=interlock'\n", host.display());
        let settings = own.join("postgresql.auto.conf");
        let before = fs::read_to_string(&settings).unwrap_or_default();
        fs::write(&settings, before + &conninfo).expect("a file");
        primary.start_again().await.expect("it starts");
        postgres.start_again().await.expect("it starts");
        let (_, name) = database.url().rsplit_once('/').expect("a URL");
        let database = postgres.database_url_of(name);
        Standby { cluster, database }
    }

    /// URL of the copy of the database.
    pub fn url(&self) -> &str {
        &self.database
    }

    /// The Postgres itself.
    pub fn postgres(&self) -> &Postgres {
        self.cluster.postgres()
    }

    /// Stops showing what the primary commits.
    pub async fn pause(&self) {
        sql(self.url()).await.batch_execute("SELECT pg_wal_replay_pause()").await.expect("a standby");
    }

    /// Shows it again.
    pub async fn resume(&self) {
        sql(self.url()).await.batch_execute("SELECT pg_wal_replay_resume()").await.expect("a standby");
    }
}
