//! The verbs that ask a server, over TLS and with an API key.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use interlock::config::Auth;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::verb::Ended;
use crate::harness::*;

const KEY: &str = "il_abcdefgh_0123456789012345678901234567890123456789012";

/// A directory of one test.
struct Files(PathBuf);

impl Files {
    fn new() -> Files {
        let directory = std::env::temp_dir().join(format!("interlock-shell-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&directory).expect("a directory");
        Files(directory)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left is in the directory for temporary files.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// TLS of a server; `clients` requires certificates that this authority has signed.
fn tls(issued: &Issued, clients: Option<&AuthorityFiles>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&authority.file).expect("PEM")).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("an authority"))
        }
    };
    let chain = vec![CertificateDer::from_pem_file(&issued.certificate).expect("PEM")];
    let key = PrivateKeyDer::from_pem_file(&issued.key).expect("PEM");
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

type Seen = Arc<Mutex<Vec<String>>>;

/// A server that refuses every call with a status, and remembers the credentials that were sent.
async fn refusing(status: u16, tls: Option<TlsAcceptor>) -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen = Seen::default();
    let remembered = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, seen) = (tls.clone(), remembered.clone());
            tokio::spawn(async move {
                let Some(tls) = tls else { return refuse(stream, status, seen).await };
                if let Ok(stream) = tls.accept(stream).await {
                    refuse(stream, status, seen).await;
                }
            });
        }
    });
    (port, seen)
}

async fn refuse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, status: u16, seen: Seen) {
    let service = service_fn(move |request: Request<Incoming>| {
        let header = request.headers().get("authorization").map(|value| value.to_str().expect("text").to_owned());
        seen.lock().expect("no panic").push(header.unwrap_or_default());
        let response = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", status)
            .header("grpc-message", "refused")
            .body(http_body_util::Empty::<bytes::Bytes>::new());
        async move { Ok::<_, Infallible>(response.expect("a response")) }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ended = connection.serve_connection(TokioIo::new(stream), service).await;
}

/// Runs a verb with this environment and no other of ours.
async fn run(environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_interlock"));
    for variable in ["SERVER", "NAMESPACE", "API_KEY", "CA", "CERT", "CERT_KEY"] {
        command.env_remove(format!("INTERLOCK_{variable}"));
    }
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("the program");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The token of a new key, made on the database alone.
async fn new_key(database: &Database, role: &str) -> String {
    let arguments = ["key", "create", "--label", "a", "--role", role, "--namespaces", "*"];
    let printed = run(&[("INTERLOCK_DATABASE_URL", database.url())], &arguments).await.ok();
    printed.lines().last().expect("a token").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_work_over_tls_with_a_client_certificate_and_a_key() {
    let files = Files::new();
    let authority = AuthorityFiles::new(&files.0, "authority");
    let (own, client) = (authority.issue("server", &["localhost"]), authority.issue("client", &["client"]));
    let database = Database::fresh().await;
    let (submits, reads) = (new_key(&database, "submit").await, new_key(&database, "read").await);
    let server = Server::over(database, |config| {
        config.auth = Some(Auth::Required);
        config.tls_cert = Some(own.certificate.clone());
        config.tls_key = Some(own.key.clone());
        config.tls_client_ca = Some(authority.file.clone());
    })
    .await;
    let path = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    let (url, ca) = (format!("https://localhost:{}", server.address.port()), path(&authority.file));
    let (cert, private) = (path(&client.certificate), path(&client.key));
    let flags = ["--server", &url, "--ca", &ca, "--cert", &cert, "--cert-key", &private];
    let submit = ["job", "submit", "--kind", "film", "--stages", "a,b", "--job-id", "secure"];
    run(&[("INTERLOCK_API_KEY", &submits)], &[&submit[..], &flags].concat()).await.ok();
    let environment = |key: &str| {
        [
            ("INTERLOCK_SERVER".to_owned(), url.clone()),
            ("INTERLOCK_CA".to_owned(), ca.clone()),
            ("INTERLOCK_CERT".to_owned(), cert.clone()),
            ("INTERLOCK_CERT_KEY".to_owned(), private.clone()),
            ("INTERLOCK_API_KEY".to_owned(), key.to_owned()),
        ]
    };
    let with = async |key: &str, arguments: &[&str]| {
        let environment = environment(key);
        let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        run(&environment, arguments).await
    };
    let shown = with(&reads, &["job", "get", "secure"]).await.ok();
    assert!(shown.contains("secure"), "{shown}");
    let denied = with(&reads, &["job", "cancel", "secure"]).await.failed(3);
    assert!(denied.contains("PERMISSION_DENIED / ROLE_DENIED") && denied.contains("submit"), "{denied}");
    let unknown = with(KEY, &["job", "get", "secure"]).await.failed(3);
    assert!(unknown.contains("UNAUTHENTICATED / CREDENTIAL_INVALID") && unknown.contains("set INTERLOCK_API_KEY"));
    assert!(!unknown.contains(KEY), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_client_certificate_is_reported_with_its_flag() {
    let files = Files::new();
    let authority = AuthorityFiles::new(&files.0, "authority");
    let (port, seen) = refusing(0, Some(tls(&authority.issue("server", &["localhost"]), Some(&authority)))).await;
    let (url, ca) = (format!("https://localhost:{port}"), authority.file.to_str().expect("UTF-8"));
    let without = run(&[], &["job", "get", "a", "--server", &url, "--ca", ca]).await.failed(4);
    assert!(without.contains("--cert"), "{without}");
    assert!(seen.lock().expect("no panic").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_tls_are_reported_with_advice() {
    let files = Files::new();
    let (authority, stranger) = (AuthorityFiles::new(&files.0, "authority"), AuthorityFiles::new(&files.0, "stranger"));
    let (ca, other) = (authority.file.to_str().expect("UTF-8"), stranger.file.to_str().expect("UTF-8"));
    let get = async |scheme: &str, port: u16, ca: Option<&str>| {
        let url = format!("{scheme}://localhost:{port}");
        let mut arguments = vec!["job", "get", "a", "--server", &url];
        arguments.extend(ca.into_iter().flat_map(|ca| ["--ca", ca]));
        run(&[], &arguments).await.failed(4)
    };
    let (good, _) = refusing(0, Some(tls(&authority.issue("server", &["localhost"]), None))).await;
    for wrong in [Some(other), None] {
        let printed = get("https", good, wrong).await;
        assert!(printed.contains("UnknownIssuer") && printed.contains("--ca"), "{printed}");
    }
    let printed = get("http", good, None).await;
    assert!(printed.contains("use https://"), "{printed}");
    let (misnamed, _) = refusing(0, Some(tls(&authority.issue("misnamed", &["elsewhere.test"]), None))).await;
    let printed = get("https", misnamed, Some(ca)).await;
    assert!(printed.contains("for other names than the host of --server"), "{printed}");
    let (expired, _) = refusing(0, Some(tls(&authority.issue_expired("expired", &["localhost"]), None))).await;
    let printed = get("https", expired, Some(ca)).await;
    assert!(printed.contains("has expired"), "{printed}");
    let (plain, _) = refusing(0, None).await;
    let printed = get("https", plain, Some(ca)).await;
    assert!(printed.contains("use http://"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_goes_with_calls_and_streams_and_is_never_shown() {
    let (port, seen) = refusing(16, None).await;
    let server = format!("http://127.0.0.1:{port}");
    // What is empty is not said.
    let environment = [("INTERLOCK_SERVER", &*server), ("INTERLOCK_CA", ""), ("INTERLOCK_API_KEY", KEY)];
    let verbs: [&[&str]; 4] = [&["job", "get", "a"], &["job", "list"], &["job", "cancel", "a"], &["job", "watch", "a"]];
    for verb in verbs {
        let printed = run(&environment, verb).await.failed(3);
        assert!(printed.contains("UNAUTHENTICATED") && printed.contains("set INTERLOCK_API_KEY"), "{printed}");
        assert!(!printed.contains(KEY), "{printed}");
    }
    let sent = std::mem::take(&mut *seen.lock().expect("no panic"));
    assert!(sent.len() >= verbs.len() && sent.iter().all(|sent| *sent == format!("Bearer {KEY}")), "{sent:?}");
    run(&environment, &["job", "get", "a", "--key", "il_other"]).await.failed(3);
    run(&environment[..2], &["job", "get", "a"]).await.failed(3);
    assert_eq!(*seen.lock().expect("no panic"), ["Bearer il_other", ""]);
    let help = run(&environment, &["job", "get", "--help"]).await.ok();
    assert!(help.contains("INTERLOCK_API_KEY") && !help.contains(KEY), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_tls_that_cannot_be_used_end_the_verb_before_it_calls() {
    for (environment, printed) in [
        (("INTERLOCK_CA", "/nowhere/ca.pem"), "--ca: cannot read \"/nowhere/ca.pem\""),
        (("INTERLOCK_CERT", "/nowhere/cert.pem"), "--cert: needs --cert-key"),
        (("INTERLOCK_API_KEY", "a\nb"), "--key (INTERLOCK_API_KEY): has a character"),
    ] {
        let error = run(&[environment], &["job", "get", "a", "--server", "https://localhost:1"]).await.failed(2);
        assert!(error.contains(printed), "{error}");
    }
    let error = run(&[("INTERLOCK_CA", "/a.pem")], &["job", "get", "a", "--server", "localhost:1"]).await.failed(2);
    assert!(error.contains("--ca (INTERLOCK_CA): needs a --server that begins with https://"), "{error}");
}
