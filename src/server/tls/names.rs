//! Names and time of expiry of a certificate.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Maximum number of names read from a certificate; the others are ignored.
const MAX_NAMES: usize = 16;

/// Names of a verified certificate: URIs, then DNS names, then the common name. Empty: it has none that can be read.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Arc<[String]> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Arc::default() };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let general = alternative.map_or(&[][..], |extension| &extension.value.general_names);
    let uris = general.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let hosts = general.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(*host),
        _ => None,
    });
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    uris.chain(hosts).chain(common).take(MAX_NAMES).map(str::to_owned).collect()
}

/// Time of expiry. None: it cannot be read.
pub(super) fn expires(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
