//! Credentials on the wire.

use std::sync::Arc;

use super::path::Path;
use super::{text, time};
use crate::domain::access::{NamespacePattern, RateLimits, Role, Roles};
use crate::domain::credential::{ApiKey, KeyId, KeyState, Proof};
use crate::domain::id::Name;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::operation::credential::Expiry;
use crate::proto;
use crate::rpc::limits;

/// The credential that a request asks for, without its versions and times, and when it expires.
pub fn new_key(id: KeyId, proof: Proof, request: &proto::CreateKeyRequest) -> Result<(ApiKey, Expiry), Refusal> {
    let root = Path::Root;
    let key = ApiKey {
        id,
        version: 0,
        changed_version: 0,
        proof,
        label: text::line(&request.label, limits::NAME_BYTES, &root.field("label"))?,
        roles: roles(&request.roles, &root.field("roles"))?,
        namespaces: patterns(&request.namespaces, &root.field("namespaces"))?,
        rates: rates(request.rate_limits.as_ref(), &root.field("rate_limits"))?,
        create_time: Timestamp(0),
        expire_time: None,
        revoke_time: None,
        last_use_time: None,
    };
    let expiry = expiry(request)?;
    let required = [
        ("label", !key.label.is_empty(), "is required: what the key is for"),
        ("roles", !request.roles.is_empty(), "is required: what the key permits"),
        ("namespaces", !key.namespaces.is_empty(), "is required; `*` stands for all namespaces"),
    ];
    match required.iter().find(|(_, is_set, _)| !is_set) {
        Some((name, _, why)) => Err(root.field(name).refuse(*why)),
        None => Ok((key, expiry)),
    }
}

/// The name in client certificates. None: the credential has a secret.
pub fn certificate_name(given: Option<&str>) -> Result<Option<Name>, Refusal> {
    let root = Path::Root;
    let path = root.field("certificate_name");
    match given {
        None => Ok(None),
        Some("") => Err(path.empty()),
        Some(name) => text::line(name, limits::CERTIFICATE_NAME_BYTES, &path).map(Some),
    }
}

fn expiry(request: &proto::CreateKeyRequest) -> Result<Expiry, Refusal> {
    let root = Path::Root;
    match (&request.expire_time, &request.ttl) {
        (None, None) => Ok(Expiry::Never),
        (Some(at), None) => time::parse_timestamp(at, &root.field("expire_time")).map(Expiry::At),
        (None, Some(ttl)) => time::parse_duration(ttl, time::KEY_TTL, &root.field("ttl")).map(Expiry::After),
        (Some(_), Some(_)) => Err(root.field("ttl").refuse("must be unset where expire_time is set")),
    }
}

fn roles(given: &[i32], path: &Path) -> Result<Roles, Refusal> {
    if given.len() > Role::ALL.len() {
        return Err(path.refuse(format!("has {} roles, {} are allowed", given.len(), Role::ALL.len())));
    }
    let role = |(i, number): (usize, &i32)| {
        let found = Role::ALL.into_iter().find(|role| *role as i32 == *number);
        found
            .ok_or_else(|| path.index(i).refuse("must be READ, SUBMIT, WORK, OPERATE or ADMIN (with the prefix ROLE_)"))
    };
    given.iter().enumerate().map(role).collect()
}

fn patterns(given: &[String], path: &Path) -> Result<Arc<[NamespacePattern]>, Refusal> {
    if given.len() > limits::PATTERNS_PER_KEY {
        let most = limits::PATTERNS_PER_KEY;
        return Err(path.refuse(format!("has {} patterns, {most} are allowed", given.len())));
    }
    let pattern = |(i, text): (usize, &String)| {
        let why =
            "must be the name of a namespace ([A-Za-z0-9._-]{1,63}), the beginning of one followed by `*`, or `*`";
        NamespacePattern::parse(text).ok_or_else(|| path.index(i).refuse(why))
    };
    given.iter().enumerate().map(pattern).collect()
}

fn rates(given: Option<&proto::KeyRateLimits>, path: &Path) -> Result<RateLimits, Refusal> {
    let Some(given) = given else { return Ok(RateLimits::default()) };
    let rate = |given: Option<i32>, name: &str| {
        let most = limits::CALLS_PER_SECOND;
        let check = |rate: i32| match u32::try_from(rate) {
            Ok(calls) if (1..=most).contains(&rate) => Ok(calls),
            Ok(_) | Err(_) => Err(path.field(name).refuse(format!("is {rate}, must be 1 to {most} calls a second"))),
        };
        given.map(check).transpose()
    };
    Ok(RateLimits {
        read: rate(given.read, "read")?,
        write: rate(given.write, "write")?,
        watch: rate(given.watch, "watch")?,
        essential: rate(given.essential, "essential")?,
    })
}

/// A credential as it is at a moment.
pub fn to_proto(key: &ApiKey, now: Timestamp) -> proto::ApiKey {
    let grace_end = match &key.proof {
        Proof::Secret { previous, .. } => previous.as_ref().map(|previous| previous.until),
        Proof::Certificate(_) => None,
    };
    proto::ApiKey {
        key_id: key.id.to_string(),
        label: key.label.to_string(),
        state: state(key.state(now)) as i32,
        roles: key.roles.iter().map(|role| role as i32).collect(),
        namespaces: key.namespaces.iter().map(NamespacePattern::to_string).collect(),
        certificate_name: key.certificate().map(|name| name.to_string()).unwrap_or_default(),
        rate_limits: rate_limits(key.rates),
        create_time: Some(time::timestamp(key.create_time)),
        expire_time: key.expire_time.map(time::timestamp),
        revoke_time: key.revoke_time.map(time::timestamp),
        last_use_time: key.last_use_time.map(time::timestamp),
        grace_end_time: grace_end.map(time::timestamp),
        version: key.version,
    }
}

fn state(state: KeyState) -> proto::ApiKeyState {
    match state {
        KeyState::Active => proto::ApiKeyState::Active,
        KeyState::Expired => proto::ApiKeyState::Expired,
        KeyState::Revoked => proto::ApiKeyState::Revoked,
    }
}

fn rate_limits(rates: RateLimits) -> Option<proto::KeyRateLimits> {
    let rate = |rate: Option<u32>| rate.and_then(|rate| i32::try_from(rate).ok());
    let RateLimits { read, write, watch, essential } = rates;
    (rates != RateLimits::default()).then(|| proto::KeyRateLimits {
        read: rate(read),
        write: rate(write),
        watch: rate(watch),
        essential: rate(essential),
    })
}
