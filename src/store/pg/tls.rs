//! TLS to Postgres: `sslmode`, `sslrootcert`, `sslcert` and `sslkey` of a connection string, with the meaning they have for libpq.
//!
//! Differences from libpq: nothing is read from `~/.postgresql`; a file that is named must exist; `sslmode=allow` is refused.

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

/// The age of what was read from the files at which the next connection reads them again, so that certificates can be replaced.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// The largest file that is read: bundles of authorities are far smaller.
const MAX_BYTES: u64 = 4 << 20;

/// The parameters of TLS in a connection string. None: not given.
#[derive(Debug, Default)]
pub(in crate::store) struct Parameters {
    pub sslmode: Option<String>,
    pub sslrootcert: Option<String>,
    pub sslcert: Option<String>,
    pub sslkey: Option<String>,
}

/// Name and value of a parameter of TLS.
pub(in crate::store) struct TlsParameter<'a> {
    pub name: &'static str,
    pub value: &'a mut Option<String>,
}

impl Parameters {
    /// The parameter of a name. None: it is no parameter of TLS.
    pub(in crate::store) fn place(&mut self, name: &str) -> Option<TlsParameter<'_>> {
        let (name, value) = match name {
            "sslmode" => ("sslmode", &mut self.sslmode),
            "sslrootcert" => ("sslrootcert", &mut self.sslrootcert),
            "sslcert" => ("sslcert", &mut self.sslcert),
            "sslkey" => ("sslkey", &mut self.sslkey),
            _ => return None,
        };
        Some(TlsParameter { name, value })
    }
}

/// The authorities that may have signed the certificate of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TrustAnchors {
    None,
    /// The authorities that the operating system trusts.
    System,
    File(PathBuf),
}

/// The meaning of the parameters.
#[derive(Debug)]
struct TlsSettings {
    mode: SslMode,
    verify: Verify,
    roots: TrustAnchors,
    /// The client's certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

/// Makes the TLS connector of connections, and reads its files again from time to time.
pub(in crate::store) struct DatabaseTls {
    settings: TlsSettings,
    made: Mutex<Made>,
}

struct Made {
    connector: MakeRustlsConnect,
    at: Instant,
}

impl DatabaseTls {
    /// Parses parameters and reads the files they name.
    ///
    /// # Errors
    /// When a value is unknown, contradicts another one, or names a file that cannot be used.
    pub(in crate::store) fn new(parameters: Parameters) -> Result<Self, BadTarget> {
        let settings = TlsSettings::of(parameters)?;
        let made = Mutex::new(Made { connector: settings.connector()?, at: Instant::now() });
        Ok(Self { settings, made })
    }

    /// Whether the driver uses TLS.
    pub(in crate::store) fn mode(&self) -> SslMode {
        self.settings.mode
    }

    /// The connector of the next connection. If files cannot be read again, that is logged and their earlier content is used.
    pub(in crate::store) async fn connector(self: &Arc<Self>) -> MakeRustlsConnect {
        let is_old = self.made.lock().at.elapsed() >= READ_AGAIN;
        if is_old && self.settings.has_files() {
            let tls = Arc::clone(self);
            // Reading may block: the files may be on a network.
            let _read = tokio::task::spawn_blocking(move || tls.read_again()).await;
        }
        self.made.lock().connector.clone()
    }

    fn read_again(&self) {
        let new = self.settings.connector();
        let mut made = self.made.lock();
        made.at = Instant::now();
        match new {
            Ok(connector) => made.connector = connector,
            Err(error) => {
                tracing::warn!(%error, "the files for TLS to Postgres cannot be read; their earlier content is used");
            }
        }
    }
}

impl TlsSettings {
    fn of(parameters: Parameters) -> Result<Self, BadTarget> {
        let Parameters { sslmode, sslrootcert, sslcert, sslkey } = parameters;
        // An empty value counts as not given, as for libpq.
        let [sslmode, sslrootcert, sslcert, sslkey] =
            [sslmode, sslrootcert, sslcert, sslkey].map(|value| value.filter(|value| !value.is_empty()));
        let roots = match sslrootcert.as_deref() {
            None => TrustAnchors::None,
            Some("system") => TrustAnchors::System,
            Some(file) => TrustAnchors::File(file.into()),
        };
        let usual = if roots == TrustAnchors::System { "verify-full" } else { "prefer" };
        let name = sslmode.as_deref().unwrap_or(usual);
        // With authorities the certificate is verified, as for libpq.
        let by_roots = if roots == TrustAnchors::None { Verify::Nothing } else { Verify::Authority };
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
        if roots == TrustAnchors::System && verify != Verify::Full {
            let why = format!(
                "system needs sslmode=verify-full, found sslmode={name}: anyone can get a certificate from those authorities"
            );
            return Err(BadTarget::parameter("sslrootcert", why));
        }
        if roots == TrustAnchors::None && verify != Verify::Nothing {
            let why = format!(
                "is missing, and sslmode={name} needs it: give a PEM file of authorities, or system for those that this machine trusts"
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
        self.mode != SslMode::Disable && (self.roots != TrustAnchors::None || self.identity.is_some())
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
        // Needed for sslnegotiation=direct; ignored otherwise.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(MakeRustlsConnect::new(config))
    }

    fn read_trusted(&self) -> Result<Trusted, BadTarget> {
        let name = "sslrootcert";
        let (mut roots, mut pinned) = (RootCertStore::empty(), Vec::new());
        match &self.roots {
            TrustAnchors::None => {}
            TrustAnchors::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    let why = "this machine trusts no authority; install ca-certificates, or give a PEM file";
                    return Err(BadTarget::parameter(name, why));
                }
            }
            TrustAnchors::File(path) => {
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
        // The error of the parser may contain parts of the key.
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

/// The error of rustls that caused a connection error. None: it has another cause.
pub(in crate::store) fn fault(error: &DbError) -> Option<&rustls::Error> {
    let cause = std::error::Error::source(error)?.downcast_ref::<std::io::Error>()?;
    cause.get_ref()?.downcast_ref()
}

/// What to do about an error of TLS. None: it is another error, or explains itself.
pub(in crate::store) fn advice(error: &DbError) -> Option<&'static str> {
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

/// The message of the driver where a server offers no TLS.
const NO_TLS: &str = "server does not support TLS";

/// Whether a connection with `sslmode=prefer` is tried again without TLS, as libpq does: TLS failed, or pg_hba.conf allows only plain
/// connections.
pub(in crate::store) fn may_be_plain(error: &DbError) -> bool {
    fault(error).is_some() || error.code().is_some_and(|code| code.code() == "28000")
}

/// Whether a server responded, and TLS with it failed.
pub(in crate::store) fn is_refusal(error: &DbError) -> bool {
    let source = std::error::Error::source(error);
    fault(error).is_some() || source.is_some_and(|source| source.to_string() == NO_TLS)
}

#[cfg(test)]
mod tests;
