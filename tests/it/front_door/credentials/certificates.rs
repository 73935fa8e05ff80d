//! Client certificates instead of keys.

use std::time::{Duration, Instant};

use interlock::config::Auth;
use interlock::proto::{self, Role};
use tonic::Code;
use tonic::transport::{Channel, ClientTlsConfig, Identity};

use super::revocation::end_of;
use super::scene::*;
use crate::front_door::tls::{Files, NAME, trusting};
use crate::harness::*;

const INFO: &str = "/interlock.v1.AdminService/GetServerInfo";
const SUBMIT: &str = "/interlock.v1.JobService/SubmitJob";

async fn connect(server: &Server, tls: ClientTlsConfig) -> Result<Api, tonic::transport::Error> {
    let endpoint = Channel::from_shared(format!("https://{}", server.address)).expect("a URI");
    Ok(Api { channel: endpoint.tls_config(tls)?.connect().await? })
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_maps_to_the_principal_of_its_credential() {
    let (authority, stranger) = (Authority::new("one"), Authority::new("other"));
    let files = Files::of(&authority);
    let open = Server::start().await;
    let server = Server::over(open.database.clone(), |config| {
        files.name_in(config);
        config.auth = Some(Auth::Required);
    })
    .await;
    let scene = Scene { open, server };
    let identity = |authority: &Authority| {
        let (certificate, key) = authority.sign("worker", &[NAME, "worker.test"]);
        Identity::from_pem(certificate, key)
    };
    let trusted = || trusting(&authority.pem);
    let bare = connect(&scene.server, trusted()).await.expect("a connection");
    let shown = connect(&scene.server, trusted().identity(identity(&authority))).await.expect("a connection");

    call(&bare, INFO, &[], &[]).await.is_invalid(INFO, "no credential: send an API key");
    call(&shown, INFO, &[], &[]).await.is_invalid(INFO, "no credential has a name of the client certificate");
    // By another authority there is no connection, or none that lives to the first answer.
    if let Ok(api) = connect(&scene.server, trusted().identity(identity(&stranger))).await {
        let mut admin = api.admin();
        let answer = admin.get_server_info(proto::GetServerInfoRequest {}).await.expect_err("no call gets through");
        assert_eq!(Outcome::of(&answer).reason, "", "what refuses it is the handshake: {answer:?}");
    }

    let key = scene.new_key(&[Role::Submit], &["*"]).await;
    assert_eq!(call(&bare, INFO, &bearer(&key), &[]).await.code, Code::Ok);
    let certificate = scene
        .key_of(proto::CreateKeyRequest {
            label: "worker".to_owned(),
            roles: vec![Role::Read as i32],
            namespaces: texts(&["*"]),
            certificate_name: Some(NAME.to_owned()),
            ..Default::default()
        })
        .await;
    eventually("the certificate", async || (call(&shown, INFO, &[], &[]).await.code == Code::Ok).then_some(())).await;
    let denied = call(&shown, SUBMIT, &[], &[]).await;
    assert_eq!((denied.code, denied.reason.as_str()), (Code::PermissionDenied, "ROLE_DENIED"));
    assert_eq!(denied.metadata["principal"], format!("cert:{NAME}"));
    // A key that is shown wins, whether it is right or wrong.
    assert_eq!(call(&shown, SUBMIT, &bearer(&key), &[]).await.reason, "INVALID_FIELD");
    let wrong = Key { token: format!("il_zzzzzzzz{}", &key.token[11..]), ..key.clone() };
    call(&shown, INFO, &bearer(&wrong), &[]).await.is_invalid(INFO, "no such API key");

    scene.open.api.submit(new_job("film", vec![new_stage("cut")])).await;
    let watch = proto::WatchJobRequest { job_id: "film".to_owned(), ..Default::default() };
    let watch = ok(shown.jobs().watch_job(watch).await);
    scene.revoke(&certificate).await;
    let end = Outcome::of(&end_of(watch).await);
    end.is_invalid("WatchJob", "valid no longer");
    call(&shown, INFO, &[], &[]).await.is_invalid(INFO, "no credential has a name of the client certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_ends_when_its_client_certificate_expires() {
    let authority = Authority::new("one");
    let files = Files::of(&authority);
    let open = Server::start().await;
    let server = Server::over(open.database.clone(), |config| {
        files.name_in(config);
        config.auth = Some(Auth::Required);
    })
    .await;
    let scene = Scene { open, server };
    scene
        .key_of(proto::CreateKeyRequest {
            label: "worker".to_owned(),
            roles: vec![Role::Read as i32],
            namespaces: texts(&["*"]),
            certificate_name: Some(NAME.to_owned()),
            ..Default::default()
        })
        .await;
    scene.open.api.submit(new_job("film", vec![new_stage("cut")])).await;
    let (certificate, key) = authority.sign_for(Duration::from_secs(6), "worker", &[NAME]);
    let identity = trusting(&authority.pem).identity(Identity::from_pem(certificate, key));
    let shown = connect(&scene.server, identity.clone()).await.expect("a connection");
    let watch = proto::WatchJobRequest { job_id: "film".to_owned(), ..Default::default() };
    let watch = ok(shown.jobs().watch_job(watch).await);
    let began = Instant::now();
    let end = end_of(watch).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}: {end:?}", began.elapsed());
    // What ends is the connection: there is no answer of ours, and no other connection with this certificate, once its last second is over.
    assert_eq!(Outcome::of(&end).reason, "", "{end:?}");
    eventually("no other connection", async || {
        let Ok(api) = connect(&scene.server, identity.clone()).await else { return Some(()) };
        api.admin().get_server_info(proto::GetServerInfoRequest {}).await.err().map(drop)
    })
    .await;
}
