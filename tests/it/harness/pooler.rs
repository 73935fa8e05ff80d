//! Connection poolers between the server and Postgres, as Debian has them.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::config::Host;

use super::{Database, eventually};

/// Decides the name of the socket only.
const PORT: u16 = 6432;
/// Connections that a pooler has: more than a server of a test uses.
const CONNECTIONS: usize = 40;

/// A pooler before a database; it ends with the test.
pub struct Pooler {
    /// The database through it.
    pub url: String,
    command: Command,
    child: Child,
    /// What ends it at once, whoever is connected.
    signal: Signal,
    directory: PathBuf,
}

impl Pooler {
    /// PgBouncer in one of its modes.
    pub async fn bouncer(database: &Database, mode: &str) -> Pooler {
        let settings = |directory: &Path, postgres: &Path, user: &str| {
            std::fs::write(directory.join("users"), format!("\"{user}\" \"\"\n")).expect("a file");
            format!(
                "[databases]\n* = host={postgres} port=5432\n[pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\n\
                 unix_socket_dir = {directory}\nauth_type = trust\nauth_file = {directory}/users\npool_mode = {mode}\n\
                 default_pool_size = {CONNECTIONS}\n",
                postgres = postgres.display(),
                directory = directory.display(),
            )
        };
        // Started from a background job it would ignore SIGQUIT, and SIGTERM waits for clients in newer versions.
        Pooler::start(database, "/usr/sbin/pgbouncer", &["-q"], Signal::KILL, settings).await
    }

    /// Pgpool-II in one of its modes.
    pub async fn pgpool(database: &Database, mode: &str) -> Pooler {
        let settings = |directory: &Path, postgres: &Path, _: &str| {
            format!(
                "backend_clustering_mode = '{mode}'\nlisten_addresses = ''\nport = {PORT}\nsocket_dir = '{directory}'\n\
                 pcp_listen_addresses = ''\npcp_socket_dir = '{directory}'\nbackend_hostname0 = '{postgres}'\n\
                 backend_port0 = 5432\nbackend_weight0 = 1\nnum_init_children = {CONNECTIONS}\nmax_pool = 1\n\
                 pid_file_name = '{directory}/pid'\nwork_dir = '{directory}'\nlogdir = '{directory}'\n\
                 enable_pool_hba = off\npool_passwd = ''\nload_balance_mode = off\nsr_check_period = 0\n",
                postgres = postgres.display(),
                directory = directory.display(),
            )
        };
        Pooler::start(database, "/usr/sbin/pgpool", &["-n", "-f"], Signal::QUIT, settings).await
    }

    async fn start(
        database: &Database,
        program: &str,
        flags: &[&str],
        signal: Signal,
        settings: impl Fn(&Path, &Path, &str) -> String,
    ) -> Pooler {
        let config: tokio_postgres::Config = database.url().parse().expect("a URL");
        let [Host::Unix(postgres)] = config.get_hosts() else { panic!("a unix socket: {:?}", config.get_hosts()) };
        let (user, name) = (config.get_user().expect("a user"), config.get_dbname().expect("a database"));
        let directory = std::env::temp_dir().join(format!("interlock-pooler-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&directory).expect("a directory");
        let file = directory.join("settings");
        std::fs::write(&file, settings(&directory, postgres, user)).expect("a file");
        let log = std::fs::File::create(directory.join("log")).expect("a file");
        let mut command = Command::new(program);
        command.args(flags).arg(&file).stdout(Stdio::null()).stderr(log);
        // Neither runs as root, and Postgres' socket is its user's.
        let owner = std::fs::metadata(postgres).expect("the directory of the socket");
        if rustix::process::geteuid().is_root() {
            use std::os::unix::fs::MetadataExt;
            let (uid, gid) = (owner.uid(), owner.gid());
            chown(&directory, Some(uid), Some(gid)).expect("root may");
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{program}, which `make deps` installs: {error}"));
        let socket = directory.to_str().expect("UTF-8").replace('/', "%2F");
        let url = format!("postgres://{user}@{socket}:{PORT}/{name}");
        let pooler = Pooler { url, command, child, signal, directory };
        pooler.answers().await;
        pooler
    }

    /// Starts PgBouncer again, in another mode.
    pub async fn set_mode(&mut self, mode: &str) {
        self.end();
        let file = self.directory.join("settings");
        let settings = std::fs::read_to_string(&file).expect("a file");
        let settings = settings.lines().map(|line| match line.starts_with("pool_mode") {
            true => format!("pool_mode = {mode}\n"),
            false => format!("{line}\n"),
        });
        std::fs::write(&file, settings.collect::<String>()).expect("a file");
        self.child = self.command.spawn().expect("as before");
        self.answers().await;
    }

    async fn answers(&self) {
        eventually("a pooler that answers", async || {
            let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.ok()?;
            tokio::spawn(connection);
            client.simple_query("SELECT 1").await.ok().map(drop)
        })
        .await;
    }

    /// Ends it with all its connections, and waits until it is gone.
    fn end(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        // It may have ended by itself.
        let _gone = kill_process(pid, self.signal);
        self.child.wait().expect("its status");
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
        // What is left is in the directory for temporary files.
        let _left = std::fs::remove_dir_all(&self.directory);
    }
}
