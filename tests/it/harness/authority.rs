//! Certificate authorities for tests, and what they sign.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};

pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate authority whose files are in a directory of the test.
pub struct AuthorityFiles {
    /// Its certificate, as a PEM file.
    pub file: PathBuf,
    directory: PathBuf,
    authority: Authority,
}

/// A certificate with its private key, as PEM files.
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// A new one with a common name.
    pub fn new(name: &str) -> Authority {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate with a common name and these alternative names (hosts, addresses, and URIs of the scheme `spiffe`), and its key.
    pub fn sign(&self, name: &str, names: &[&str]) -> (String, String) {
        self.sign_params(&named(name, names))
    }

    /// The same, valid for so long.
    pub fn sign_for(&self, validity: Duration, name: &str, names: &[&str]) -> (String, String) {
        let mut params = named(name, names);
        params.not_after = (SystemTime::now() + validity).into();
        self.sign_params(&params)
    }

    fn sign_params(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

impl AuthorityFiles {
    /// A new one, with files below a directory that is there.
    pub fn new(directory: &Path, name: &str) -> AuthorityFiles {
        let authority = Authority::new(name);
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, &authority.pem).expect("a file");
        AuthorityFiles { file, directory: directory.to_owned(), authority }
    }

    /// A certificate as of [`Authority::sign`].
    pub fn issue(&self, name: &str, names: &[&str]) -> Issued {
        self.put(name, self.authority.sign(name, names))
    }

    /// The same, and it expired long ago.
    pub fn issue_expired(&self, name: &str, names: &[&str]) -> Issued {
        let mut params = named(name, names);
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
        self.put(name, self.authority.sign_params(&params))
    }

    fn put(&self, name: &str, (certificate, key): (String, String)) -> Issued {
        let path = |extension: &str| self.directory.join(format!("{name}.{extension}"));
        let issued = Issued { certificate: path("pem"), key: path("key") };
        std::fs::write(&issued.certificate, certificate).expect("a file");
        std::fs::write(&issued.key, key).expect("a file");
        issued
    }
}

fn named(name: &str, names: &[&str]) -> CertificateParams {
    let (uris, others): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.starts_with("spiffe://"));
    let others: Vec<String> = others.into_iter().map(str::to_owned).collect();
    let mut params = CertificateParams::new(others).expect("names");
    params.subject_alt_names.extend(uris.into_iter().map(|uri| SanType::URI(uri.try_into().expect("ASCII"))));
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
