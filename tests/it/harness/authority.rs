//! Certificate authorities for tests, and what they sign.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// A certificate authority; its files are in a directory of the test.
pub struct Authority {
    /// Its certificate, as a PEM file.
    pub file: PathBuf,
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its private key, as PEM files.
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// A new one, with files below a directory that is there.
    pub fn new(directory: &Path, name: &str) -> Authority {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, certificate.pem()).expect("a file");
        Authority { file, directory: directory.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// A certificate with a common name and these alternative names.
    pub fn issue(&self, name: &str, names: &[&str]) -> Issued {
        self.sign(name, named(name, names))
    }

    /// The same, and it expired long ago.
    pub fn issue_expired(&self, name: &str, names: &[&str]) -> Issued {
        let mut params = named(name, names);
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
        self.sign(name, params)
    }

    fn sign(&self, name: &str, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        write(&self.directory, name, &certificate.pem(), &key)
    }
}

fn named(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(directory: &Path, name: &str, certificate: &str, key: &KeyPair) -> Issued {
    let issued =
        Issued { certificate: directory.join(format!("{name}.pem")), key: directory.join(format!("{name}.key")) };
    std::fs::write(&issued.certificate, certificate).expect("a file");
    std::fs::write(&issued.key, key.serialize_pem()).expect("a file");
    issued
}
