//! Starts, stops, kills and restarts the private Postgres.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

use super::home::{Home, PORT, USER};
use super::process::Process;
use super::{DevError, Durability, PostgresOptions, database};

/// How long a start may take. Recovery after a crash is the slow case, and it says that it is under way.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// How long a fast shutdown may take: it writes a checkpoint.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long the killed may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Maximum wait for the shutdown of an earlier Postgres whose launcher was killed.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks whether Postgres is ready.
const POLL: Duration = Duration::from_millis(4);

/// A Postgres of our own. Dropping it stops it, and removes it when it is ephemeral; [`Postgres::stop`] does so without
/// blocking a thread.
#[derive(Debug)]
pub struct Postgres {
    // Before `home`, so that the process is gone when the directory is removed and the lock is released.
    process: Mutex<Process>,
    home: Home,
    durability: Durability,
    settings: Vec<(String, String)>,
}

impl Postgres {
    /// Finds binaries, takes the data directory, initialises it when it is new, starts the server and waits until it
    /// answers.
    ///
    /// # Errors
    /// See [`DevError`]; the message says what to do.
    pub async fn start(options: PostgresOptions) -> Result<Postgres, DevError> {
        let PostgresOptions { durability, settings, .. } = options.clone();
        let (home, process) = blocking(move || {
            let home = Home::open(&options)?;
            wait_for_predecessor(&home)?;
            let process = spawn(&home, options.durability, &options.settings)?;
            Ok((home, process))
        })
        .await?;
        let postgres = Postgres { process: Mutex::new(process), home, durability, settings };
        postgres.wait_ready().await?;
        postgres.sync_in_background();
        Ok(postgres)
    }

    /// The connection URL of the main database, for this server, `psql` and others alike.
    pub fn database_url(&self) -> String {
        self.database_url_of(USER)
    }

    /// The connection URL of another database.
    pub fn database_url_of(&self, database: &str) -> String {
        database::socket_url(USER, self.home.socket_directory(), PORT, database)
    }

    /// The same as a driver configuration.
    pub fn config(&self) -> Config {
        self.config_of(USER)
    }

    pub(super) fn config_of(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(self.home.socket_directory())
            .port(PORT)
            .user(USER)
            .dbname(database)
            .application_name("interlock dev");
        config
    }

    /// Where the data is.
    pub fn data_dir(&self) -> &Path {
        self.home.directory()
    }

    /// Path of the log of Postgres.
    pub fn log(&self) -> std::path::PathBuf {
        self.home.log()
    }

    /// The version text of the server.
    pub fn version(&self) -> &str {
        &self.home.binaries.version
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<i32> {
        let pid = self.with_process(Process::pid)?;
        Some(pid.as_raw_nonzero().get())
    }

    /// Stops it in good order: open transactions are rolled back, a checkpoint is written. Harmless when it has ended.
    pub async fn stop(&self) {
        self.end_with(Signal::INT, STOP_LIMIT).await;
    }

    /// Stops it at once, without a checkpoint; the next start recovers. The backends get to say goodbye.
    pub async fn stop_immediately(&self) {
        self.end_with(Signal::QUIT, KILL_LIMIT).await;
    }

    /// Kills every process of it with SIGKILL, as a crash would.
    pub async fn kill(&self) {
        self.with_process(Process::kill_tree);
        self.wait_ended(KILL_LIMIT).await;
    }

    /// Starts it again in the same place after [`stop`](Self::stop) or [`kill`](Self::kill), and waits until it answers.
    ///
    /// # Errors
    /// As for [`Postgres::start`]; [`DevError::InUse`] when it still runs.
    pub async fn start_again(&self) -> Result<(), DevError> {
        if self.with_process(Process::status).is_none() {
            return Err(DevError::InUse {
                directory: self.home.directory().to_path_buf(),
                by: "the Postgres that was to be started again".to_owned(),
            });
        }
        // Children of a killed server hold on to its shared memory until they have noticed; Postgres then refuses to
        // start, and says so at once.
        let give_up = Instant::now() + KILL_LIMIT;
        loop {
            let process = spawn(&self.home, self.durability, &self.settings)?;
            *self.process.lock() = process;
            match self.wait_ready().await {
                Err(DevError::Program { output, .. })
                    if output.contains("still in use") && Instant::now() < give_up =>
                {
                    tokio::time::sleep(POLL).await;
                }
                other => return other,
            }
        }
    }

    pub(super) fn with_process<T>(&self, look: impl FnOnce(&Process) -> T) -> T {
        look(&self.process.lock())
    }

    async fn end_with(&self, signal: Signal, limit: Duration) {
        self.with_process(|process| process.signal(signal));
        if !self.wait_ended(limit).await {
            tracing::warn!("Postgres did not stop in time and is killed");
            self.kill().await;
        }
    }

    async fn wait_ended(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.with_process(Process::status).is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }

    /// Connects until it works, the server ends or the time is over; then makes sure of the main database.
    async fn wait_ready(&self) -> Result<(), DevError> {
        let deadline = Instant::now() + READY_LIMIT;
        let config = self.config_of("postgres");
        loop {
            let error = match database::connect(&config).await {
                Ok(client) => return database::ensure_database(&client, USER).await,
                Err(error) => error,
            };
            if let Some(status) = self.with_process(Process::status) {
                return Err(DevError::Program { program: "postgres", status, output: tail(&self.home.log()) });
            }
            let may_pass = error.code().is_none() || error.code() == Some(&SqlState::CANNOT_CONNECT_NOW);
            if !may_pass {
                return Err(error.into());
            }
            if Instant::now() >= deadline {
                return Err(DevError::NotReady { seconds: READY_LIMIT.as_secs(), last: database::error_text(&error) });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// `initdb` leaves its files to the page cache, which makes the first start fast; a durable cluster gets them synced
    /// now, while it is already in use. Postgres itself syncs only what it changes.
    fn sync_in_background(&self) {
        if !self.home.is_fresh || self.durability == Durability::None {
            return;
        }
        let mut command = self.home.command("initdb");
        command.args(["--sync-only", "--pgdata"]).arg(self.home.cluster());
        std::thread::spawn(move || {
            if let Err(error) = super::home::run("initdb", &mut command) {
                tracing::warn!(%error, "the new cluster could not be synced to disk");
            }
        });
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let process = self.process.get_mut();
        if process.status().is_some() {
            return;
        }
        let (signal, limit) = match self.durability {
            Durability::Full => (Signal::INT, STOP_LIMIT),
            // Nothing of it will be read again.
            Durability::None => (Signal::QUIT, KILL_LIMIT),
        };
        process.signal(signal);
        if process.wait_blocking(limit).is_none() {
            process.kill_tree();
            process.wait_blocking(KILL_LIMIT);
        }
    }
}

/// Runs blocking work beside the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DevError> + Send + 'static,
) -> Result<T, DevError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)
        .map_err(DevError::system("prepare the data directory"))?
}

fn spawn(home: &Home, durability: Durability, settings: &[(String, String)]) -> Result<Process, DevError> {
    // Truncated by each start: it is there to explain why this one failed.
    let log = File::create(home.log()).map_err(DevError::system("create the Postgres log"))?;
    let error_log = log.try_clone().map_err(DevError::system("open the Postgres log"))?;
    let sockets = home.socket_directory().to_string_lossy().replace('"', "\"\"");
    let mut command = home.command("postgres");
    command.arg("-D").arg(home.cluster());
    let mut set = |name: &str, value: &str| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    set("listen_addresses", "");
    set("port", &PORT.to_string());
    // A list in Postgres's eyes, so quoted: a comma in the path is part of it.
    set("unix_socket_directories", &format!("\"{sockets}\""));
    set("unix_socket_permissions", "0700");
    set("timezone", "UTC");
    set("log_timezone", "UTC");
    set("max_connections", "200");
    set("shared_buffers", "128MB");
    match durability {
        Durability::Full => {
            set("fsync", "on");
            set("full_page_writes", "on");
            set("synchronous_commit", "on");
        }
        Durability::None => {
            set("fsync", "off");
            set("full_page_writes", "off");
        }
    }
    for (name, value) in settings {
        set(name, value);
    }
    command.stdin(std::process::Stdio::null()).stdout(log).stderr(error_log);
    Process::spawn(command).map_err(DevError::system("start Postgres"))
}

/// The lock is ours, but the Postgres of an interlock that was killed may still be writing its last checkpoint, and a
/// postmaster.pid may be left whose number belongs to another process by now, which Postgres would take for a live
/// server. A server is recognised by its working directory, which is the cluster.
fn wait_for_predecessor(home: &Home) -> Result<(), DevError> {
    let pid_file = home.cluster().join("postmaster.pid");
    let deadline = Instant::now() + PREDECESSOR_LIMIT;
    while let Ok(text) = std::fs::read_to_string(&pid_file) {
        let pid = text.lines().next().unwrap_or_default().trim().to_owned();
        let cluster = home.cluster();
        match std::fs::read_link(format!("/proc/{pid}/cwd")) {
            Ok(directory) if Some(&directory) == cluster.canonicalize().ok().as_ref() => {
                if Instant::now() >= deadline {
                    return Err(DevError::InUse {
                        directory: home.directory().to_path_buf(),
                        by: format!("Postgres process {pid}"),
                    });
                }
                std::thread::sleep(POLL);
            }
            _ if Path::new("/proc/self/cwd").exists() => {
                return std::fs::remove_file(&pid_file).map_err(DevError::system("remove a stale postmaster.pid"));
            }
            // Without /proc it is Postgres's own guess that counts.
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// The end of a log, short enough for an error message.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
