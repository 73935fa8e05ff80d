//! Servers that require credentials, keys for them, and calls with any key.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use interlock::config::Auth;
use interlock::proto::{self, Role};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::bad_input::raw::Bytes;
use crate::harness::*;

/// All roles, each by the letter that tables of tests have for it.
pub const ROLES: [(char, Role); 5] =
    [('r', Role::Read), ('s', Role::Submit), ('w', Role::Work), ('o', Role::Operate), ('a', Role::Admin)];

/// A server that requires credentials, and one on the same database that does not, which creates them.
pub struct Scene {
    pub open: Server,
    pub server: Server,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub token: String,
}

/// How a call ended; of a stream, its first message counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub code: Code,
    pub reason: String,
    pub message: String,
    pub metadata: HashMap<String, String>,
}

impl Scene {
    pub async fn start() -> Scene {
        let open = Server::start().await;
        let server = guarded(&open).await;
        Scene { open, server }
    }

    /// A key with roles in namespaces, which the server knows: while the machine is busy it can be a while until it has read of it.
    pub async fn key(&self, roles: &[Role], namespaces: &[&str]) -> Key {
        let key = self.new_key(roles, namespaces).await;
        let info = "/interlock.v1.AdminService/GetServerInfo";
        eventually("a key that is known", async || {
            (call_once(&self.server.api, info, &bearer(&key), &[]).await.code == Code::Ok).then_some(())
        })
        .await;
        key
    }

    /// A key that the server has not heard of.
    pub async fn new_key(&self, roles: &[Role], namespaces: &[&str]) -> Key {
        self.key_of(proto::CreateKeyRequest {
            label: "test".to_owned(),
            roles: roles.iter().map(|role| *role as i32).collect(),
            namespaces: texts(namespaces),
            ..Default::default()
        })
        .await
    }

    pub async fn key_of(&self, request: proto::CreateKeyRequest) -> Key {
        let created = ok(self.open.api.admin().create_key(request).await);
        Key { id: created.key.expect("a key").key_id, token: created.bearer_token }
    }

    pub async fn revoke(&self, key: &Key) {
        let request = proto::RevokeKeyRequest { key_id: key.id.clone(), ..Default::default() };
        assert!(ok(self.open.api.admin().revoke_key(request).await).applied);
    }

    /// Gives a key another secret; the one before it stays valid for so many milliseconds.
    pub async fn rotate(&self, key: &Key, grace: i64) -> Key {
        let request =
            proto::RotateKeyRequest { key_id: key.id.clone(), grace_period: millis(grace), ..Default::default() };
        let token = ok(self.open.api.admin().rotate_key(request).await).bearer_token;
        Key { token, ..key.clone() }
    }

    /// Waits until a key gets this answer of a call that any valid key may make.
    pub async fn key_is(&self, key: &Key, what: &str) {
        eventually(what, async || {
            let outcome = call(&self.server.api, "/interlock.v1.AdminService/GetServerInfo", &bearer(key), &[]).await;
            outcome.message.contains(what).then_some(())
        })
        .await;
    }
}

/// Another server on the database of one, which requires credentials.
pub async fn guarded(beside: &Server) -> Server {
    Server::over(beside.database.clone(), |config| config.auth = Some(Auth::Required)).await
}

pub fn bearer(key: &Key) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {}", key.token))]
}

/// A request with a key.
pub fn keyed<T>(key: &Key, message: T) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in bearer(key) {
        request.metadata_mut().insert(name, value.parse().expect("ASCII"));
    }
    request
}

/// A request with a key in a namespace.
pub fn keyed_within<T>(key: &Key, namespace: &str, message: T) -> Request<T> {
    let mut request = keyed(key, message);
    request.metadata_mut().insert("interlock-namespace", namespace.parse().expect("ASCII"));
    request
}

/// Calls a method with a message without fields; again, as clients do, while credentials cannot be checked because the machine is busy.
pub async fn call(api: &Api, path: &str, metadata: &[(&'static str, String)], message: &[u8]) -> Outcome {
    let until = Instant::now() + PATIENCE;
    loop {
        let outcome = call_once(api, path, metadata, message).await;
        let is_unchecked = outcome.code == Code::Unavailable && outcome.message.contains("cannot be checked now");
        if !is_unchecked || Instant::now() > until {
            return outcome;
        }
    }
}

/// As [`call`], without a second try.
pub async fn call_once(api: &Api, path: &str, metadata: &[(&'static str, String)], message: &[u8]) -> Outcome {
    let mut client = Grpc::new(api.channel.clone());
    client.ready().await.expect("a connection");
    let mut request = Request::new(message.to_vec());
    request.set_timeout(Duration::from_secs(20));
    for (name, value) in metadata {
        request.metadata_mut().append(*name, value.parse().expect("ASCII"));
    }
    let path: PathAndQuery = path.parse().expect("a path");
    let answered = async { client.server_streaming(request, path, Bytes).await?.into_inner().message().await };
    match answered.await {
        Ok(_) => Outcome { code: Code::Ok, reason: String::new(), message: String::new(), metadata: HashMap::new() },
        Err(status) => Outcome::of(&status),
    }
}

impl Outcome {
    pub fn of(status: &Status) -> Outcome {
        let info = status.get_error_details().error_info().cloned();
        let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
        Outcome { code: status.code(), reason, message: status.message().to_owned(), metadata }
    }

    /// Whether it is a refusal for the credential, which says this.
    #[track_caller]
    pub fn is_invalid(&self, path: &str, says: &str) {
        assert_eq!(
            (self.code, self.reason.as_str()),
            (Code::Unauthenticated, "CREDENTIAL_INVALID"),
            "{path}: {self:?}"
        );
        assert_eq!(self.metadata["outcome"], "NOT_APPLIED", "{path}");
        assert!(self.message.contains(says), "{path}: {}", self.message);
    }

    /// Whether it is a refusal for the roles of a key.
    #[track_caller]
    pub fn is_denied(&self, path: &str, key: &Key) {
        assert_eq!((self.code, self.reason.as_str()), (Code::PermissionDenied, "ROLE_DENIED"), "{path}: {self:?}");
        assert_eq!(self.metadata["outcome"], "NOT_APPLIED", "{path}");
        assert_eq!(self.metadata["principal"], format!("key:{}", key.id), "{path}");
    }
}
