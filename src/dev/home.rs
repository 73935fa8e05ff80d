//! The data directory: who owns it, what is in it, and how it comes into being.
//!
//! Layout, all of it private to Postgres's user: `lock` (held by the owning process), `cluster` (Postgres's own data
//! directory), `socket` (the unix socket), `postgres.log`.
//!
//! Invariants: `cluster` appears by rename, so it is whole or absent; nothing below the directory is touched without
//! the lock.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use super::binaries::Binaries;
use super::identity::Identity;
use super::{DevError, PostgresOptions, Storage};

/// The superuser of the cluster and the name of its first database.
pub(super) const USER: &str = "interlock";
/// Decides the name of the socket only: nothing listens on a port.
pub(super) const PORT: u16 = 5432;
/// What the names of ephemeral directories begin with; by this the leftovers of killed processes are recognised.
const EPHEMERAL_PREFIX: &str = "interlock-ephemeral-";
/// How long the lock may take. A process that its holder forks has a share in it until it executes its program, so a lock
/// that was just released can still be held for a moment.
const LOCK_LIMIT: Duration = Duration::from_millis(500);
/// Interval of attempts to take the lock.
const LOCK_POLL: Duration = Duration::from_millis(5);
/// The room for a path in a unix socket address, its end mark included, less one to be safe everywhere.
const SOCKET_PATH_LIMIT: usize = 107;

/// A data directory that this process owns, with a cluster in it that can be started.
#[derive(Debug)]
pub(super) struct Home {
    directory: PathBuf,
    socket_directory: PathBuf,
    pub(super) identity: Identity,
    pub(super) binaries: Binaries,
    /// Whether `initdb` ran just now, without syncing what it wrote.
    pub(super) is_fresh: bool,
    is_ephemeral: bool,
    /// Holding the file open holds the lock.
    _lock: File,
}

impl Home {
    /// Takes the directory and makes sure of a cluster in it. Blocks; `initdb` takes most of a second.
    pub(super) fn open(options: &PostgresOptions) -> Result<Home, DevError> {
        let identity = Identity::choose()?;
        let (directory, cache) = match &options.storage {
            Storage::Persistent(directory) => (absolute(directory)?, None),
            Storage::Ephemeral { parent, cache } => {
                sweep(parent);
                let name = format!("{EPHEMERAL_PREFIX}{}", uuid::Uuid::new_v4().simple());
                (absolute(parent)?.join(name), Some(absolute(cache)?))
            }
        };
        identity.create_private_directory(&directory)?;
        let lock = take_lock(&directory)?;
        let written_by = major_of(&directory.join("cluster"));
        let binaries = Binaries::find(options.postgres_bin.as_deref(), options.search_path.as_deref(), written_by)?;
        if let Some(written_by) = written_by.filter(|major| *major != binaries.major) {
            return Err(DevError::OtherVersion { directory, written_by, found: binaries.major });
        }
        let home = Home {
            socket_directory: directory.join("socket"),
            directory,
            identity,
            binaries,
            is_fresh: written_by.is_none(),
            is_ephemeral: cache.is_some(),
            _lock: lock,
        };
        home.prepare(cache.as_deref(), options.search_path.as_deref())?;
        Ok(home)
    }

    /// The directory as a whole.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Postgres's own data directory.
    pub(super) fn cluster(&self) -> PathBuf {
        self.directory.join("cluster")
    }

    /// Where the socket is.
    pub(super) fn socket_directory(&self) -> &Path {
        &self.socket_directory
    }

    /// Path of the log of Postgres.
    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }

    /// One of Postgres's programs, run as its user.
    pub(super) fn command(&self, program: &str) -> Command {
        let program = self.binaries.program(program);
        self.identity.command(&program, &self.directory)
    }

    fn prepare(&self, cache: Option<&Path>, search_path: Option<&std::ffi::OsStr>) -> Result<(), DevError> {
        let socket = self.socket_directory.join(format!(".s.PGSQL.{PORT}"));
        if socket.as_os_str().len() >= SOCKET_PATH_LIMIT {
            return Err(DevError::SocketPath(socket));
        }
        self.identity.create_private_directory(&self.socket_directory)?;
        if self.is_fresh {
            match cache {
                None => self.initialise(&self.cluster())?,
                Some(cache) => {
                    let template = self.template(cache)?;
                    self.copy(&template, &self.cluster(), search_path)?;
                }
            }
        }
        Ok(())
    }

    /// Runs `initdb` beside the target and moves the result there, so that an interrupted run leaves nothing behind
    /// that looks like a cluster.
    fn initialise(&self, target: &Path) -> Result<(), DevError> {
        let parent = target.parent().unwrap_or(&self.directory);
        let unfinished = parent.join(format!("unfinished-{}", uuid::Uuid::new_v4().simple()));
        let mut command = self.command("initdb");
        command
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .arg(format!("--username={USER}"))
            .arg("--pgdata")
            .arg(&unfinished);
        run("initdb", &mut command)?;
        let moved = std::fs::rename(&unfinished, target);
        if moved.is_err() {
            // Nothing is lost by leaving it, were that to fail as well.
            let _absent = std::fs::remove_dir_all(&unfinished);
        }
        moved.map_err(DevError::system(format!("create {}", target.display())))
    }

    /// The initialised cluster that ephemeral ones are copied from, made on first use. Two processes may make it at
    /// once; the rename decides, and the loser uses the winner's.
    fn template(&self, cache: &Path) -> Result<PathBuf, DevError> {
        self.identity.create_private_directory(cache)?;
        let template = cache.join(template_name(&self.binaries.version));
        if !template.is_dir() {
            let made = self.initialise(&template);
            if !template.is_dir() {
                made?;
            }
        }
        Ok(template)
    }

    /// Copies with the system's `cp`, run as Postgres's user, so that every file gets the right owner and a file system
    /// that can share blocks does.
    fn copy(&self, from: &Path, to: &Path, search_path: Option<&std::ffi::OsStr>) -> Result<(), DevError> {
        let mut command = self.identity.command(Path::new("cp"), &self.directory);
        command.env("PATH", search_path.unwrap_or("/usr/bin:/bin".as_ref()));
        run("cp", command.arg("-Rp").arg(from).arg(to))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.is_ephemeral {
            // What cannot be removed now is swept by the next start.
            let _absent = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// Runs a program to its end and keeps what it said for the error.
pub(super) fn run(name: &'static str, command: &mut Command) -> Result<(), DevError> {
    let place = command.get_current_dir().unwrap_or(Path::new(".")).display();
    // As root this fails where Postgres's user may not enter a directory further up.
    let doing = format!("run {name} in {place} as the user who is to own the data");
    let output = command.output().map_err(DevError::system(doing))?;
    if output.status.success() {
        return Ok(());
    }
    Err(DevError::Program {
        program: name,
        status: output.status,
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn absolute(path: &Path) -> Result<PathBuf, DevError> {
    std::path::absolute(path).map_err(DevError::system(format!("use the path {}", path.display())))
}

/// The lock is the kernel's, so it ends with its holder, however that dies.
fn take_lock(directory: &Path) -> Result<File, DevError> {
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(DevError::system(format!("open {}", path.display())))?;
    let deadline = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_POLL);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(DevError::InUse { directory: directory.to_path_buf(), by: "another interlock".to_owned() });
            }
            Err(TryLockError::Error(error)) => {
                return Err(DevError::system(format!("lock {}", path.display()))(error));
            }
        }
    }
}

/// The major version that wrote a cluster; `None` when there is none.
fn major_of(cluster: &Path) -> Option<u32> {
    let version = std::fs::read_to_string(cluster.join("PG_VERSION")).ok()?;
    version.trim().parse().ok()
}

/// A file name out of a version text, so that every build has its own template.
fn template_name(version: &str) -> String {
    let name: String =
        version.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '.').collect();
    format!("template-{name}")
}

/// Removes ephemeral directories that killed processes left: those without a holder of the lock.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(EPHEMERAL_PREFIX));
        if is_ours && is_abandoned(&entry.path()) {
            // Another sweep may be at it too; what is left over is for the next one.
            let _absent = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn is_abandoned(directory: &Path) -> bool {
    match File::open(directory.join("lock")) {
        Ok(file) => file.try_lock().is_ok(),
        // Its owner may be about to create the lock.
        Err(_) => directory.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|modified| {
            SystemTime::now().duration_since(modified).is_ok_and(|age| age > Duration::from_secs(60))
        }),
    }
}
