//! TLS for clients: who gets in, who does not, and certificates that are replaced while calls go on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use interlock::config::{Auth, Config};
use interlock::proto;
use interlock::proto::admin_service_client::AdminServiceClient;
use rustix::process::{Signal, getpid, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::harness::{Authority, Database, PATIENCE, Server, eventually};

/// What stands in the certificates of clients, beside the names of hosts.
pub const NAME: &str = "spiffe://test/worker";

/// A directory with a server's files, which goes with it.
pub struct Files(PathBuf);

impl Files {
    pub fn of(authority: &Authority) -> Files {
        let directory = std::env::temp_dir().join(format!("interlock-tls-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory).expect("a directory");
        let files = Files(directory);
        files.put(&authority.sign("server", &["localhost", "127.0.0.1"]));
        std::fs::write(files.0.join("ca.pem"), &authority.pem).expect("a file");
        files
    }

    fn put(&self, (certificate, key): &(String, String)) {
        std::fs::write(self.0.join("cert.pem"), certificate).expect("a file");
        std::fs::write(self.0.join("key.pem"), key).expect("a file");
    }

    pub fn name_in(&self, config: &mut Config) {
        config.tls_cert = Some(self.0.join("cert.pem"));
        config.tls_key = Some(self.0.join("key.pem"));
        config.tls_client_ca = Some(self.0.join("ca.pem"));
        config.auth = Some(Auth::Off);
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

pub fn trusting(roots: &str) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots)).domain_name("localhost")
}

/// Connects and makes a call.
async fn call(address: SocketAddr, tls: ClientTlsConfig) -> Result<(), String> {
    let endpoint = Channel::from_shared(format!("https://{address}")).expect("a URI");
    let endpoint = endpoint.tls_config(tls).map_err(|error| format!("{error:?}"))?;
    let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
    let answer = AdminServiceClient::new(channel).get_server_info(proto::GetServerInfoRequest {}).await;
    answer.map(drop).map_err(|status| format!("{status:?}"))
}

/// What a handshake without a call agrees on: the protocol, and the certificate presented.
async fn handshake(address: SocketAddr, roots: &str, protocols: &[&str]) -> (Option<Vec<u8>>, CertificateDer<'static>) {
    let mut store = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(root.expect("PEM")).expect("an authority");
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
    let connection = stream.get_ref().1;
    let certificate = connection.peer_certificates().expect("certificates")[0].clone().into_owned();
    (connection.alpn_protocol().map(<[u8]>::to_vec), certificate)
}

async fn server(files: &Files) -> Server {
    Server::over(Database::fresh().await, |config| files.name_in(config)).await
}

#[tokio::test]
async fn clients_that_trust_the_authority_are_served_over_http_2() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let files = Files::of(&authority);
    let server = server(&files).await;
    assert_eq!(call(server.address, trusting(&authority.pem)).await, Ok(()));
    let distrusting = call(server.address, trusting(&other.pem)).await;
    assert!(distrusting.as_ref().is_err_and(|error| error.contains("InvalidCertificate")), "{distrusting:?}");
    let elsewhere = call(server.address, trusting(&authority.pem).domain_name("example.com")).await;
    assert!(elsewhere.as_ref().is_err_and(|error| error.contains("NotValidForName")), "{elsewhere:?}");
    for (offered, chosen) in [(&["h2", "http/1.1"][..], &b"h2"[..]), (&["http/1.1"][..], &b"http/1.1"[..])] {
        assert_eq!(handshake(server.address, &authority.pem, offered).await.0.as_deref(), Some(chosen));
    }
    server.stop().await;
}

#[tokio::test]
async fn client_certificates_are_verified_where_they_are_presented() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let files = Files::of(&authority);
    let server = server(&files).await;
    let with = |(certificate, key): (String, String)| {
        call(server.address, trusting(&authority.pem).identity(Identity::from_pem(certificate, key)))
    };
    assert_eq!(with(authority.sign("worker", &[NAME, "worker"])).await, Ok(()));
    assert!(with(other.sign("worker", &[NAME, "worker"])).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn plaintext_and_tls_mismatches_fail_quickly() {
    let authority = Authority::new("one");
    let files = Files::of(&authority);
    let secured = server(&files).await;
    let plain = Server::start().await;
    let began = Instant::now();
    let channel = Channel::from_shared(format!("http://{}", secured.address)).expect("a URI").connect_lazy();
    let answer = AdminServiceClient::new(channel).get_server_info(proto::GetServerInfoRequest {}).await;
    assert!(answer.is_err());
    assert!(call(plain.address, trusting(&authority.pem)).await.is_err());
    // Far below the time that a silent connection gets.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    secured.stop().await;
    plain.stop().await;
}

/// The beginning of a handshake that never goes on.
pub const HALF_A_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[tokio::test]
async fn stalled_handshakes_lose_their_places() {
    let authority = Authority::new("one");
    let files = Files::of(&authority);
    let server = Server::over(Database::fresh().await, |config| {
        files.name_in(config);
        config.max_connections = 8;
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.write_all(HALF_A_HELLO).await.expect("sent");
        slow.push(stream);
    }
    eventually("all places are taken", || async { call(server.address, trusting(&authority.pem)).await.err() }).await;
    for mut stream in slow {
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "a handshake has ten seconds");
    }
    eventually("the places are free again", || async { call(server.address, trusting(&authority.pem)).await.ok() })
        .await;
    server.stop().await;
}

#[tokio::test]
async fn new_certificates_are_taken_into_use_while_calls_go_on() {
    let (authority, next) = (Authority::new("one"), Authority::new("other"));
    let files = Files::of(&authority);
    let server = server(&files).await;
    let both = format!("{}{}", authority.pem, next.pem);
    let (address, stop, calls) = (server.address, Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = {
        let (stop, calls, both) = (stop.clone(), calls.clone(), both.clone());
        tokio::spawn(async move {
            let endpoint = Channel::from_shared(format!("https://{address}")).expect("a URI");
            let endpoint = endpoint.tls_config(trusting(&both)).expect("settings");
            let kept = endpoint.connect().await.expect("a connection");
            while !stop.load(Ordering::Relaxed) {
                let info = AdminServiceClient::new(kept.clone()).get_server_info(proto::GetServerInfoRequest {}).await;
                info.expect("an open connection goes on");
                call(address, trusting(&both)).await.expect("a new connection");
                calls.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let presented = || async { handshake(address, &both, &["h2"]).await.1 };
    for (authority, by_signal) in [(&next, true), (&authority, false)] {
        let before = presented().await;
        files.put(&authority.sign("server", &["localhost"]));
        if by_signal {
            // The handler is there: this server was reached.
            kill_process(getpid(), Signal::HUP).expect("this process");
        }
        eventually("the new certificate is presented", || async { (presented().await != before).then_some(()) }).await;
    }
    let before = calls.load(Ordering::Relaxed);
    eventually("calls go on", || async { (calls.load(Ordering::Relaxed) > before).then_some(()) }).await;
    stop.store(true, Ordering::Relaxed);
    tokio::time::timeout(PATIENCE, load).await.expect("in time").expect("no call has failed");
    server.stop().await;
}
