//! `interlock doctor`: what it finds at good and at bad databases and servers, and that it keeps secrets.

use std::net::SocketAddr;

use interlock::dev::Durability;
use serde_json::Value;

use super::verb::{Ended, run};
use crate::harness::*;

/// An address at which nothing listens.
pub fn nowhere() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address")
}

/// What it finds at a server and a database.
pub async fn doctor(server: SocketAddr, database_url: &str) -> Ended {
    let ended = run(server, &["doctor", "--database-url", database_url, "--output", "json"]).await;
    assert_eq!(ended.stderr, "");
    ended
}

/// The findings that are not in order, as `LEVEL check`.
pub fn faults(ended: &Ended) -> Vec<String> {
    let findings = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object a line"));
    findings
        .filter(|finding| finding["level"] != "OK")
        .map(|finding| {
            assert!(finding["what"].as_str().is_some_and(|what| !what.is_empty()), "{finding}");
            format!("{} {}", finding["level"].as_str().expect("text"), finding["check"].as_str().expect("text"))
        })
        .collect()
}

#[tokio::test]
async fn doctor_finds_no_failure_at_a_good_database_and_server() {
    let (database, _cluster) = Database::on_own_cluster(Durability::Full).await;
    let server = Server::over(database.clone(), |_| {}).await;
    let ended = doctor(server.address, database.url()).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Postgres is small in tests.
    assert_eq!(faults(&ended), ["WARN shared_buffers"], "{ended:?}");
    for check in ["fsync", "schema", "history", "servers", "standbys", "transactions", "health", "version", "namespace"]
    {
        assert!(ended.stdout.contains(&format!("\"check\":\"{check}\"")), "{check}: {ended:?}");
    }

    let people = run(server.address, &["doctor", "--database-url", database.url()]).await;
    assert_eq!((people.code, &*people.stderr), (Some(0), ""));
    assert!(people.stdout.contains("WARN  database  shared_buffers"), "{}", people.stdout);
    assert!(people.stdout.contains("→ 128MB at least"), "{}", people.stdout);
    assert!(people.stdout.ends_with("in order, 1 warning, 0 failures\n"), "{}", people.stdout);

    let server_alone = run(server.address, &["doctor", "--output", "json"]).await;
    assert_eq!(server_alone.code, Some(0), "{server_alone:?}");
    assert!(!server_alone.stdout.contains("\"database\""), "{server_alone:?}");
}

#[tokio::test]
async fn doctor_finds_each_bad_setting() {
    // Without fsync and full page writes.
    let (database, _cluster) = Database::on_own_cluster(Durability::None).await;
    let client = sql(database.url()).await;
    for setting in [
        "synchronous_commit = off",
        "default_transaction_isolation = 'repeatable read'",
        "statement_timeout = '5s'",
        "idle_session_timeout = '1h'",
    ] {
        // Not for the cluster: it is this database that is looked at.
        let alter = format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {}', current_database()); END $$", {
            setting.replace('\'', "''")
        });
        client.batch_execute(&alter).await.expect("the owner may");
    }
    for setting in ["autovacuum = off", "synchronous_standby_names = 'nobody'"] {
        client.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.expect("a superuser may");
    }
    client.batch_execute("DROP TABLE servers").await.expect("the owner may");
    client.batch_execute("SELECT pg_reload_conf()").await.expect("a superuser may");
    let expected = [
        "WARN schema",
        "FAIL fsync",
        "FAIL full_page_writes",
        "FAIL synchronous_commit",
        "FAIL autovacuum",
        "WARN default_transaction_isolation",
        "WARN shared_buffers",
        "WARN statement_timeout",
        "WARN idle_session_timeout",
        "FAIL standbys",
        "FAIL reachable",
    ];
    // Postgres reads its settings again a moment later.
    let address = nowhere();
    eventually("all of them", async || {
        let ended = doctor(address, database.url()).await;
        assert_eq!(ended.code, Some(1));
        (faults(&ended) == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn doctor_advises_on_an_old_empty_or_read_only_database() {
    let (database, cluster) = Database::empty().await;
    let ended = doctor(nowhere(), database.url()).await;
    assert!(faults(&ended).contains(&"WARN schema".to_owned()), "{ended:?}");
    assert!(ended.stdout.contains("`interlock migrate`"), "{ended:?}");
    drop((database, cluster));

    let database = Database::fresh().await;
    let client = sql(database.url()).await;
    client
        .batch_execute("UPDATE refinery_schema_history SET version = version + 1000 WHERE version > 5")
        .await
        .expect("rows");
    let ended = doctor(nowhere(), database.url()).await;
    assert!(faults(&ended).contains(&"FAIL schema".to_owned()), "{ended:?}");
    client.batch_execute("DELETE FROM refinery_schema_history WHERE version > 5").await.expect("rows");
    let ended = doctor(nowhere(), database.url()).await;
    assert!(faults(&ended).contains(&"WARN schema".to_owned()), "{ended:?}");

    let alter = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$";
    client.batch_execute(alter).await.expect("the owner may");
    let ended = doctor(nowhere(), database.url()).await;
    assert_eq!(faults(&ended), ["FAIL reachable", "FAIL reachable"], "{ended:?}");
    assert!(ended.stdout.contains("takes no writes"), "{ended:?}");
}

#[tokio::test]
async fn doctor_finds_a_pooler_that_shares_sessions() {
    let database = Database::fresh().await;
    let pooler = Pooler::bouncer(&database, "transaction").await;
    let ended = eventually("the pooler", async || {
        Some(doctor(nowhere(), &pooler.url).await).filter(|ended| ended.stdout.contains("pooler"))
    })
    .await;
    assert_eq!(faults(&ended)[0], "FAIL reachable");
    assert!(ended.stdout.contains("set the pooler to session mode"), "{ended:?}");
}

#[tokio::test]
async fn doctor_fails_on_absent_servers_and_shows_no_password() {
    let database = nowhere();
    for url in [
        format!("postgresql://ada:canary@{database}/interlock"),
        format!("host=127.0.0.1 port={} user=ada password=canary", database.port()),
        "postgresql://ada:canary@[::1/interlock?sslmode=nonsense&canary=canary".to_owned(),
    ] {
        let ended = doctor(nowhere(), &url).await;
        assert_eq!(ended.code, Some(1));
        assert_eq!(faults(&ended).len(), 2, "the database and the server: {ended:?}");
        assert!(!ended.stdout.contains("canary"), "{ended:?}");
    }
    let usage = run(nowhere(), &["doctor", "--server", "ftp://a"]).await;
    assert_eq!(usage.code, Some(2), "{usage:?}");
}

#[tokio::test]
async fn doctor_finds_that_the_key_is_missing() {
    let server = Server::with(|config| config.auth = Some(interlock::config::Auth::Required)).await;
    let ended = run(server.address, &["doctor", "--output", "json"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(faults(&ended), ["WARN version", "FAIL key"], "{ended:?}");
    assert!(ended.stdout.contains("INTERLOCK_API_KEY"), "{ended:?}");
    assert!(ended.stdout.contains("SERVING"), "health needs no key: {ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_checks_certificate_and_key_over_tls() {
    let files = std::env::temp_dir().join(format!("interlock-doctor-{}", unique()));
    std::fs::create_dir(&files).expect("a directory");
    let authority = AuthorityFiles::new(&files, "authority");
    let own = authority.issue("server", &["localhost"]);
    let database = Database::fresh().await;
    let create =
        ["key", "create", "--label", "a", "--role", "work", "--namespaces", "*", "--database-url", database.url()];
    let printed = run(nowhere(), &create).await.ok();
    let key = printed.lines().last().expect("a token").trim();
    let server = Server::over(database, |config| {
        config.auth = Some(interlock::config::Auth::Required);
        config.tls_cert = Some(own.certificate.clone());
        config.tls_key = Some(own.key.clone());
    })
    .await;
    let (url, ca) = (format!("https://localhost:{}", server.address.port()), authority.file.to_str().expect("UTF-8"));
    let look = async |flags: &[&str]| {
        let ended = run(server.address, &[&["doctor", "--output", "json", "--server", &url], flags].concat()).await;
        assert!(!ended.stdout.contains(&key[12..]), "the secret is not shown: {ended:?}");
        ended
    };
    let good = look(&["--ca", ca, "--key", key]).await;
    assert_eq!((good.code, faults(&good)), (Some(0), Vec::new()), "{good:?}");
    for printed in ["for localhost: valid for", "key accepted; roles: read, work\"", "\"encryption\",\"what\":\"TLS\""]
    {
        assert!(good.stdout.contains(printed), "{printed}: {good:?}");
    }

    let stranger = look(&["--key", key]).await;
    assert_eq!((stranger.code, faults(&stranger)), (Some(1), vec!["FAIL reachable".to_owned()]), "{stranger:?}");
    assert!(stranger.stdout.contains("for localhost: valid for"), "it is shown nevertheless: {stranger:?}");

    let wrong = format!("{}{}", &key[..key.len() - 6], "AAAAAA");
    let wrong = look(&["--ca", ca, "--key", &wrong]).await;
    assert_eq!(
        (wrong.code, faults(&wrong)),
        (Some(1), vec!["WARN version".to_owned(), "FAIL key".to_owned()]),
        "{wrong:?}"
    );
    let elsewhere = look(&["--ca", ca, "--key", key, "--namespace", "elsewhere"]).await;
    assert_eq!(faults(&elsewhere), ["FAIL namespace"], "{elsewhere:?}");
    std::fs::remove_dir_all(files).expect("our own");
}
