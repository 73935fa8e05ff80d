//! Checks the certificate of a server: expiry and names. Whether this client trusts it is checked by the calls.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::finding::Finding;

/// Timeout of connection and handshake.
const PATIENCE: Duration = Duration::from_secs(5);
/// Remaining validity below which a certificate should be renewed.
const SOON_DAYS: i64 = 14;
const DAY_SECONDS: i64 = 24 * 3_600;

const AREA: &str = "server";
const CHECK: &str = "certificate";

/// Validity and names of a certificate.
struct Shown {
    /// Expiry in seconds since 1970.
    begins: i64,
    ends: i64,
    names: Vec<String>,
}

/// Checks the certificate of a server. None: its URL is not `https://`.
pub async fn look(server: &str) -> Option<Finding> {
    if !server.starts_with("https://") {
        return None;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    Some(match timeout(PATIENCE, shown(server)).await {
        Ok(Ok(shown)) => of_shown(&shown, now),
        Ok(Err(error)) => Finding::fail(AREA, CHECK, format!("it shows none: {error:#}"))
            .advise("does the server take TLS? It does with --tls-cert and --tls-key"),
        Err(_) => Finding::fail(AREA, CHECK, "it shows none within 5 s"),
    })
}

fn of_shown(shown: &Shown, now: i64) -> Finding {
    let (names, days) = (shown.names.join(", "), (shown.ends - now).div_euclid(DAY_SECONDS));
    let advice =
        "put a new one in place of the files of --tls-cert and --tls-key; the server takes it without a restart";
    if shown.begins > now {
        return Finding::fail(AREA, CHECK, format!("for {names}: not valid yet"))
            .advise("compare the clocks of this machine and of the one that made it");
    }
    if shown.ends <= now {
        return Finding::fail(AREA, CHECK, format!("for {names}: expired {} days ago", -days)).advise(advice);
    }
    let what = format!("for {names}: valid for {days} days");
    if days < SOON_DAYS { Finding::warn(AREA, CHECK, what).advise(advice) } else { Finding::ok(AREA, CHECK, what) }
}

async fn shown(server: &str) -> anyhow::Result<Shown> {
    let uri: http::Uri = server.parse().context("the URL cannot be read")?;
    let host = uri.host().context("the URL has no host")?.trim_matches(['[', ']']).to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(host).context("the URL's host is no name")?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let first = certificates.and_then(<[_]>::first).context("the handshake brought no certificate")?;
    let (_, certificate) = X509Certificate::from_der(first).context("the certificate cannot be read")?;
    let validity = certificate.validity();
    Ok(Shown {
        begins: validity.not_before.timestamp(),
        ends: validity.not_after.timestamp(),
        names: names(&certificate),
    })
}

/// DNS names and addresses of the certificate.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => address(octets),
        _ => None,
    };
    alternatives.value.general_names.iter().filter_map(name).collect()
}

fn address(octets: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(octets).map(|octets| std::net::Ipv4Addr::from(octets).to_string());
    four.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| std::net::Ipv6Addr::from(octets).to_string())).ok()
}

/// Accepts every certificate: it is only inspected, and no data is sent.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_days() {
        let level = |begins: i64, ends: i64| {
            let shown = Shown { begins: begins * DAY_SECONDS, ends: ends * DAY_SECONDS, names: vec!["a".to_owned()] };
            of_shown(&shown, 100 * DAY_SECONDS).level
        };
        assert_eq!(level(90, 190), Level::Ok);
        assert_eq!(level(90, 114), Level::Ok);
        assert_eq!(level(90, 113), Level::Warn);
        assert_eq!(level(90, 100), Level::Fail);
        assert_eq!(level(101, 190), Level::Fail);
    }
}
