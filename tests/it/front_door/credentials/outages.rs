//! Credentials while the database is away, and floods of unknown ones.

use std::time::{Duration, Instant};

use interlock::config::Auth;
use interlock::proto::{self, Role};
use tonic::Code;

use super::scene::*;
use crate::harness::*;

const INFO: &str = "/interlock.v1.AdminService/GetServerInfo";

#[tokio::test(flavor = "multi_thread")]
async fn known_keys_work_without_the_database_and_unknown_ones_are_unavailable_not_invalid() {
    let open = Server::start().await;
    let proxy = Proxy::to(&open.database).await;
    let server = Server::through(open.database.clone(), &proxy.url, |config| config.auth = Some(Auth::Required)).await;
    let scene = Scene { open, server };
    let known = scene.key(&[Role::Read], &["*"]).await;
    let short = proto::CreateKeyRequest {
        label: "short".to_owned(),
        roles: vec![Role::Read as i32],
        namespaces: texts(&["*"]),
        ttl: seconds(5),
        ..Default::default()
    };
    let short = scene.key_of(short).await;
    let info = async |key: &Key| call_once(&scene.server.api, INFO, &bearer(key), &[]).await;
    for key in [&known, &short] {
        assert_eq!(info(key).await.code, Code::Ok);
    }
    proxy.cut_to(Mode::Refuse);
    let new = scene.new_key(&[Role::Read], &["*"]).await;
    let began = Instant::now();
    let outcome = info(&new).await;
    assert_eq!((outcome.code, outcome.reason.as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    eventually("expiry without the database", async || info(&short).await.message.contains("expired").then_some(()))
        .await;
    assert_eq!(info(&known).await.code, Code::Ok, "a known key stays valid");
    scene.revoke(&known).await;
    proxy.set(Mode::Pass);
    let back = Instant::now();
    eventually("the revocation", async || info(&known).await.message.contains("revoked").then_some(())).await;
    println!("the revocation was heard of after {:?}", back.elapsed());
    eventually("the new key", async || (info(&new).await.code == Code::Ok).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_all_credentials_are_read_again() {
    let open = Server::start().await;
    let proxy = Proxy::to(&open.database).await;
    let server = Server::through(open.database.clone(), &proxy.url, |config| config.auth = Some(Auth::Required)).await;
    let scene = Scene { open, server };
    let key = scene.key(&[Role::Read], &["*"]).await;
    let info = async || call_once(&scene.server.api, INFO, &bearer(&key), &[]).await;
    assert_eq!(info().await.code, Code::Ok);
    proxy.cut_to(Mode::Refuse);
    let another = scene.new_key(&[Role::Read], &["*"]).await;
    eventually("rounds that fail", async || {
        let outcome = call_once(&scene.server.api, INFO, &bearer(&another), &[]).await;
        (outcome.code == Code::Unavailable).then_some(())
    })
    .await;
    // What a failover can do that lost a commit: a change that stands under a version which the server has read as another one.
    let revoke = format!("UPDATE api_keys SET revoke_time = now() WHERE key_id = '{}'", key.id);
    sql(scene.open.database.url()).await.batch_execute(&revoke).await.expect("the owner may");
    proxy.set(Mode::Pass);
    let back = Instant::now();
    eventually("the revocation", async || info().await.message.contains("revoked").then_some(())).await;
    // All credentials are read once a minute in any case.
    assert!(back.elapsed() < Duration::from_secs(20), "{:?}", back.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_unknown_keys_does_not_delay_other_calls() {
    let scene = Scene::start().await;
    let key = scene.key(&[Role::Read], &["*"]).await;
    assert_eq!(call_once(&scene.server.api, INFO, &bearer(&key), &[]).await.code, Code::Ok);
    let flood = Api::connect(scene.server.address).await;
    let unknown = |number: usize| Key { id: String::new(), token: format!("il_{number:08}{}", &key.token[11..]) };
    let flood = async {
        let calls = (0..800).map(|number| {
            let (flood, key) = (&flood, unknown(number));
            async move { call_once(flood, INFO, &bearer(&key), &[]).await }
        });
        futures::future::join_all(calls).await
    };
    let honest = async {
        for _ in 0..50 {
            assert_eq!(call_once(&scene.server.api, INFO, &bearer(&key), &[]).await.code, Code::Ok);
        }
    };
    let (outcomes, ()) = tokio::join!(flood, honest);
    let received = |code| outcomes.iter().filter(|outcome| outcome.code == code).count();
    assert_eq!(received(Code::Unauthenticated) + received(Code::Unavailable), outcomes.len());
    assert!(received(Code::Unauthenticated) > 0, "some are looked for");
    // And what is not known for sure is UNAVAILABLE, with the time after which to retry.
    println!(
        "{} were reported as unknown, {} to come back",
        received(Code::Unauthenticated),
        received(Code::Unavailable)
    );
}
