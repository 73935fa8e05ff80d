//! TLS for clients: certificate, key and client authorities from PEM files, replaced while the server runs.
//!
//! Invariants:
//! - A handshake happens within the place of its connection and its time limit; until it is done, rustls holds at most
//!   one handshake message (64 KiB) of it.
//! - New files take effect as a whole or not at all: while they cannot be read or do not match, the previous ones stay
//!   in use.
//! - Client certificates are optional, since an API key can be presented instead; a presented certificate must be
//!   signed by a configured authority, or the handshake fails.

mod files;
mod names;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::figures::Gauge;
use files::{Files, Pem};

/// Interval of checks of the files.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Remaining validity below which a warning is logged.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 86_400);
/// Interval of these warnings.
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// TLS configuration of the server, with the files it comes from.
#[derive(Debug)]
pub struct ServerTls {
    /// None: the certificate was passed in and never changes.
    files: Option<Files>,
    current: RwLock<Current>,
    last_pem: Mutex<Pem>,
}

/// A verified certificate of a client.
#[derive(Debug)]
pub(super) struct Presented {
    /// See [`Peer::certificate`](crate::admission::Peer::certificate).
    pub(super) names: Arc<[String]>,
    /// Time at which the certificate expires and the connection ends.
    pub(super) expires: SystemTime,
}

#[derive(Debug, Clone)]
struct Current {
    config: Arc<ServerConfig>,
    expires: SystemTime,
}

impl ServerTls {
    /// Loads the files that the settings name. None: they name no certificate.
    ///
    /// # Errors
    /// If a file cannot be read, or certificate and key do not match; the message names the file.
    pub fn from_config(config: &Config) -> anyhow::Result<Option<Arc<ServerTls>>> {
        let (Some(certificate), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
        let files =
            Files { certificate: certificate.clone(), key: key.clone(), client_ca: config.tls_client_ca.clone() };
        let pem = files.read()?;
        let tls = ServerTls::new(Some(files), pem)?;
        Ok(Some(Arc::new(tls)))
    }

    /// Uses a certificate chain and its key from PEM text, without client authorities.
    ///
    /// # Errors
    /// If they cannot be read or do not match.
    pub fn from_pem(certificate: &str, key: &str) -> anyhow::Result<Arc<ServerTls>> {
        let pem = Pem { certificate: certificate.into(), key: key.into(), client_ca: None };
        Ok(Arc::new(ServerTls::new(None, pem)?))
    }

    fn new(files: Option<Files>, pem: Pem) -> anyhow::Result<ServerTls> {
        let current = RwLock::new(Current::of(&pem)?);
        Ok(ServerTls { files, current, last_pem: Mutex::new(pem) })
    }

    /// Time at which the certificate in use expires.
    pub fn expires(&self) -> SystemTime {
        self.current().expires
    }

    /// Performs the handshake. Returns the stream, and the client's certificate. None: the client presented none.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<Presented>)> {
        let stream = TlsAcceptor::from(self.current().config).accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let presented = certificate.map(|certificate| Presented {
            names: names::of(certificate),
            expires: names::expires(certificate).unwrap_or(SystemTime::UNIX_EPOCH),
        });
        Ok((stream, presented))
    }

    /// Checks the files every 5 s and at each SIGHUP until `shutdown` is cancelled, and warns of a certificate that
    /// expires soon. Sets `figure` to the time of expiry, in seconds since 1970.
    pub async fn keep(self: Arc<Self>, figure: Gauge, shutdown: CancellationToken) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut warned: Option<SystemTime> = None;
        loop {
            let now = SystemTime::now();
            let expires = self.expires().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            figure.set(i64::try_from(expires.as_secs()).unwrap_or(i64::MAX));
            let is_due = warned.is_none_or(|at| now.duration_since(at).is_ok_and(|since| since >= WARN_EVERY));
            if is_due && self.expires() < now + EXPIRY_WARNING {
                let days = self.expires().duration_since(now).map_or(0, |left| left.as_secs() / 86_400);
                tracing::warn!(days, "the TLS certificate expires soon: replace the files of --tls-cert and --tls-key");
                warned = Some(now);
            }
            let asked = async {
                match &mut hangup {
                    Some(hangup) => drop(hangup.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = asked => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let tls = self.clone();
            // The files may be on a network drive, so reading them may block.
            let _looked = tokio::task::spawn_blocking(move || tls.look()).await;
        }
    }

    /// Loads the files again if they have changed.
    fn look(&self) {
        let Some(files) = &self.files else { return };
        let mut last = self.last_pem.lock();
        let new = match files.read() {
            Ok(pem) if pem == *last => return,
            Ok(pem) => pem,
            Err(error) => {
                tracing::warn!("the TLS files cannot be read; the ones before stay in use: {error:#}");
                return;
            }
        };
        match Current::of(&new) {
            Ok(current) => {
                *self.current.write() = current;
                tracing::info!("the TLS certificate was replaced; open connections keep the one before");
            }
            // Certificate and key are two files, so they do not match while only one is replaced.
            Err(error) => tracing::warn!("the new TLS files cannot be used; the ones before stay in use: {error:#}"),
        }
        *last = new;
    }

    fn current(&self) -> Current {
        self.current.read().clone()
    }
}

impl Current {
    fn of(pem: &Pem) -> anyhow::Result<Current> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&pem.certificate).context("--tls-cert")?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|error| anyhow::anyhow!("--tls-key: {error}"))?;
        let leaf = chain.first().context("--tls-cert: there is no certificate in the file")?;
        let expires = names::expires(leaf).context("--tls-cert: the certificate cannot be read")?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?;
        let builder = match &pem.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let mut roots = rustls::RootCertStore::empty();
                for authority in certificates(authorities).context("--tls-client-ca")? {
                    roots.add(authority).context("--tls-client-ca")?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().context("--tls-client-ca")?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).context("--tls-cert and --tls-key")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Current { config: Arc::new(config), expires })
    }
}

/// Parses all certificates of a PEM text.
fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| anyhow::anyhow!("the file is not PEM: {error}"))?;
    anyhow::ensure!(!found.is_empty(), "there is no certificate in the file");
    Ok(found)
}

#[cfg(test)]
mod tests;
