//! PEM files that the settings name.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Maximum number of bytes read from a file: chains and bundles of authorities are far smaller.
const MAX_BYTES: u64 = 4 << 20;

/// Paths of the PEM files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

/// Contents of the PEM files.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pem {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    pub client_ca: Option<Vec<u8>>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl Files {
    pub(super) fn read(&self) -> anyhow::Result<Pem> {
        let client_ca = self.client_ca.as_deref().map(|path| read("--tls-client-ca", path)).transpose()?;
        Ok(Pem { certificate: read("--tls-cert", &self.certificate)?, key: read("--tls-key", &self.key)?, client_ca })
    }
}

fn read(flag: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    let named = || format!("{flag}: {} cannot be read", path.display());
    let mut content = Vec::new();
    let length = File::open(path).with_context(named)?.take(MAX_BYTES + 1).read_to_end(&mut content);
    let length = length.with_context(named)?;
    anyhow::ensure!(length as u64 <= MAX_BYTES, "{flag}: {} has more than 4 MiB", path.display());
    Ok(content)
}
