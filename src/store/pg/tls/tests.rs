//! What the parameters mean, what is said of those that cannot be used, and which certificates are trusted.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};

use super::*;
use crate::store::pg::connection::Target;

fn settings(sslmode: &str, sslrootcert: &str) -> Result<TlsSettings, String> {
    let some = |text: &str| Some(text.to_owned());
    let parameters = Parameters { sslmode: some(sslmode), sslrootcert: some(sslrootcert), sslcert: None, sslkey: None };
    TlsSettings::of(parameters).map_err(|error| error.to_string())
}

#[test]
fn sslmode_has_the_meaning_of_libpq() {
    for (mode, roots, used, verify) in [
        ("", "", SslMode::Prefer, Verify::Nothing),
        ("disable", "", SslMode::Disable, Verify::Nothing),
        ("disable", "a.pem", SslMode::Disable, Verify::Nothing),
        ("prefer", "", SslMode::Prefer, Verify::Nothing),
        ("require", "", SslMode::Require, Verify::Nothing),
        ("require", "a.pem", SslMode::Require, Verify::Authority),
        ("verify-ca", "a.pem", SslMode::Require, Verify::Authority),
        ("verify-full", "a.pem", SslMode::Require, Verify::Full),
        ("verify-full", "system", SslMode::Require, Verify::Full),
        ("", "system", SslMode::Require, Verify::Full),
    ] {
        let settings = settings(mode, roots).expect("good settings");
        assert_eq!((settings.mode, settings.verify), (used, verify), "{mode} {roots}");
    }
}

#[test]
fn a_bad_parameter_is_named_and_the_password_is_not_shown() {
    let directory = std::env::temp_dir().join(format!("interlock-sslroot-{}", uuid::Uuid::new_v4()));
    std::fs::write(&directory, "no certificate").expect("a file");
    let file = directory.display();
    for (query, said) in [
        ("sslmode=strict".to_owned(), "sslmode: \"strict\" is unknown; it is disable, prefer, require, verify-ca or"),
        ("sslmode=allow".to_owned(), "sslmode: allow is not supported"),
        ("sslmode=verify-full".to_owned(), "sslrootcert: is missing, and sslmode=verify-full needs it"),
        ("sslmode=verify-ca".to_owned(), "sslrootcert: is missing, and sslmode=verify-ca needs it"),
        ("sslmode=require&sslrootcert=system".to_owned(), "sslrootcert: system needs sslmode=verify-full"),
        ("sslmode=disable&sslrootcert=system".to_owned(), "sslrootcert: system needs sslmode=verify-full"),
        ("sslrootcert=/nowhere/a.pem".to_owned(), "sslrootcert: /nowhere/a.pem cannot be read: No such file"),
        (format!("sslrootcert={file}"), "holds no certificate in PEM"),
        (format!("sslcert={file}"), "sslkey: is missing"),
        (format!("sslkey={file}"), "sslcert: is missing"),
        ("sslmode=%ff".to_owned(), "sslmode: is not UTF-8"),
        ("sslcrl=a".to_owned(), "unknown option `sslcrl`"),
    ] {
        let error = Target::parse(&format!("postgres://me:canary@h/d?{query}")).err().expect("bad parameters");
        let error = format!("{error} {error:?}");
        assert!(error.contains(said), "{query}: {error}");
        assert!(!error.contains("canary"), "{error}");
    }
    std::fs::remove_file(&directory).expect("it is there");
}

struct Signed {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn signed(names: &[&str], common: &str, is_authority: bool, by: Option<&Signed>) -> Signed {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, common);
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().expect("a key");
    let certificate = match by {
        Some(by) => params.signed_by(&key, &by.issuer),
        None => params.self_signed(&key),
    };
    Signed { der: certificate.expect("a certificate").der().clone(), issuer: Issuer::new(params, key) }
}

fn verified(verify: Verify, root: &Signed, server: &Signed, host: &'static str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(root.der.clone()).expect("an authority");
    let trusted = Trusted { roots, pinned: vec![root.der.clone()] };
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let name = ServerName::try_from(host).expect("a name");
    let verifier = Verifier { verify, trusted, algorithms };
    verifier.verify_server_cert(&server.der, &[], &name, &[], UnixTime::now()).map(drop)
}

#[test]
fn verification_depends_on_sslmode() {
    let (root, other) = (signed(&[], "root", true, None), signed(&[], "other", true, None));
    let server = signed(&["db.example"], "ignored.example", false, Some(&root));
    for (verify, root, host, is_good) in [
        (Verify::Full, &root, "db.example", true),
        (Verify::Full, &root, "elsewhere.example", false),
        (Verify::Full, &root, "ignored.example", false),
        (Verify::Full, &other, "db.example", false),
        (Verify::Authority, &root, "elsewhere.example", true),
        (Verify::Authority, &other, "db.example", false),
        (Verify::Nothing, &other, "elsewhere.example", true),
    ] {
        assert_eq!(verified(verify, root, &server, host).is_ok(), is_good, "{verify:?} {host}");
    }
}

#[test]
fn self_signed_certificate_is_trusted_if_it_is_in_sslrootcert() {
    // As `openssl req -x509` makes it: an authority, and its host in the common name.
    for is_authority in [true, false] {
        let own = signed(&[], "db.example", is_authority, None);
        let another = signed(&[], "db.example", is_authority, None);
        assert_eq!(verified(Verify::Full, &own, &own, "db.example"), Ok(()));
        assert!(verified(Verify::Full, &own, &own, "elsewhere.example").is_err());
        assert!(verified(Verify::Full, &another, &own, "db.example").is_err(), "another key under the same name");
    }
}
