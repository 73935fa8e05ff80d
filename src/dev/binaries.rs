//! Finds the installed Postgres binaries.
//!
//! Order: the directory that was named; the installed version that wrote the data; the highest below
//! `/usr/lib/postgresql`; `PATH`. A named directory is never silently replaced by another.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::DevError;

/// Where Debian and Ubuntu keep one directory per major version.
const VERSIONED: &str = "/usr/lib/postgresql";

/// A directory with `postgres` and `initdb`, and what version they are.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    directory: PathBuf,
    /// Major version, such as 15.
    pub(super) major: u32,
    /// The whole version text; two builds with the same text can share a template.
    pub(super) version: String,
}

impl Binaries {
    /// Finds binaries, preferring `wanted_major` (the version that wrote the data) where several are installed.
    pub(super) fn find(
        named: Option<&Path>,
        search_path: Option<&OsStr>,
        wanted_major: Option<u32>,
    ) -> Result<Binaries, DevError> {
        let directory = match named {
            Some(directory) => Some(directory.to_path_buf()).filter(|path| is_complete(path)),
            None => versioned(Path::new(VERSIONED), wanted_major)
                .or_else(|| std::env::split_paths(search_path?).find(|path| is_complete(path))),
        };
        let directory = directory.ok_or_else(|| DevError::NoBinaries { looked_in: named.map(Path::to_path_buf) })?;
        let version = read_version(&directory.join("postgres"))?;
        let major = parse_major(&version).ok_or_else(|| DevError::NoBinaries { looked_in: Some(directory.clone()) })?;
        Ok(Binaries { directory, major, version })
    }

    /// The path of one program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// The best `bin` directory below `root`: the wanted version, else the highest.
fn versioned(root: &Path, wanted_major: Option<u32>) -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(root)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .filter(|(_, path)| is_complete(path))
        .collect();
    found.sort_unstable();
    let wanted = found.iter().position(|(major, _)| Some(*major) == wanted_major);
    match wanted {
        Some(index) => Some(found.swap_remove(index).1),
        None => found.pop().map(|(_, path)| path),
    }
}

/// A client-only installation has `psql` but cannot run a server.
fn is_complete(directory: &Path) -> bool {
    ["postgres", "initdb"].iter().all(|name| directory.join(name).is_file())
}

fn read_version(postgres: &Path) -> Result<String, DevError> {
    let output = Command::new(postgres)
        .arg("--version")
        .output()
        .map_err(DevError::system(format!("run {}", postgres.display())))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `postgres (PostgreSQL) 15.4 (Debian …)` is 15, and so is `15beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let digits = number.find(|character: char| !character.is_ascii_digit()).unwrap_or(number.len());
    number.get(..digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_is_read_from_releases_and_betas() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.4 (Debian 15.4-1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("nonsense"), None);
    }

    #[test]
    fn a_named_directory_without_binaries_is_an_error_with_the_install_line() {
        let empty = Path::new("/nonexistent");
        let error = Binaries::find(Some(empty), None, None).expect_err("there are none");
        let message = error.to_string();
        assert!(message.contains("/nonexistent"), "{message}");
        assert!(message.contains("apt-get install postgresql"), "{message}");
    }
}
