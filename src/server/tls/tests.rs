//! Accepted certificates and keys, and the errors of others.

use rcgen::{CertificateParams, DnType, KeyPair, SanType};

use super::*;

fn pair(params: CertificateParams) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

fn localhost() -> (String, String) {
    pair(CertificateParams::new(vec!["localhost".to_owned()]).expect("a name"))
}

#[test]
fn names_are_uris_then_hosts_then_the_common_name() {
    let mut params = CertificateParams::new(vec!["worker.example".to_owned(), "10.0.0.1".to_owned()]).expect("names");
    params.subject_alt_names.push(SanType::URI("spiffe://example/worker".try_into().expect("ASCII")));
    params.distinguished_name.push(DnType::CommonName, "worker");
    let (certificate, _) = pair(params);
    let certificate = &certificates(certificate.as_bytes()).expect("a certificate")[0];
    assert_eq!(*names::of(certificate), ["spiffe://example/worker", "worker.example", "worker"]);
    assert!(names::expires(certificate).is_some_and(|at| at > SystemTime::now()));
}

#[test]
fn what_does_not_fit_is_refused_by_the_name_of_its_flag() {
    let (certificate, key) = localhost();
    let (_, other_key) = localhost();
    assert!(ServerTls::from_pem(&certificate, &key).is_ok());
    for (certificate, key, named) in [
        (certificate.as_str(), other_key.as_str(), "--tls-cert and --tls-key"),
        ("", key.as_str(), "--tls-cert"),
        (key.as_str(), key.as_str(), "--tls-cert"),
        (certificate.as_str(), "", "--tls-key"),
        (certificate.as_str(), certificate.as_str(), "--tls-key"),
    ] {
        let error = ServerTls::from_pem(certificate, key).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(error.contains(named), "{named}: {error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}

#[test]
fn new_files_are_used_and_broken_ones_are_not() {
    let directory = std::env::temp_dir().join(format!("interlock-tls-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&directory).expect("a directory");
    let path = |name: &str| directory.join(name);
    let write = |(certificate, key): &(String, String)| {
        std::fs::write(path("cert.pem"), certificate).expect("a file");
        std::fs::write(path("key.pem"), key).expect("a file");
    };
    write(&localhost());
    let config = Config { tls_cert: Some(path("cert.pem")), tls_key: Some(path("key.pem")), ..Config::default() };
    let tls = ServerTls::from_config(&config).expect("good files").expect("they are named");
    let first = tls.current().config;
    tls.look();
    assert!(Arc::ptr_eq(&first, &tls.current().config), "nothing has changed");
    write(&(localhost().0, localhost().1));
    tls.look();
    assert!(Arc::ptr_eq(&first, &tls.current().config), "certificate and key do not fit each other");
    std::fs::remove_file(path("key.pem")).expect("the file is there");
    tls.look();
    assert!(Arc::ptr_eq(&first, &tls.current().config), "a file is missing");
    write(&localhost());
    tls.look();
    assert!(!Arc::ptr_eq(&first, &tls.current().config), "the new files are good");
    std::fs::remove_dir_all(directory).expect("it was ours");
}
