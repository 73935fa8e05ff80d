//! Directories and programs of this machine, from the environment of the user.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The environment as far as `interlock dev` and the tests need it.
#[derive(Debug, Clone)]
pub struct Host {
    /// `INTERLOCK_POSTGRES_BIN`: the directory of the Postgres binaries.
    pub postgres_bin: Option<PathBuf>,
    /// The `PATH` variable, to find the Postgres binaries.
    pub search_path: Option<OsString>,
    /// The directory for temporary files.
    pub temporary_dir: PathBuf,
    is_root: bool,
    home: Option<PathBuf>,
    xdg_data_home: Option<PathBuf>,
    xdg_cache_home: Option<PathBuf>,
}

impl Host {
    /// Reads the environment of this process.
    pub fn from_environment() -> Host {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let directory = |name| {
            path(name)
                .map(PathBuf::from)
                // By the XDG specification applications ignore relative paths.
                .filter(|path| path.is_absolute())
        };
        Host {
            postgres_bin: path("INTERLOCK_POSTGRES_BIN").map(PathBuf::from),
            search_path: path("PATH"),
            temporary_dir: std::env::temp_dir(),
            is_root: rustix::process::geteuid().is_root(),
            home: directory("HOME"),
            xdg_data_home: directory("XDG_DATA_HOME"),
            xdg_cache_home: directory("XDG_CACHE_HOME"),
        }
    }

    /// Default data directory of `interlock dev`: a system directory for root, because Postgres then runs as a user
    /// who cannot enter root's home; else among the user's own data. `None` without a home.
    pub fn data_dir(&self) -> Option<PathBuf> {
        if self.is_root {
            return Some(PathBuf::from("/var/lib/interlock/data"));
        }
        let below_home = |home: &PathBuf| home.join(".local/share");
        let base = self.xdg_data_home.clone().or_else(|| self.home.as_ref().map(below_home))?;
        Some(base.join("interlock"))
    }

    /// Directory of the certificate authority of `interlock dev --tls`: beside the data, since the user of Postgres need not read it. None: there
    /// is no home directory.
    pub fn authority_dir(&self) -> Option<PathBuf> {
        self.data_dir().map(|data| data.with_file_name("interlock-tls"))
    }

    /// Directory for data that can be made again.
    pub fn cache_dir(&self) -> PathBuf {
        if self.is_root {
            return PathBuf::from("/var/lib/interlock/cache");
        }
        let below_home = |home: &PathBuf| home.join(".cache");
        let base = self.xdg_cache_home.clone().or_else(|| self.home.as_ref().map(below_home));
        base.as_deref().unwrap_or(Path::new(&self.temporary_dir)).join("interlock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            postgres_bin: None,
            search_path: None,
            temporary_dir: "/tmp".into(),
            is_root: false,
            home: Some("/home/ada".into()),
            xdg_data_home: None,
            xdg_cache_home: None,
        }
    }

    #[test]
    fn data_goes_where_its_user_can_reach_it() {
        let user = host();
        assert_eq!(user.data_dir(), Some("/home/ada/.local/share/interlock".into()));
        let elsewhere = Host { xdg_data_home: Some("/data".into()), ..host() };
        assert_eq!(elsewhere.data_dir(), Some("/data/interlock".into()));
        let root = Host { is_root: true, ..host() };
        assert_eq!(root.data_dir(), Some("/var/lib/interlock/data".into()));
        assert_eq!(user.authority_dir(), Some("/home/ada/.local/share/interlock-tls".into()));
        assert_eq!(root.authority_dir(), Some("/var/lib/interlock/interlock-tls".into()));
        let homeless = Host { home: None, ..host() };
        assert_eq!(homeless.data_dir(), None);
    }
}
