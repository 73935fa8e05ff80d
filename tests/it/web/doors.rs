//! Credentials, rates, statistics and TLS are those of gRPC.

use std::sync::Arc;

use interlock::config::Config;
use interlock::proto::Role;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::client::*;
use crate::front_door::credentials::scene::Scene;
use crate::front_door::tls::Files;
use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_needed_and_its_roles_and_namespaces_hold() {
    let scene = Scene::start().await;
    let reader = scene.key(&[Role::Read], &["default"]).await;
    let read = || post_json(GET_JOB, &json!({"jobId": "none"}));
    let address = scene.server.address;
    let missing = send(address, read()).await;
    missing.refused(401, "unauthenticated", "CREDENTIAL_INVALID");
    assert_eq!(missing.header("www-authenticate"), "Bearer");
    // Before the message is looked at.
    send(address, post(GET_JOB, "application/json", "{")).await.refused(401, "unauthenticated", "CREDENTIAL_INVALID");
    let bearer = format!("Bearer {}", reader.token);
    let keyed = |request: Sent| send(address, with(request, &[("authorization", &bearer)]));
    keyed(read()).await.refused(404, "not_found", "JOB_NOT_FOUND");
    keyed(get(&format!("{GET_JOB}?job_id=none"))).await.refused(404, "not_found", "JOB_NOT_FOUND");
    keyed(get(&format!("{WATCH_JOB}?job_id=none"))).await.refused(404, "not_found", "JOB_NOT_FOUND");
    keyed(post_json(SUBMIT, &json!({"kind": "film"}))).await.refused(403, "permission_denied", "ROLE_DENIED");
    let elsewhere = with(read(), &[("interlock-namespace", "secret")]);
    keyed(elsewhere).await.refused(404, "not_found", "NAMESPACE_NOT_FOUND");
    let wrong = with(read(), &[("authorization", "Bearer il_nobody")]);
    send(address, wrong).await.refused(401, "unauthenticated", "CREDENTIAL_INVALID");
    send(address, get(&format!("{WATCH_JOB}?job_id=none"))).await.refused(401, "unauthenticated", "CREDENTIAL_INVALID");
    assert_eq!(send(address, get("/")).await.status, 200);
    assert_eq!(send(address, get("/nothing")).await.status, 404);
    scene.server.stop().await;
    scene.open.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_charged_and_counted_with_those_of_grpc() {
    let server = Server::with(|config: &mut Config| config.rate_limit_write = "2/h".parse().expect("a rate")).await;
    let submit = || send(server.address, post_json(SUBMIT, &json!({"kind": "film"})));
    let grpc = async || server.api.jobs().submit_job(new_job("", vec![new_stage("voice")])).await;
    submit().await.ok();
    ok(grpc().await);
    submit().await.ok();
    // A message that is garbled is a call too.
    let garbled = send(server.address, post(SUBMIT, "application/json", "{")).await;
    garbled.refused(400, "invalid_argument", "INVALID_FIELD");
    let refused = submit().await;
    assert_eq!(refused.refused(429, "resource_exhausted", "RATE_LIMITED")["class"], "write");
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=1_800).contains(&wait), "{wait}");
    assert!(!refused.header("trailer-grpc-retry-pushback-ms").is_empty());
    assert!(detail(&refused.json(), "google.rpc.RetryInfo")["retryDelay"].is_string());
    assert!(grpc().await.is_err());
    eventually("all are counted", async || {
        let rpcs = server.api.statistics().await.rpcs;
        let calls = rpcs.into_iter().find(|rpc| rpc.method == "interlock.v1.JobService/SubmitJob")?.calls;
        let count = |code: &str| calls.get(code).copied().unwrap_or_default();
        let counted = (count("OK"), count("INVALID_ARGUMENT"), count("RESOURCE_EXHAUSTED"));
        (counted == (3, 1, 2)).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_is_served_over_tls() {
    let authority = Authority::new("one");
    let files = Files::of(&authority);
    let server = Server::with(|config| files.name_in(config)).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM")).expect("an authority");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.address).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
    let reply = send_over(stream, post_json(SUBMIT, &json!({"jobId": "film-1", "kind": "film"}))).await;
    assert_eq!(reply.ok()["job"]["jobId"], "film-1");
    server.stop().await;
}
