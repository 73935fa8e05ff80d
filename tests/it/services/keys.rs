//! API keys: what is stored of them and what is returned, repeats, rotation, revocation, bounds, and concurrent writers.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use interlock::config::Config;
use interlock::domain::credential::{KeyId, KeyRing};
use interlock::proto::{self, ApiKeyState, Role};
use interlock::store::Store;
use interlock::store::connection::Target;
use tonic::Code;

use crate::harness::*;

fn new_key(label: &str) -> proto::CreateKeyRequest {
    proto::CreateKeyRequest {
        label: label.to_owned(),
        roles: vec![Role::Work as i32, Role::Submit as i32],
        namespaces: texts(&["team-*", "default"]),
        ..Default::default()
    }
}

fn certificate(name: &str) -> proto::CreateKeyRequest {
    proto::CreateKeyRequest { certificate_name: Some(name.to_owned()), ..new_key("robot") }
}

async fn create(api: &Api, request: proto::CreateKeyRequest) -> (proto::ApiKey, String) {
    let created = ok(api.admin().create_key(request).await);
    (created.key.expect("a key"), created.bearer_token)
}

async fn list(api: &Api) -> Vec<proto::ApiKey> {
    let (mut keys, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = ok(api.admin().list_keys(proto::ListKeysRequest { page_size: 1_000, page_token }).await);
        keys.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return keys;
        }
    }
}

fn revocation(key: &proto::ApiKey) -> proto::RevokeKeyRequest {
    proto::RevokeKeyRequest { key_id: key.key_id.clone(), ..Default::default() }
}

fn rotation(key: &proto::ApiKey) -> proto::RotateKeyRequest {
    proto::RotateKeyRequest { key_id: key.key_id.clone(), ..Default::default() }
}

/// All that is stored of credentials, and of what was done with them, as text.
async fn stored(server: &Server) -> String {
    let mut all = server.column("SELECT to_jsonb(k)::text FROM api_keys k").await;
    all.extend(server.column("SELECT to_jsonb(a)::text FROM audit_events a").await);
    all.extend(server.column("SELECT to_jsonb(r)::text FROM requests r").await);
    all.join("\n")
}

#[tokio::test]
async fn a_key_is_shown_once_and_stored_as_its_hash() {
    let server = Server::start().await;
    let rates = proto::KeyRateLimits { write: Some(50), ..Default::default() };
    let request = proto::CreateKeyRequest { rate_limits: Some(rates), ttl: seconds(3_600), ..new_key("worker 7") };
    let (key, token) = create(&server.api, request).await;
    assert_eq!((&*key.label, key.state(), key.version), ("worker 7", ApiKeyState::Active, 1));
    assert_eq!(key.roles, [Role::Submit as i32, Role::Work as i32], "in the order of their numbers");
    assert_eq!((&key.namespaces, key.rate_limits), (&texts(&["team-*", "default"]), Some(rates)));
    let (created, expires) = (key.create_time.expect("a time"), key.expire_time.expect("a time"));
    assert_eq!(expires.seconds - created.seconds, 3_600);
    let secret = token.strip_prefix(&format!("il_{}_", key.key_id)).expect("its id");
    assert_eq!((key.key_id.len(), secret.len()), (8, 43));
    assert_eq!(list(&server.api).await, std::slice::from_ref(&key));

    let stored = stored(&server).await;
    assert!(stored.contains(&key.key_id) && !stored.contains(secret), "{stored}");
    // The hash is that of the 32 bytes, as any library makes it.
    let decoded = format!("decode(translate('{secret}', '-_', '+/') || '=', 'base64')");
    let same = format!("SELECT key_id FROM api_keys WHERE secret_hash = sha256({decoded})");
    assert_eq!(server.column(&same).await, [key.key_id]);
}

#[tokio::test]
async fn keys_are_listed_in_pages_the_newest_first() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for i in 0..7 {
        ids.insert(0, create(&server.api, new_key(&format!("key {i}"))).await.0.key_id);
    }
    let (mut found, mut page_token) = (Vec::new(), String::new());
    for size in [3, 3, 1] {
        let page = ok(server.api.admin().list_keys(proto::ListKeysRequest { page_size: 3, page_token }).await);
        assert_eq!(page.keys.len(), size);
        found.extend(page.keys.into_iter().map(|key| key.key_id));
        page_token = page.next_page_token;
    }
    assert!(page_token.is_empty());
    assert_eq!(found, ids);
}

#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let server = Server::start().await;
    let mut admin = server.api.admin();
    let (key, _) = create(&server.api, new_key("a")).await;
    let revoked = ok(admin.revoke_key(revocation(&key)).await);
    let after = revoked.key.expect("a key");
    assert_eq!((revoked.applied, after.state(), after.version), (true, ApiKeyState::Revoked, 2));
    let again = ok(admin.revoke_key(revocation(&key)).await);
    assert_eq!((again.applied, again.key), (false, Some(after.clone())), "its time of revocation is the first");
    refused(admin.rotate_key(rotation(&key)).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    assert_eq!(list(&server.api).await, [after]);
    let unknown = proto::ApiKey { key_id: "zzzzzzz9".to_owned(), ..Default::default() };
    refused(admin.revoke_key(revocation(&unknown)).await, Code::NotFound, "KEY_NOT_FOUND");
    refused(admin.rotate_key(rotation(&unknown)).await, Code::NotFound, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn a_rotation_makes_another_token_and_keeps_the_one_before_for_the_grace() {
    let server = Server::start().await;
    let mut admin = server.api.admin();
    let (key, first) = create(&server.api, new_key("a")).await;
    let hashes = "SELECT concat(encode(secret_hash, 'hex'), ' ', encode(previous_hash, 'hex')) FROM api_keys";
    let before = server.column(hashes).await.remove(0);
    let rotated = ok(admin.rotate_key(rotation(&key)).await);
    let (after, second) = (rotated.key.expect("a key"), rotated.bearer_token);
    assert!(second != first && second.starts_with(&format!("il_{}_", key.key_id)));
    let grace = after.grace_end_time.expect("a grace").seconds - after.create_time.expect("a time").seconds;
    assert!((3_600..3_700).contains(&grace), "{grace}");
    let [newest, previous]: [String; 2] = server
        .column(hashes)
        .await
        .remove(0)
        .split(' ')
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .try_into()
        .expect("two");
    assert_eq!((previous, newest == before.trim()), (before.trim().to_owned(), false));
    // The next one ends the first at once, and with no grace the second too.
    let request = proto::RotateKeyRequest { grace_period: seconds(0), ..rotation(&key) };
    let rotated = ok(admin.rotate_key(request).await);
    assert_eq!(rotated.key.expect("a key").grace_end_time, None);
    assert!(server.column(hashes).await.remove(0).ends_with(' '));
    let (robot, token) = create(&server.api, certificate("robot")).await;
    assert_eq!((token, &*robot.certificate_name), (String::new(), "robot"));
    refused(admin.rotate_key(rotation(&robot)).await, Code::FailedPrecondition, "INVALID_TRANSITION");
}

#[tokio::test]
async fn an_expired_key_is_listed_as_such_and_not_rotated() {
    let server = Server::start().await;
    let (key, _) = create(&server.api, proto::CreateKeyRequest { ttl: seconds(1), ..new_key("short") }).await;
    eventually("its end", async || (list(&server.api).await[0].state() == ApiKeyState::Expired).then_some(())).await;
    refused(server.api.admin().rotate_key(rotation(&key)).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    assert!(ok(server.api.admin().revoke_key(revocation(&key)).await).applied, "it may be revoked for the record");
}

#[tokio::test]
async fn a_replay_changes_nothing_and_shows_no_token() {
    let server = Server::start().await;
    let mut admin = server.api.admin();
    let request = proto::CreateKeyRequest { request_id: request_id(), ..new_key("once") };
    let first = ok(admin.create_key(request.clone()).await);
    let second = ok(admin.create_key(request.clone()).await);
    assert!(!first.replayed && second.replayed && second.bearer_token.is_empty());
    assert_eq!(first.key, second.key);
    let other = proto::CreateKeyRequest { label: "twice".to_owned(), ..request };
    refused(admin.create_key(other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    let key = first.key.expect("a key");

    let request = proto::RotateKeyRequest { request_id: request_id(), ..rotation(&key) };
    let first = ok(admin.rotate_key(request.clone()).await);
    let second = ok(admin.rotate_key(request).await);
    assert!(!first.replayed && second.replayed && second.bearer_token.is_empty());
    assert_eq!((first.key.as_ref().map(|key| key.version), first.key), (Some(2), second.key));

    let request = proto::RevokeKeyRequest { request_id: request_id(), ..revocation(&key) };
    let first = ok(admin.revoke_key(request.clone()).await);
    let second = ok(admin.revoke_key(request).await);
    assert!(first.applied && !first.replayed && second.applied && second.replayed);
    assert_eq!(first.key, second.key);
    assert_eq!(server.column("SELECT count(*)::text FROM audit_events").await, ["3"]);
}

#[tokio::test]
async fn invalid_keys_are_refused_with_the_field() {
    let server = Server::start().await;
    let admin = || server.api.admin();
    let bad = |change: &dyn Fn(&mut proto::CreateKeyRequest)| {
        let mut request = new_key("a");
        change(&mut request);
        request
    };
    let past = prost_types::Timestamp { seconds: 1_000_000_000, nanos: 0 };
    let rates = |read| Some(proto::KeyRateLimits { read: Some(read), ..Default::default() });
    let cases: Vec<(proto::CreateKeyRequest, &str)> = vec![
        (bad(&|r| r.label.clear()), "label"),
        (bad(&|r| r.label = "a\nb".to_owned()), "label"),
        (bad(&|r| r.label = "x".repeat(129)), "label"),
        (bad(&|r| r.roles.clear()), "roles"),
        (bad(&|r| r.roles.push(0)), "roles[2]"),
        (bad(&|r| r.roles = vec![1; 6]), "roles"),
        (bad(&|r| r.namespaces.clear()), "namespaces"),
        (bad(&|r| r.namespaces.push("a*b".to_owned())), "namespaces[2]"),
        (bad(&|r| r.namespaces.push(String::new())), "namespaces[2]"),
        (bad(&|r| r.namespaces = vec!["a".to_owned(); 101]), "namespaces"),
        (bad(&|r| r.expire_time = Some(past)), "expire_time"),
        (bad(&|r| r.ttl = seconds(0)), "ttl"),
        (bad(&|r| r.ttl = seconds(3_651 * 86_400)), "ttl"),
        (bad(&|r| (r.ttl, r.expire_time) = (seconds(1), Some(past))), "ttl"),
        (bad(&|r| r.rate_limits = rates(0)), "rate_limits.read"),
        (bad(&|r| r.rate_limits = rates(1_000_001)), "rate_limits.read"),
        (bad(&|r| r.certificate_name = Some(String::new())), "certificate_name"),
        (bad(&|r| r.certificate_name = Some("x".repeat(256))), "certificate_name"),
        (bad(&|r| r.request_id = Some("1".to_owned())), "request_id"),
    ];
    for (request, path) in cases {
        field(admin().create_key(request).await, path);
    }
    for key_id in ["", "ABCD1234", "abc", "abcd12345", "il_abcd1234"] {
        let key = proto::ApiKey { key_id: key_id.to_owned(), ..Default::default() };
        field(admin().revoke_key(revocation(&key)).await, "key_id");
        field(admin().rotate_key(rotation(&key)).await, "key_id");
    }
    let (key, _) = create(&server.api, new_key("a")).await;
    let request = proto::RotateKeyRequest { grace_period: seconds(7 * 86_400 + 1), ..rotation(&key) };
    field(admin().rotate_key(request).await, "grace_period");
    for page_token in ["x", "AAAAAAAAAAAA"] {
        let request = proto::ListKeysRequest { page_token: page_token.to_owned(), ..Default::default() };
        field(admin().list_keys(request).await, "page_token");
    }
    assert_eq!(list(&server.api).await, [key]);
}

/// Fills the table past the server, as ten thousand calls would.
async fn fill(server: &Server, count: usize, ended: &str) {
    let sql = sql(server.database.url()).await;
    let rows = format!(
        "INSERT INTO api_keys (key_id, version, changed_version, secret_hash, label, roles, namespaces, rates, create_time, revoke_time)
         SELECT lpad(to_hex(i), 8, '0'), 1, (SELECT version + 1 FROM key_ring), sha256(i::text::bytea), 'filled', '[\"read\"]', '[\"*\"]',
             '[null, null, null, null]', now(), {ended}
         FROM generate_series(1, {count}) i;
         UPDATE key_ring SET version = version + 1"
    );
    sql.batch_execute(&rows).await.expect("filled");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_keys_are_the_limit_and_ended_ones_go_in_time() {
    let server = Server::start().await;
    fill(&server, 9_999, "now() - interval '91 days'").await;
    let (kept, _) = create(&server.api, new_key("the last")).await;
    refused(server.api.admin().create_key(new_key("one more")).await, Code::FailedPrecondition, "LIMIT_EXCEEDED");
    assert_eq!(list(&server.api).await.len(), 10_000);
    // A server that starts looks what has to go.
    let database = server.stop().await;
    let server = Server::over(database, |_| {}).await;
    eventually("the end of old keys", async || (list(&server.api).await == [kept.clone()]).then_some(())).await;
    create(&server.api, new_key("one more")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_made_by_several_servers_at_once_are_all_there() {
    let a = Server::start().await;
    let b = a.beside().await;
    let calls = (0..60).map(|i| {
        let api = if i % 2 == 0 { &a.api } else { &b.api };
        async move { repeated(api, new_key(&format!("key {i}"))).await }
    });
    let made: BTreeSet<String> = futures::future::join_all(calls).await.into_iter().collect();
    assert_eq!(made.len(), 60);
    for server in [&a, &b] {
        assert_eq!(list(&server.api).await.into_iter().map(|key| key.key_id).collect::<BTreeSet<_>>(), made);
    }
    // One name in certificates has one credential, whoever asks and however often.
    let calls = (0..10).map(|i| {
        let api = if i % 2 == 0 { &a.api } else { &b.api };
        async move { api.admin().create_key(certificate("spiffe://robot")).await }
    });
    let answers = futures::future::join_all(calls).await;
    let won: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    for status in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!([Code::AlreadyExists, Code::Aborted].contains(&status.code()), "{status:?}");
    }
    // After it was revoked the name is free, also for a call that another server serves.
    let first = won[0].get_ref().key.clone().expect("a key");
    ok(a.api.admin().revoke_key(revocation(&first)).await);
    let (second, _) = create(&b.api, certificate("spiffe://robot")).await;
    assert_ne!(first.key_id, second.key_id);
    assert_eq!(a.column("SELECT count(*)::text FROM audit_events").await, ["63"], "an entry for each change");
}

fn store(server: &Server) -> Store {
    let target = Target::parse(server.database.url()).expect("a URL");
    Store::new(target, (&Config::default()).into()).expect("a pool")
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_changes_since_a_version_miss_none() {
    let a = Server::start().await;
    let b = a.beside().await;
    let store = store(&a);
    let is_over = AtomicBool::new(false);
    // As servers do that keep all keys in memory, only more often.
    let following = async {
        let (mut ring, mut reads) = (KeyRing::default(), 0);
        loop {
            let was_over = is_over.load(Ordering::SeqCst);
            let changes = store.credentials_changed_since(ring.version).await.expect("Postgres listens");
            assert!(changes.version >= ring.version && (changes.is_whole == (reads == 0)), "{changes:?}");
            ring.apply(changes);
            reads += 1;
            if was_over {
                return ring;
            }
        }
    };
    let writing = async {
        // One after the other, so that each server commits many groups.
        let write = async |api: &Api| {
            for i in 0..20 {
                let key_id = repeated(api, new_key(&format!("key {i}"))).await;
                let revoke = proto::RevokeKeyRequest { key_id, request_id: request_id() };
                while i % 3 == 0
                    && let Err(status) = api.admin().revoke_key(revoke.clone()).await
                {
                    assert_eq!(status.code(), Code::Aborted, "{status:?}");
                }
            }
        };
        futures::future::join_all([&a, &b, &a, &b, &a, &b].map(|server| write(&server.api))).await;
        is_over.store(true, Ordering::SeqCst);
    };
    let (ring, ()) = futures::future::join(following, writing).await;
    let all = store.credentials_changed_since(0).await.expect("Postgres listens");
    assert_eq!((all.keys.len(), all.version), (120, ring.version));
    assert_eq!(ring.iter().cloned().collect::<Vec<_>>(), all.keys);
    // One that is used is noted once an hour, and that is no change.
    let ids: Vec<KeyId> = ring.iter().take(2).map(|key| key.id).collect();
    assert_eq!(store.note_key_use(&ids).await.expect("Postgres listens"), 2);
    assert_eq!(store.note_key_use(&ids).await.expect("Postgres listens"), 0);
    assert!(store.credentials_changed_since(ring.version).await.expect("Postgres listens").keys.is_empty());
    assert!(store.credential(ids[0]).await.expect("Postgres listens").is_some_and(|key| key.last_use_time.is_some()));
    // Who knows a version that is ahead of the database, as after a restored backup, reads all again.
    let whole = store.credentials_changed_since(ring.version + 7).await.expect("Postgres listens");
    assert!(whole.is_whole && whole.keys.len() == 120);
}

/// Creates a key, once, however often other writers are in the way.
async fn repeated(api: &Api, request: proto::CreateKeyRequest) -> String {
    let request = proto::CreateKeyRequest { request_id: request_id(), ..request };
    loop {
        match api.admin().create_key(request.clone()).await {
            Ok(created) => return created.into_inner().key.expect("a key").key_id,
            Err(status) if status.code() == Code::Aborted => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(status) => panic!("{status:?}"),
        }
    }
}
