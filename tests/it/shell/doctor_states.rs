//! `interlock doctor` at what a database or a server has come to: each state is made, and found by name.

use interlock::dev::{Durability, TestCluster};

use super::doctor::{doctor, faults, nowhere};
use super::verb::run;
use crate::harness::*;

/// The advice and text of the finding of a check; None: it is in order, or was not looked at.
async fn fault(url: &str, flags: &[&str], check: &str) -> Option<String> {
    let ended = run(nowhere(), &[&["doctor", "--output", "json", "--database-url", url], flags].concat()).await;
    let lines = ended.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let mut found = lines.filter(|finding| finding["level"] != "OK" && finding["check"] == check);
    found.next().map(|finding| finding.to_string())
}

/// Waits for a finding and for what it says.
async fn finds(url: &str, check: &str, text: &str) {
    let found = eventually(check, async || fault(url, &[], check).await).await;
    assert!(found.contains(text), "{text}: {found}");
}

#[tokio::test]
async fn doctor_finds_each_bad_state_of_a_database() {
    let settings = [("autovacuum", "off"), ("max_slot_wal_keep_size", "1MB")];
    let cluster = TestCluster::own_with(Durability::None, &settings).await.expect("a Postgres");
    let database = Database::fresh_in(&cluster).await;
    let url = database.url();
    for check in ["history", "indexes", "dead rows", "slots", "wraparound", "rights", "encoding", "max_connections"] {
        assert_eq!(fault(url, &[], check).await, None);
    }
    let client = sql(url).await;
    for state in [
        // Partitions of the days to come.
        "DO $$ DECLARE partition text; BEGIN
            FOR partition IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'job_events'::regclass
                AND inhrelid::regclass::text > 'job_events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')
            LOOP EXECUTE 'DROP TABLE ' || partition; END LOOP; END $$",
        "CREATE TABLE rows AS SELECT generate_series(1, 100001) AS i; DELETE FROM rows",
        "CREATE INDEX half_built ON rows (i); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half_built'::regclass",
        "SELECT pg_create_physical_replication_slot('gone', true)",
        "CREATE ROLE reader LOGIN",
        "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    ] {
        client.batch_execute(state).await.expect("a superuser may");
    }
    for _ in 0..3 {
        client.batch_execute("CREATE TABLE more AS SELECT 1; DROP TABLE more").await.expect("rights");
        client.batch_execute("SELECT pg_switch_wal()").await.expect("a superuser may");
    }
    client.batch_execute("CHECKPOINT").await.expect("a superuser may");
    finds(url, "history", "partitions for 0 days ahead").await;
    finds(url, "dead rows", "rows has 100001 dead rows").await;
    finds(url, "indexes", "REINDEX INDEX CONCURRENTLY half_built").await;
    finds(url, "slots", "gone is lost").await;
    let connections = fault(url, &["--pool-max", "500"], "max_connections").await.expect("a finding");
    assert!(connections.contains("FAIL") && connections.contains("1 × 515"), "{connections}");
    finds(&url.replace("interlock@", "reader@"), "rights", "GRANT CREATE ON DATABASE").await;
    let name = url.rsplit('/').next().expect("a name").split('?').next().expect("a name");
    finds(&url.replace(name, "ascii"), "encoding", "SQL_ASCII").await;
    let old = "UPDATE pg_database SET datfrozenxid = ((txid_current() + 4294967296 - 1200000000) % 4294967296)::text::xid \
        WHERE datname = current_database()";
    client.batch_execute(old).await.expect("a superuser may");
    finds(url, "wraparound", "VACUUM FREEZE").await;
}

#[tokio::test]
async fn doctor_finds_a_server_that_is_not_serving() {
    let server = Server::start().await;
    let foreign = sql(server.database.url()).await;
    foreign.batch_execute("BEGIN; LOCK TABLE write_groups IN SHARE MODE").await.expect("a lock");
    let ended = eventually("a finding", async || {
        let ended = run(server.address, &["doctor", "--output", "json"]).await;
        faults(&ended).contains(&"FAIL health".to_owned()).then_some(ended)
    })
    .await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("writes are not done"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_an_expired_certificate() {
    let files = std::env::temp_dir().join(format!("interlock-doctor-{}", unique()));
    std::fs::create_dir(&files).expect("a directory");
    let authority = AuthorityFiles::new(&files, "authority");
    let expired = authority.issue_expired("server", &["localhost"]);
    let server = Server::over(Database::fresh().await, |config| {
        config.tls_cert = Some(expired.certificate.clone());
        config.tls_key = Some(expired.key.clone());
    })
    .await;
    let url = format!("https://localhost:{}", server.address.port());
    let ca = authority.file.to_str().expect("UTF-8");
    let ended = run(server.address, &["doctor", "--output", "json", "--server", &url, "--ca", ca]).await;
    assert_eq!(faults(&ended), ["FAIL reachable", "FAIL certificate"], "{ended:?}");
    assert!(ended.stdout.contains("expired"), "{ended:?}");
    std::fs::remove_dir_all(files).expect("our own");
}

#[tokio::test]
async fn doctor_warns_of_settings_that_need_a_restart() {
    let settings = [("wal_level", "minimal"), ("max_wal_senders", "0"), ("idle_in_transaction_session_timeout", "500")];
    let cluster = TestCluster::own_with(Durability::Full, &settings).await.expect("a Postgres");
    let database = Database::fresh_in(&cluster).await;
    let ended = doctor(nowhere(), database.url()).await;
    let expected =
        ["WARN wal_level", "WARN shared_buffers", "WARN idle_in_transaction_session_timeout", "FAIL reachable"];
    assert_eq!(faults(&ended), expected, "{ended:?}");
}
