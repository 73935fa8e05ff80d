//! Credentials for operators: created, listed, revoked and rotated.

use super::caller::Caller;
use super::convert::digest::identity;
use super::convert::key;
use super::convert::path::Path;
use super::convert::time;
use super::page::{self, Binding};
use crate::domain::credential::{ApiKey, KeyId, KeyText, Proof, Secret, SecretHash};
use crate::domain::id::NamespaceId;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result, after_commit};
use crate::operation::Reply;
use crate::operation::credential::{CreateKey, RevokeKey, RotateKey};
use crate::proto;

/// CreateKey. The secret is drawn here and is not part of the operation, so a replay cannot show it.
pub async fn create_key(caller: Caller, mut request: proto::CreateKeyRequest) -> Result<proto::CreateKeyResponse> {
    let request_identity = identity(caller.namespace, &mut request)?;
    let text = KeyText { id: KeyId::of_random(rand::random()), secret: new_secret() };
    let certificate_name = key::certificate_name(request.certificate_name.as_deref())?;
    let has_token = certificate_name.is_none();
    let of_secret = || Proof::Secret { hash: SecretHash::of(&text.secret), previous: None };
    let proof = certificate_name.map_or_else(of_secret, Proof::Certificate);
    let (new, expiry) = key::new_key(text.id, proof, &request)?;
    let reply = caller.execute(CreateKey { key: new, expiry, request: request_identity }).await?;
    let replayed = reply.replayed.is_some();
    Ok(proto::CreateKeyResponse {
        key: key_after(&caller, &reply).await?,
        bearer_token: if has_token && !replayed { text.expose() } else { String::new() },
        replayed,
    })
}

pub async fn revoke_key(caller: Caller, mut request: proto::RevokeKeyRequest) -> Result<proto::RevokeKeyResponse> {
    let request_identity = identity(caller.namespace, &mut request)?;
    let operation = RevokeKey { id: key_id(&request.key_id)?, request: request_identity };
    let reply = caller.execute(operation).await?;
    let (applied, replayed) = (reply.applied, reply.replayed.is_some());
    Ok(proto::RevokeKeyResponse { key: key_after(&caller, &reply).await?, applied, replayed })
}

pub async fn rotate_key(caller: Caller, mut request: proto::RotateKeyRequest) -> Result<proto::RotateKeyResponse> {
    let request_identity = identity(caller.namespace, &mut request)?;
    let text = KeyText { id: key_id(&request.key_id)?, secret: new_secret() };
    let path = Path::Root;
    let grace = time::parse_optional_duration(
        request.grace_period.as_ref(),
        time::ROTATION_GRACE,
        &path.field("grace_period"),
    )?;
    let grace = grace.unwrap_or(time::DEFAULT_ROTATION_GRACE);
    let hash = SecretHash::of(&text.secret);
    let reply = caller.execute(RotateKey { id: text.id, hash, grace, request: request_identity }).await?;
    let replayed = reply.replayed.is_some();
    Ok(proto::RotateKeyResponse {
        key: key_after(&caller, &reply).await?,
        bearer_token: if replayed { String::new() } else { text.expose() },
        replayed,
    })
}

pub async fn list_keys(caller: Caller, request: proto::ListKeysRequest) -> Result<proto::ListKeysResponse> {
    let limit = page::size(request.page_size)?;
    let binding = Binding::of("ListKeys", NamespaceId(0), &[]);
    let after: Option<(Timestamp, String)> = binding.cursor(&request.page_token)?;
    if let Some((_, id)) = &after {
        // Tokens are not signed; this goes into a query.
        let refuse = || Error::InvalidCursor { path: "page_token", why: "is not a page token" };
        KeyId::parse(id).ok_or_else(refuse)?;
    }
    let mut found = caller.services.store.credentials_page(after, limit + 1).await?;
    let is_last = found.len() <= limit as usize;
    found.truncate(limit as usize);
    let next_page_token = match found.last() {
        Some(last) if !is_last => binding.token(&(last.create_time, last.id.as_str()))?,
        Some(_) | None => String::new(),
    };
    let now = caller.services.now().await?;
    let keys = found.iter().map(|found| key::to_proto(found, now)).collect();
    Ok(proto::ListKeysResponse { keys, next_page_token })
}

/// 256 bits of a generator that the operating system seeds, and that is meant for secrets.
fn new_secret() -> Secret {
    Secret::new(rand::random())
}

fn key_id(given: &str) -> std::result::Result<KeyId, Refusal> {
    let root = Path::Root;
    let path = root.field("key_id");
    if given.is_empty() {
        return Err(path.missing());
    }
    KeyId::parse(given).ok_or_else(|| path.refuse("must match [a-z0-9]{8}, as in `il_` + key_id + `_…`"))
}

/// The credential after a write; in a replay, as it is now. None: it has been deleted since.
async fn key_after(caller: &Caller, reply: &Reply) -> Result<Option<proto::ApiKey>> {
    let found: Option<ApiKey> = match (&reply.key, &reply.replayed) {
        (Some(key), _) => Some((**key).clone()),
        (None, Some(record)) => match record.jobs.first().and_then(|name| KeyId::of_uuid(*name)) {
            Some(id) => caller.services.store.credential(id).await.map_err(after_commit)?,
            None => None,
        },
        (None, None) => None,
    };
    let now = caller.services.engine.now();
    Ok(found.map(|found| key::to_proto(&found, now)))
}
