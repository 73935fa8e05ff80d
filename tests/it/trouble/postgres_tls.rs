//! TLS to Postgres: a connection is as safe as its URL asks for, or there is none; and everything works over it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use interlock::app;
use interlock::dev::{Durability, TestCluster};
use interlock::proto;

use super::load::Load;
use crate::harness::*;

/// The password of the database's owner; it must show nowhere.
const PASSWORD: &str = "canary-of-the-database";

/// Who may connect, over TCP: the owner with TLS and a password, `certified` with TLS and a certificate, `plain` without TLS.
const RULES: &str = "local all all trust\nhostssl all interlock 127.0.0.0/8 scram-sha-256\n\
    hostssl all certified 127.0.0.0/8 cert\nhostnossl all plain 127.0.0.0/8 trust\n";

/// A Postgres that has TLS, and the client's files.
struct Encrypted {
    cluster: TestCluster,
    database: Database,
    /// Loopback has sixteen million addresses: one of its own lets Postgres keep its usual port.
    address: String,
    files: PathBuf,
}

impl Encrypted {
    async fn start() -> Encrypted {
        let [a, b, c] = rand::random::<[u8; 3]>();
        let address = format!("127.{a}.{b}.{}", c.clamp(2, 254));
        let cluster = TestCluster::own_with(Durability::None, &[("listen_addresses", &address)]).await;
        let cluster = cluster.expect("a Postgres");
        let database = Database::fresh_in(&cluster).await;
        let authority = Authority::new("root");
        let admin = sql(&cluster.postgres().database_url()).await;
        let data: String = admin.query_one("SHOW data_directory", &[]).await.expect("a setting").get(0);
        let (certificate, key) = authority.sign("localhost", &["localhost"]);
        for (name, content) in [("server.crt", &certificate), ("server.key", &key), ("root.crt", &authority.pem)] {
            put_for_postgres(&Path::new(&data).join(name), content);
        }
        fs::write(Path::new(&data).join("pg_hba.conf"), RULES).expect("a file");
        let settings = ["ALTER SYSTEM SET ssl = on", "ALTER SYSTEM SET ssl_ca_file = 'root.crt'"];
        let roles = [
            &format!("ALTER ROLE interlock PASSWORD '{PASSWORD}'"),
            "CREATE ROLE certified LOGIN SUPERUSER",
            "CREATE ROLE plain LOGIN SUPERUSER",
        ];
        for statement in settings.into_iter().chain(roles).chain(["SELECT pg_reload_conf()"]) {
            admin.batch_execute(statement).await.expect("a superuser");
        }
        let files = std::env::temp_dir().join(format!("interlock-pgtls-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&files).expect("a directory");
        let (certificate, key) = authority.sign("certified", &["ignored"]);
        let other = Authority::new("other").pem;
        for (name, content) in
            [("root.pem", &authority.pem), ("other.pem", &other), ("cert.pem", &certificate), ("key.pem", &key)]
        {
            fs::write(files.join(name), content).expect("a file");
        }
        let encrypted = Encrypted { cluster, database, address, files };
        eventually("Postgres has read its settings", async || encrypted.connects(OWNER, "sslmode=require").await.ok())
            .await;
        encrypted
    }

    /// The URL of the test's database. In `query` a file stands as `@name`.
    fn url(&self, who: &str, query: &str) -> String {
        let config: tokio_postgres::Config = self.database.url().parse().expect("a URL");
        let (name, address) = (config.get_dbname().expect("a name"), &self.address);
        let query = query.replace('@', &format!("{}/", self.files.display()));
        format!("postgres://{who}/{name}?hostaddr={address}&{query}")
    }

    /// Connects, proves the sessions and looks at the schema. Returns what is said if that fails.
    async fn connects(&self, who: &str, query: &str) -> Result<(), String> {
        app::migrate(&self.url(who, query)).await.map(drop).map_err(|error| format!("{error:#}"))
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        // What is left is in the directory for temporary files.
        let _left = fs::remove_dir_all(&self.files);
    }
}

/// Postgres reads a key only if no other user can read it.
fn put_for_postgres(path: &Path, content: &str) {
    fs::write(path, content).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("our own file");
    let owner = fs::metadata(path.parent().expect("a directory")).expect("it is there");
    chown(path, Some(owner.uid()), Some(owner.gid())).expect("root may, and others are the owner");
}

const OWNER: &str = "interlock:canary-of-the-database@localhost";
const ELSEWHERE: &str = "interlock:canary-of-the-database@elsewhere.example";

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_as_safe_as_its_url_asks_for() {
    let postgres = Encrypted::start().await;
    for (who, query) in [
        (OWNER, "sslmode=prefer"),
        (OWNER, "keepalives=1"),
        (OWNER, "sslmode=require&channel_binding=require"),
        (OWNER, "sslmode=require&sslrootcert=@root.pem"),
        (OWNER, "sslmode=verify-full&sslrootcert=@root.pem&channel_binding=require"),
        (ELSEWHERE, "sslmode=verify-ca&sslrootcert=@root.pem"),
        (ELSEWHERE, "sslmode=require"),
        ("certified@localhost", "sslmode=verify-full&sslrootcert=@root.pem&sslcert=@cert.pem&sslkey=@key.pem"),
        // Postgres takes it without TLS alone: what is preferred is not insisted on.
        ("plain@localhost", "sslmode=prefer"),
        ("plain@localhost", "sslmode=disable"),
    ] {
        assert_eq!(postgres.connects(who, query).await, Ok(()), "{who} {query}");
    }
    for (who, query, said) in [
        (OWNER, "sslmode=disable", "no encryption"),
        (OWNER, "sslmode=require&sslrootcert=@other.pem", "is not signed by an authority of sslrootcert"),
        (OWNER, "sslmode=prefer&sslrootcert=@other.pem", "is not signed by an authority of sslrootcert"),
        (OWNER, "sslmode=verify-full&sslrootcert=@other.pem", "is not signed by an authority of sslrootcert"),
        (OWNER, "sslrootcert=system", "is not signed by an authority of sslrootcert"),
        (ELSEWHERE, "sslmode=verify-full&sslrootcert=@root.pem", "names another host"),
        ("certified@localhost", "sslmode=require", "valid client certificate"),
        ("plain@localhost", "sslmode=require", "no pg_hba.conf entry"),
        (OWNER, "sslmode=verify-full", "sslrootcert: is missing"),
        (OWNER, "sslmode=verify-full&sslrootcert=@none.pem", "none.pem cannot be read"),
    ] {
        let error = postgres.connects(who, query).await.expect_err(query);
        assert!(error.contains(said), "{who} {query}: {error}");
        assert!(!error.contains(PASSWORD), "{error}");
    }
    postgres.cluster.postgres().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_tls_is_refused_where_it_is_required() {
    let postgres = Encrypted::start().await;
    let admin = sql(postgres.database.url()).await;
    for statement in ["ALTER SYSTEM SET ssl = off", "SELECT pg_reload_conf()"] {
        admin.batch_execute(statement).await.expect("a superuser");
    }
    let said = eventually("TLS is off", async || {
        postgres.connects("plain@localhost", "sslmode=require").await.err().filter(|said| said.contains("TLS"))
    })
    .await;
    assert!(said.contains("server does not support TLS (set ssl = on in postgresql.conf"), "{said}");
    assert_eq!(postgres.connects("plain@localhost", "sslmode=prefer").await, Ok(()));
    // Unix sockets have no TLS, and need none.
    let url = format!("{}?sslmode=require", postgres.database.url());
    assert_eq!(app::migrate(&url).await.map_err(|error| format!("{error:#}")), Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_over_tls_and_every_session_is_encrypted() {
    let postgres = Encrypted::start().await;
    let url = postgres.url(OWNER, "sslmode=verify-full&sslrootcert=@root.pem");
    let server = Server::through(postgres.database.clone(), &url, |_| {}).await;
    let other = Server::through(postgres.database.clone(), &url, |_| {}).await;
    let load = Load::start(&server.api, 8).await;
    let stage = proto::StageSpec { queue: "watched".to_owned(), ..new_stage("s") };
    server.api.submit(new_job("watched", vec![stage])).await;
    let watch = Watch::begin(&server.api, "watched", 0).await.expect("a watch");
    let lease = other.api.lease("watched").await;
    other.api.complete(&lease, serde_json::json!({})).await;
    let received = watch.rest().await;
    assert!(received.len() >= 2, "{received:?}");
    let admin = sql(postgres.database.url()).await;
    let sessions = "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) \
        WHERE datname = current_database() AND client_addr IS NOT NULL";
    let row = admin.query_one(sessions, &[]).await.expect("a query");
    let (all, encrypted): (i64, i64) = (row.get(0), row.get(1));
    assert!(all > 4, "two servers have more than {all} sessions");
    assert_eq!(all, encrypted);
    let received = load.end("over TLS").await;
    assert!(received.errors.is_empty(), "{:?}", received.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_read_is_cancelled_over_tls() {
    let postgres = Encrypted::start().await;
    let url = postgres.url(OWNER, "sslmode=require");
    let server = Server::through(postgres.database.clone(), &url, |_| {}).await;
    let holder = sql(postgres.database.url()).await;
    holder.batch_execute("BEGIN; LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE").await.expect("a superuser");
    let admin = sql(postgres.database.url()).await;
    let waiting = async || {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND client_addr IS NOT NULL AND wait_event_type = 'Lock' AND query LIKE '-- list_jobs%'";
        admin.query_one(query, &[]).await.expect("a query").get::<_, i64>(0)
    };
    let api = server.api.clone();
    let call = tokio::spawn(async move { api.jobs().list_jobs(proto::ListJobsRequest::default()).await });
    eventually("a read that waits", async || (waiting().await == 1).then_some(())).await;
    call.abort();
    eventually("a read that was cancelled", async || (waiting().await == 0).then_some(())).await;
    holder.batch_execute("COMMIT").await.expect("it holds the table still");
}
