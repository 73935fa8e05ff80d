//! Verification of a server's certificate.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// What is verified of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    /// Only that the server has the key of its certificate.
    Nothing,
    /// Also that an authority signed the certificate.
    Authority,
    /// Also that the certificate names the host.
    Full,
}

/// Trusted authorities and certificates.
#[derive(Debug)]
pub(super) struct Trusted {
    /// Authorities that may sign certificates of servers.
    pub roots: RootCertStore,
    /// Certificates of servers that are trusted themselves, whoever signed them. Usually they are self-signed; OpenSSL marks those as authorities,
    /// which webpki does not accept as a server's.
    pub pinned: Vec<CertificateDer<'static>>,
}

/// Verifies certificates as far as `sslmode` asks for it.
#[derive(Debug)]
pub(super) struct Verifier {
    pub verify: Verify,
    pub trusted: Trusted,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn verify_signer(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.trusted.pinned.contains(certificate) {
            return verify_time(certificate, now);
        }
        let (parsed, roots) = (ParsedCertificate::try_from(certificate)?, &self.trusted.roots);
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verify {
            Verify::Nothing => {}
            Verify::Authority => self.verify_signer(certificate, intermediates, now)?,
            Verify::Full => {
                self.verify_signer(certificate, intermediates, now)?;
                verify_name(certificate, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn verify_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    let now = now.ok_or(CertificateError::Expired)?;
    if now < parsed.validity().not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Verifies the host. A certificate without alternative names has it in the common name, as those made by the manual of Postgres.
fn verify_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let verified = verify_server_name(&ParsedCertificate::try_from(certificate)?, name);
    let (Err(error), ServerName::DnsName(host)) = (&verified, name) else { return verified };
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return verified };
    let has_names = !matches!(parsed.subject_alternative_name(), Ok(None));
    let mut common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    if !has_names && common.any(|name| name.eq_ignore_ascii_case(host.as_ref())) {
        return Ok(());
    }
    Err(error.clone())
}
