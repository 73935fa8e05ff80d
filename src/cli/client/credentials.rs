//! API key, certificate authorities and client certificate of a connection.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::cli::failure::Failed;

/// Flags for TLS and the API key.
#[derive(Clone, Debug, Default, Args)]
pub struct Credentials {
    /// API key, sent with every call. Prefer the environment variable: other users of the machine can see flags.
    #[arg(
        long,
        env = "INTERLOCK_API_KEY",
        value_name = "KEY",
        hide_env_values = true,
        global = true,
        help_heading = "Server"
    )]
    key: Option<ApiKey>,
    /// PEM file of certificate authorities to verify an https server, instead of those of the system.
    #[arg(long, env = "INTERLOCK_CA", value_name = "FILE", value_parser = file(), global = true, help_heading = "Server")]
    ca: Option<PathBuf>,
    /// PEM file of the client certificate for an https server, with its chain. Needs --cert-key.
    #[arg(long, env = "INTERLOCK_CERT", value_name = "FILE", value_parser = file(), global = true, help_heading = "Server")]
    cert: Option<PathBuf>,
    /// PEM file of the private key of --cert.
    #[arg(long, env = "INTERLOCK_CERT_KEY", value_name = "FILE", value_parser = file(), global = true, help_heading = "Server")]
    cert_key: Option<PathBuf>,
}

/// Parser of a path. An empty path counts as absent: a shell cannot unset a variable for one command.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A file given by a flag or its variable.
fn named(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// An API key, which Debug redacts.
#[derive(Clone)]
struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl FromStr for ApiKey {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl Credentials {
    /// Whether a client certificate is presented.
    pub fn shows_certificate(&self) -> bool {
        self.cert.is_some()
    }

    /// The value of the metadata `authorization`. None: there is no key.
    ///
    /// # Errors
    /// If the key has a character that metadata cannot carry; the error does not show the key.
    pub fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, Failed> {
        // An empty variable counts as absent.
        let Some(ApiKey(key)) = self.key.as_ref().filter(|key| !key.0.is_empty()) else { return Ok(None) };
        let mut value = MetadataValue::try_from(format!("Bearer {key}")).map_err(|_| {
            Failed::usage("--key (INTERLOCK_API_KEY): has a character that no key has, such as a line break")
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The endpoint of an https URL, with TLS.
    ///
    /// # Errors
    /// If a file cannot be read, or does not hold what its flag says.
    pub fn secure(&self, endpoint: Endpoint) -> Result<Endpoint, Failed> {
        let tls = match named(&self.ca) {
            Some(path) => ClientTlsConfig::new().ca_certificate(authorities(path)?),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        let tls = match (named(&self.cert), named(&self.cert_key)) {
            (Some(certificate), Some(key)) => tls.identity(identity(certificate, key)?),
            (None, None) => tls,
            (Some(_), None) => {
                return Err(Failed::usage("--cert: needs --cert-key, the private key of the certificate"));
            }
            (None, Some(_)) => {
                return Err(Failed::usage("--cert-key: needs --cert, the certificate of the private key"));
            }
        };
        endpoint.tls_config(tls).map_err(|error| Failed::usage(format!("TLS: {}", deepest(&error))))
    }

    /// The first given flag that needs https. None: none is given.
    pub fn needs_tls(&self) -> Option<&'static str> {
        let flags = [
            ("--ca (INTERLOCK_CA)", &self.ca),
            ("--cert (INTERLOCK_CERT)", &self.cert),
            ("--cert-key (INTERLOCK_CERT_KEY)", &self.cert_key),
        ];
        flags.into_iter().find_map(|(flag, path)| named(path).map(|_| flag))
    }
}

fn authorities(path: &Path) -> Result<Certificate, Failed> {
    let pem = read("--ca", path)?;
    certificates("--ca", path, &pem)?;
    Ok(Certificate::from_pem(pem))
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, Failed> {
    let (chain, private) = (read("--cert", certificate)?, read("--cert-key", key)?);
    certificates("--cert", certificate, &chain)?;
    if PrivateKeyDer::from_pem_slice(&private).is_err() {
        return Err(Failed::usage(format!("--cert-key: {key:?} holds no private key in PEM that is not encrypted")));
    }
    Ok(Identity::from_pem(chain, private))
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, Failed> {
    fs::read(path).map_err(|error| Failed::usage(format!("{flag}: cannot read {path:?}: {error}")))
}

/// Checks that there is at least one certificate: TLS would silently skip unreadable ones.
fn certificates(flag: &str, path: &Path, pem: &[u8]) -> Result<(), Failed> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(()),
        Ok(_) => Err(Failed::usage(format!("{flag}: {path:?} holds no certificate in PEM"))),
        Err(error) => Err(Failed::usage(format!("{flag}: {path:?} is not PEM: {error}"))),
    }
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_key(key: &str) -> Credentials {
        Credentials { key: Some(ApiKey::from_str(key).expect("any text")), ..Credentials::default() }
    }

    #[test]
    fn a_key_is_sent_as_bearer_and_never_shown() {
        let credentials = with_key("il_abcdefgh_secret\n");
        let value = credentials.authorization().expect("a key").expect("one");
        assert_eq!(value.to_str().ok(), Some("Bearer il_abcdefgh_secret"));
        assert!(value.is_sensitive());
        assert!(!format!("{credentials:?}{value:?}").contains("secret"));
        assert!(with_key("").authorization().is_ok_and(|value| value.is_none()));
        let error = with_key("sec\nret").authorization().expect_err("a line break").to_string();
        assert!(error.starts_with("--key (INTERLOCK_API_KEY): ") && !error.contains("sec\nret"), "{error}");
    }

    #[test]
    fn a_wrong_file_is_named_with_its_flag() {
        let endpoint = || Endpoint::from_static("https://localhost:1");
        let fails = |credentials: Credentials| credentials.secure(endpoint()).expect_err("a wrong file").to_string();
        let (missing, no_pem) = (PathBuf::from("/nowhere/ca.pem"), PathBuf::from(file!()));
        let ca = |path: &PathBuf| Credentials { ca: Some(path.clone()), ..Credentials::default() };
        assert!(fails(ca(&missing)).starts_with("--ca: cannot read \"/nowhere/ca.pem\""));
        let error = fails(ca(&no_pem));
        assert!(error.starts_with("--ca: ") && error.ends_with("holds no certificate in PEM"), "{error}");
        let alone = Credentials { cert: Some(missing.clone()), ..Credentials::default() };
        assert!(fails(alone).contains("needs --cert-key"));
        let alone = Credentials { cert_key: Some(missing), ..Credentials::default() };
        assert_eq!(alone.needs_tls(), Some("--cert-key (INTERLOCK_CERT_KEY)"));
        let empty = Credentials { ca: Some(PathBuf::new()), ..Credentials::default() };
        assert_eq!(empty.needs_tls(), None);
        assert!(fails(alone).contains("needs --cert,"));
    }
}
