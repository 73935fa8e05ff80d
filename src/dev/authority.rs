//! A certificate authority for `interlock dev --tls`: made once per user, so that it is trusted once, and good for no other name than `localhost`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints,
};

/// How long the authority is valid.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3_650 * 86_400);
/// How long a server's certificate is valid; each start makes a new one.
const SERVER_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// Before the moment at which it was made: clocks differ.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// A certificate of a server, and who signed it.
#[derive(Debug)]
pub struct DevCertificate {
    /// PEM file of the authority, which clients are to trust.
    pub authority: PathBuf,
    /// The certificate as PEM.
    pub certificate: String,
    /// Its private key as PEM.
    pub key: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The directory or a file in it.
    #[error("{}: {error}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// Making or reading certificates.
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A new certificate for `localhost`, `127.0.0.1` and `::1`, signed by the authority in this directory, which is made if it is not there.
///
/// # Errors
/// When the directory cannot be written, or what is in it cannot be read.
pub fn certificate(directory: &Path) -> Result<DevCertificate, AuthorityError> {
    let (authority, issuer_key) = authority(directory)?;
    let issuer = Issuer::from_ca_cert_pem(&authority, issuer_key)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(["localhost", "127.0.0.1", "::1"].map(str::to_owned))?;
    params.distinguished_name.push(DnType::CommonName, "interlock dev");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    lasting(&mut params, SERVER_LIFE);
    let certificate = params.signed_by(&key, &issuer)?;
    let path = directory.join("ca.pem");
    write(&path, authority.as_bytes(), 0o644)?;
    Ok(DevCertificate { authority: path, certificate: certificate.pem(), key: key.serialize_pem() })
}

/// The authority's certificate as PEM, and its key. Both are in one file that is linked into place, so that of two servers that start at once
/// one makes it and both use it.
fn authority(directory: &Path) -> Result<(String, KeyPair), AuthorityError> {
    let path = directory.join("authority.pem");
    let failed = |error| AuthorityError::File { path: path.clone(), error };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
    if !path.exists() {
        let (certificate, key) = new_authority()?;
        let draft = directory.join(format!("authority-{}.pem", uuid::Uuid::new_v4().simple()));
        write(&draft, format!("{}{certificate}", key.serialize_pem()).as_bytes(), 0o600)?;
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft).map_err(failed)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    let both = fs::read_to_string(&path).map_err(failed)?;
    let begin = both.find("-----BEGIN CERTIFICATE-----");
    let begin =
        begin.ok_or_else(|| failed(io::Error::other("holds no certificate; remove it to have a new one made")))?;
    let (key, certificate) = both.split_at(begin);
    Ok((certificate.to_owned(), KeyPair::from_pem(key)?))
}

fn new_authority() -> Result<(String, KeyPair), AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "interlock dev authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // With its key no other name than this machine's can be certified. Addresses are not constrained: BoringSSL, which gRPC for Python is built
    // with, refuses every certificate below an authority that constrains them.
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("localhost".to_owned())],
        excluded_subtrees: Vec::new(),
    });
    lasting(&mut params, AUTHORITY_LIFE);
    Ok((params.self_signed(&key)?.pem(), key))
}

fn lasting(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
}

/// Writes a file whole: under another name first.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let failed = |error| AuthorityError::File { path: path.to_owned(), error };
    let draft = path.with_extension(format!("{}.new", uuid::Uuid::new_v4().simple()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::prelude::{GeneralName, parse_x509_pem};

    use super::*;

    #[test]
    fn the_authority_constrains_names_and_no_addresses() {
        let (certificate, _) = new_authority().expect("an authority");
        let (_, pem) = parse_x509_pem(certificate.as_bytes()).expect("PEM");
        let parsed = pem.parse_x509().expect("a certificate");
        let constraints = parsed.name_constraints().expect("well formed").expect("some").value;
        let permitted = constraints.permitted_subtrees.as_deref().expect("some");
        assert!(matches!(permitted, [only] if only.base == GeneralName::DNSName("localhost")), "{permitted:?}");
        assert!(constraints.excluded_subtrees.is_none(), "{constraints:?}");
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let directory = std::env::temp_dir().join(format!("interlock-authority-{}", uuid::Uuid::new_v4()));
        let made: Vec<DevCertificate> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| certificate(&directory).expect("a certificate"))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let trusted = fs::read_to_string(&made[0].authority).expect("the authority");
        let again = certificate(&directory).expect("a certificate");
        assert_eq!(fs::read_to_string(&again.authority).expect("the authority"), trusted);
        assert_ne!(again.key, made[0].key);
        let mode = fs::metadata(directory.join("authority.pem")).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!trusted.contains("PRIVATE"), "what is given away holds no key");
        let left: Vec<_> = fs::read_dir(&directory).expect("a directory").collect();
        assert_eq!(left.len(), 2, "{left:?}");
        fs::remove_dir_all(directory).expect("it was ours");
    }
}
