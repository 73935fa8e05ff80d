//! TLS to Postgres: what `sslmode`, `sslrootcert`, `sslcert` and `sslkey` of a connection string mean, as libpq means it.
//!
//! Differences from libpq: nothing is read from `~/.postgresql`; a file that is named must be there; `sslmode=allow` is refused.

mod verifier;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::DbError;
use super::target_text::BadTarget;
use verifier::{Trusted, Verifier, Verify};

/// After so long the files are read again by the next connection, so that certificates can be replaced.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// The most that is read of a file: bundles of authorities are far smaller.
const MAX_BYTES: u64 = 4 << 20;

/// The parameters of TLS in a connection string. None: not given.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub sslmode: Option<String>,
    pub sslrootcert: Option<String>,
    pub sslcert: Option<String>,
    pub sslkey: Option<String>,
}

/// Where the value of a parameter goes.
pub(super) struct Place<'a> {
    pub name: &'static str,
    pub value: &'a mut Option<String>,
}

impl Parameters {
    /// The place of a parameter. None: it is none of TLS.
    pub(super) fn place(&mut self, name: &str) -> Option<Place<'_>> {
        let (name, value) = match name {
            "sslmode" => ("sslmode", &mut self.sslmode),
            "sslrootcert" => ("sslrootcert", &mut self.sslrootcert),
            "sslcert" => ("sslcert", &mut self.sslcert),
            "sslkey" => ("sslkey", &mut self.sslkey),
            _ => return None,
        };
        Some(Place { name, value })
    }
}

/// The authorities that may have signed the certificate of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Roots {
    None,
    /// Those that this machine trusts.
    System,
    File(PathBuf),
}

/// What the parameters mean.
#[derive(Debug)]
struct Settings {
    mode: SslMode,
    verify: Verify,
    roots: Roots,
    /// The client's certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

/// How connections are encrypted.
pub(super) struct Tls {
    settings: Settings,
    made: Mutex<Made>,
}

struct Made {
    connector: MakeRustlsConnect,
    at: Instant,
}

impl Tls {
    /// Reads parameters and the files they name.
    ///
    /// # Errors
    /// When a value is unknown, does not go with another, or names a file that cannot be used.
    pub(super) fn new(parameters: Parameters) -> Result<Self, BadTarget> {
        let settings = Settings::of(parameters)?;
        let made = Mutex::new(Made { connector: settings.connector()?, at: Instant::now() });
        Ok(Self { settings, made })
    }

    /// What the driver is told: whether TLS is used at all.
    pub(super) fn mode(&self) -> SslMode {
        self.settings.mode
    }

    /// What encrypts the next connection. Files that cannot be read again are logged, and what they held before goes on.
    pub(super) async fn connector(self: &Arc<Self>) -> MakeRustlsConnect {
        let is_old = self.made().at.elapsed() >= READ_AGAIN;
        if is_old && self.settings.has_files() {
            let tls = Arc::clone(self);
            // Files may be on a network.
            let _read = tokio::task::spawn_blocking(move || tls.read_again()).await;
        }
        self.made().connector.clone()
    }

    fn read_again(&self) {
        let new = self.settings.connector();
        let mut made = self.made();
        made.at = Instant::now();
        match new {
            Ok(connector) => made.connector = connector,
            Err(error) => {
                tracing::warn!(%error, "the files for TLS to Postgres cannot be read; what they held before is used")
            }
        }
    }

    fn made(&self) -> parking_lot::MutexGuard<'_, Made> {
        self.made.lock()
    }
}

impl Settings {
    fn of(parameters: Parameters) -> Result<Self, BadTarget> {
        let Parameters { sslmode, sslrootcert, sslcert, sslkey } = parameters;
        // An empty value is none, as for libpq.
        let [sslmode, sslrootcert, sslcert, sslkey] =
            [sslmode, sslrootcert, sslcert, sslkey].map(|value| value.filter(|value| !value.is_empty()));
        let roots = match sslrootcert.as_deref() {
            None => Roots::None,
            Some("system") => Roots::System,
            Some(file) => Roots::File(file.into()),
        };
        let usual = if roots == Roots::System { "verify-full" } else { "prefer" };
        let name = sslmode.as_deref().unwrap_or(usual);
        // Whoever names authorities wants them used.
        let by_roots = if roots == Roots::None { Verify::Nothing } else { Verify::Authority };
        let (mode, verify) = match name {
            "disable" => (SslMode::Disable, Verify::Nothing),
            "prefer" => (SslMode::Prefer, by_roots),
            "require" => (SslMode::Require, by_roots),
            "verify-ca" => (SslMode::Require, Verify::Authority),
            "verify-full" => (SslMode::Require, Verify::Full),
            "allow" => {
                return Err(BadTarget::parameter("sslmode", "allow is not supported; use prefer or require"));
            }
            _ => {
                let known = "disable, prefer, require, verify-ca or verify-full";
                return Err(BadTarget::parameter("sslmode", format!("{name:?} is unknown; it is {known}")));
            }
        };
        if roots == Roots::System && verify != Verify::Full {
            let why =
                format!("system needs sslmode=verify-full, found sslmode={name}: everybody can get a certificate");
            return Err(BadTarget::parameter("sslrootcert", why));
        }
        if roots == Roots::None && verify != Verify::Nothing {
            let why = format!(
                "is missing, and sslmode={name} needs it: a PEM file of authorities, or system for those of this machine"
            );
            return Err(BadTarget::parameter("sslrootcert", why));
        }
        let identity = match (sslcert, sslkey) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            (Some(_), None) => return Err(BadTarget::parameter("sslkey", "is missing, and sslcert needs it")),
            (None, Some(_)) => return Err(BadTarget::parameter("sslcert", "is missing, and sslkey needs it")),
        };
        Ok(Self { mode, verify, roots, identity })
    }

    fn has_files(&self) -> bool {
        self.mode != SslMode::Disable && (self.roots != Roots::None || self.identity.is_some())
    }

    fn connector(&self) -> Result<MakeRustlsConnect, BadTarget> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| BadTarget::parameter("sslmode", error.to_string()))?;
        let (trusted, identity) = match self.mode {
            SslMode::Disable => (Trusted { roots: RootCertStore::empty(), pinned: Vec::new() }, None),
            _ => (self.read_trusted()?, self.read_identity()?),
        };
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Verifier { verify: self.verify, trusted, algorithms };
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let fits = builder.with_client_auth_cert(chain, key);
                fits.map_err(|error| BadTarget::parameter("sslcert", format!("does not fit sslkey: {error}")))?
            }
        };
        // Needed where TLS begins at once (sslnegotiation=direct); others pass over it.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(MakeRustlsConnect::new(config))
    }

    fn read_trusted(&self) -> Result<Trusted, BadTarget> {
        let name = "sslrootcert";
        let (mut roots, mut pinned) = (RootCertStore::empty(), Vec::new());
        match &self.roots {
            Roots::None => {}
            Roots::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    let why = "this machine trusts no authority; install ca-certificates, or name a PEM file";
                    return Err(BadTarget::parameter(name, why));
                }
            }
            Roots::File(path) => {
                for certificate in certificates(name, path)? {
                    pinned.push(certificate.clone());
                    let added = roots.add(certificate);
                    added.map_err(|error| BadTarget::parameter(name, format!("{}: {error}", path.display())))?;
                }
            }
        }
        Ok(Trusted { roots, pinned })
    }

    fn read_identity(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, BadTarget> {
        let Some((certificate, key)) = &self.identity else { return Ok(None) };
        let chain = certificates("sslcert", certificate)?;
        let pem = read("sslkey", key)?;
        // The parser's own words may show what it read.
        let why = || format!("{} holds no private key in PEM without a password", key.display());
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| BadTarget::parameter("sslkey", why()))?;
        Ok(Some((chain, key)))
    }
}

/// All certificates of a PEM file.
fn certificates(name: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, BadTarget> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(name, path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(BadTarget::parameter(name, format!("{} holds no certificate in PEM", path.display()))),
    }
}

fn read(name: &'static str, path: &Path) -> Result<Vec<u8>, BadTarget> {
    let failed = |error| BadTarget::parameter(name, format!("{} cannot be read: {error}", path.display()));
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if length as u64 > MAX_BYTES {
        return Err(BadTarget::parameter(name, format!("{} has more than 4 MiB", path.display())));
    }
    Ok(content)
}

/// What failed between rustls and a server. None: something else failed.
pub(super) fn fault(error: &DbError) -> Option<&rustls::Error> {
    let cause = std::error::Error::source(error)?.downcast_ref::<std::io::Error>()?;
    cause.get_ref()?.downcast_ref()
}

/// What to do about an error of TLS. None: it is another error, or says enough by itself.
pub(super) fn advice(error: &DbError) -> Option<&'static str> {
    use rustls::CertificateError as Bad;
    if error.as_db_error().is_none() && std::error::Error::source(error)?.to_string() == NO_TLS {
        return Some("set ssl = on in postgresql.conf, or sslmode=prefer if the network is trusted");
    }
    Some(match fault(error)? {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer => "the server's certificate is not signed by an authority of sslrootcert",
            Bad::Expired | Bad::ExpiredContext { .. } => {
                "the server's certificate has expired: replace it, and reload Postgres"
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "the server's certificate names another host: connect by a name that it has, or use sslmode=verify-ca"
            }
            _ => return None,
        },
        rustls::Error::AlertReceived(_) => {
            "the server refused the handshake: see its log, and sslcert if it asks for certificates"
        }
        _ => return None,
    })
}

/// The driver's words where a server offers no TLS.
const NO_TLS: &str = "server does not support TLS";

/// Whether a connection that may be plain is tried again without TLS, as libpq does: TLS failed, or the server's rules allow
/// only the other kind.
pub(super) fn may_be_plain(error: &DbError) -> bool {
    fault(error).is_some() || error.code().is_some_and(|code| code.code() == "28000")
}

/// Whether a server is there and no TLS came about with it.
pub(super) fn is_refusal(error: &DbError) -> bool {
    let source = std::error::Error::source(error);
    fault(error).is_some() || source.is_some_and(|source| source.to_string() == NO_TLS)
}

#[cfg(test)]
mod tests;
