//! Nothing of a secret is in logs, errors, figures or what is printed for debugging, however its key is used.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use interlock::domain::credential::{KeyText, SecretHash};
use interlock::proto::{self, Role};
use sha2::{Digest, Sha256};

use super::scene::*;
use crate::harness::*;

/// What must be found nowhere: a secret, its halves, its hash, each as it may be printed.
struct Canary {
    needles: Vec<String>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Some bytes as `{:?}` prints them inside of a list.
fn listed(bytes: &[u8]) -> String {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

impl Canary {
    fn of(key: &Key) -> Canary {
        let secret = &key.token[12..];
        let bytes = URL_SAFE_NO_PAD.decode(secret).expect("base64");
        let (hash, hash_of_text) = (Sha256::digest(&bytes), Sha256::digest(&key.token));
        let mut needles = vec![
            secret[..20].to_owned(),
            secret[20..40].to_owned(),
            STANDARD.encode(&key.token)[16..60].to_owned(),
            STANDARD_NO_PAD.encode(secret)[..50].to_owned(),
        ];
        for bytes in [&bytes[..], &hash, &hash_of_text] {
            // Halves, so that what is cut off is found too. From the second byte on, base64 is another one.
            for half in [&bytes[..15], &bytes[15..30]] {
                needles.extend([hex(half), hex(half).to_uppercase(), listed(&half[..6])]);
                needles.extend([URL_SAFE_NO_PAD.encode(half), STANDARD_NO_PAD.encode(half)]);
            }
        }
        Canary { needles }
    }

    #[track_caller]
    fn is_not_in(&self, what: &str, text: &str) {
        for needle in &self.needles {
            let Some(at) = text.find(needle) else { continue };
            let around: String = text[at.saturating_sub(300)..].chars().take(300).collect();
            panic!("{what} tells {needle:?} of a secret, after: {around}");
        }
    }
}

/// All ways in which a client may send a key, most of them wrong.
fn ways(key: &Key) -> Vec<Vec<(&'static str, String)>> {
    let token = &key.token;
    let flipped: String = token.chars().rev().collect();
    [
        ("authorization", format!("Bearer {token}")),
        ("authorization", format!("bearer {token}")),
        ("authorization", token.clone()),
        ("authorization", format!("Bearer  {token}")),
        ("authorization", format!("Bearer {token}x")),
        ("authorization", format!("Bearer {}", &token[..50])),
        ("authorization", format!("Basic {}", STANDARD.encode(format!("user:{token}")))),
        ("authorization", format!("Bearer {flipped}")),
        ("authorization", format!("Bearer il_zzzzzzzz{}", &token[11..])),
        ("x-api-key", token.clone()),
    ]
    .into_iter()
    .map(|way| vec![way])
    .chain([vec![("authorization", format!("Bearer {token}")), ("authorization", format!("Bearer {token}"))]])
    .collect()
}

/// A request over HTTP/1.1, as from a browser.
async fn by_http1(program: &Program, key: &Key) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(program.address).await.expect("it listens");
    let request = format!(
        "POST /interlock.v1.JobService/GetJob HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-length: 0\r\n\r\n",
        key.token
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("read");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Uses keys of a server in every way, and looks for them in all it tells.
async fn run(level: &str) {
    let open = Server::start().await;
    let (program, log) = Program::logged_with(&open.database, level, &["--auth", "required"], &[]).await;
    let scene = Scene { server: guarded(&open).await, open };
    let admin = scene.key(&[Role::Admin], &["*"]).await;
    let mut canaries = vec![Canary::of(&admin)];
    let (mut received, api) = (String::new(), &program.api);

    // Created, rotated and revoked through the server whose log is read.
    let create = proto::CreateKeyRequest {
        label: "canary".to_owned(),
        roles: vec![Role::Submit as i32],
        namespaces: texts(&["default"]),
        request_id: request_id(),
        ..Default::default()
    };
    let created = ok(api.admin().create_key(keyed(&admin, create.clone())).await);
    let key = Key { id: created.key.expect("a key").key_id, token: created.bearer_token };
    received += &format!("{:?}", ok(api.admin().create_key(keyed(&admin, create)).await));
    let rotate = proto::RotateKeyRequest { key_id: key.id.clone(), ..Default::default() };
    let token = ok(api.admin().rotate_key(keyed(&admin, rotate)).await).bearer_token;
    let rotated = Key { token, ..key.clone() };
    canaries.extend([Canary::of(&key), Canary::of(&rotated)]);

    let methods = [
        "/interlock.v1.JobService/SubmitJob",
        "/interlock.v1.AdminService/ListKeys",
        "/interlock.v1.JobService/WatchJobs",
    ];
    let ways = async |received: &mut String| {
        for key in [&key, &rotated] {
            for (way, method) in ways(key).iter().flat_map(|way| methods.map(|method| (way, method))) {
                received.push_str(&format!("{:?}\n", call(api, method, way, &[]).await));
            }
            received.push_str(&by_http1(&program, key).await);
        }
    };
    ways(&mut received).await;
    // As other things than a credential.
    let misused = proto::RevokeKeyRequest { key_id: key.token.clone(), ..Default::default() };
    received += &format!("{:?}", api.admin().revoke_key(keyed(&admin, misused)).await.expect_err("no id"));
    let revoke = proto::RevokeKeyRequest { key_id: key.id.clone(), ..Default::default() };
    received += &format!("{:?}", ok(api.admin().revoke_key(keyed(&admin, revoke)).await));
    scene.key_is(&rotated, "was revoked").await;
    ways(&mut received).await;

    received += &format!("{:?}", ok(api.admin().list_keys(keyed(&admin, proto::ListKeysRequest::default())).await));
    received += &format!("{:?}", ok(api.admin().get_statistics(keyed(&admin, proto::GetStatisticsRequest {})).await));
    let audit = proto::ListAuditEventsRequest::default();
    received += &format!("{:?}", ok(api.admin().list_audit_events(keyed(&admin, audit)).await));
    let text = KeyText::parse(&rotated.token).expect("a key");
    received += &format!("{text:?} {:?} {:?}", text.secret, SecretHash::of(&text.secret));

    eventually("the line about refused calls", async || {
        log.text().contains("calls were refused for their credential").then_some(())
    })
    .await;
    program.terminate();
    program.ended().await;
    assert!(received.len() > 10_000 && log.text().len() > 300, "{} {}", received.len(), log.text().len());
    for canary in &canaries {
        canary.is_not_in("an answer", &received);
        canary.is_not_in("the log", &log.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_logs_or_answers_at_the_level_trace() {
    run("trace").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_logs_of_libraries_at_the_level_trace() {
    run("trace,interlock=trace").await;
}
