//! Credentials: API keys and names of client certificates, what they permit, and until when they are valid.
//!
//! A secret is never stored; its SHA-256 is compared in constant time. A secret has 256 random bits, so a slow hash would add nothing. No
//! `Debug` output of these types contains a secret or a hash.

mod aggregate;
mod key_ring;
mod key_text;

use std::sync::Arc;

pub use key_ring::{KeyChanges, KeyRing};
pub use key_text::{KeyId, KeyText, Secret, SecretHash};

use super::access::{NamespacePattern, Principal, RateLimits, Roles};
use super::id::Name;
use super::time::Timestamp;

/// Maximum number of stored credentials, ended ones included.
pub const MAX_KEYS: usize = 10_000;

/// What a caller has to present for a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A secret that belongs to an API key.
    Secret {
        /// Hash of the newest secret.
        hash: SecretHash,
        /// Secret before the last rotation. `None`: the key was never rotated, or without a grace period.
        previous: Option<PreviousSecret>,
    },
    /// A client certificate with this name, signed by an authority that the server trusts.
    Certificate(Name),
}

/// Secret that a rotation replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousSecret {
    /// Hash of the replaced secret.
    pub hash: SecretHash,
    /// Time from which it is invalid.
    pub until: Timestamp,
}

/// Secret of a credential that the caller presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretMatch {
    /// The newest secret of the key.
    Newest,
    /// The secret before the last rotation.
    Previous,
}

/// State of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// The credential is valid.
    Active = 1,
    /// Its `expire_time` has passed.
    Expired = 2,
    /// An operator revoked it.
    Revoked = 3,
}

impl KeyState {
    /// Name of the state on the wire, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Expired => "EXPIRED",
            Self::Revoked => "REVOKED",
        }
    }
}

/// A stored credential: an API key, or the name in a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Id, which is part of the text of an API key. Not secret.
    pub id: KeyId,
    /// Version; grows by one with each change.
    pub version: i64,
    /// Version of the [`KeyRing`] at the last change of this credential.
    pub changed_version: i64,
    /// What a caller has to present.
    pub proof: Proof,
    /// Description by its creator.
    pub label: Name,
    /// Roles of the credential.
    pub roles: Roles,
    /// Namespaces that it is valid in.
    pub namespaces: Arc<[NamespacePattern]>,
    /// Rate limits of the credential.
    pub rates: RateLimits,
    /// Time of the creation.
    pub create_time: Timestamp,
    /// Time from which it is invalid. `None`: it does not expire.
    pub expire_time: Option<Timestamp>,
    /// Time of the revocation. `None`: it was not revoked.
    pub revoke_time: Option<Timestamp>,
    /// Time of the last use, accurate to an hour. `None`: no use is known. A use does not change the version.
    pub last_use_time: Option<Timestamp>,
}

impl ApiKey {
    /// State of the credential at `now`.
    pub fn state(&self, now: Timestamp) -> KeyState {
        match (self.revoke_time, self.expire_time) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(expiry)) if expiry <= now => KeyState::Expired,
            (None, _) => KeyState::Active,
        }
    }

    /// Time of the expiry or revocation. `None`: the credential is active.
    pub fn ended(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state(now) {
            KeyState::Active => None,
            KeyState::Expired => self.expire_time,
            KeyState::Revoked => self.revoke_time,
        }
    }

    /// Whether the credential is active and `secret` matches: the newest one, or the previous one within the grace period of the rotation.
    /// Takes the same time for every secret. False for a certificate.
    pub fn verify(&self, secret: &Secret, now: Timestamp) -> bool {
        self.match_secret(secret, now).is_some() && self.state(now) == KeyState::Active
    }

    /// Compares `secret` with the newest one and, within the grace period of the rotation, with the previous one, whether the credential is
    /// active or not. `None`: neither matches, or the credential is a certificate. Takes the same time for every secret.
    pub fn match_secret(&self, secret: &Secret, now: Timestamp) -> Option<SecretMatch> {
        let shown = SecretHash::of(secret);
        let (hash, previous) = match &self.proof {
            Proof::Secret { hash, previous } => (*hash, previous.as_ref()),
            Proof::Certificate(_) => (SecretHash::unknown(), None),
        };
        let is_newest = hash.ct_eq(&shown);
        let is_previous = previous.map_or_else(SecretHash::unknown, |previous| previous.hash).ct_eq(&shown);
        let in_grace = previous.is_some_and(|previous| now < previous.until);
        match (bool::from(is_newest), bool::from(is_previous) && in_grace) {
            (true, _) => Some(SecretMatch::Newest),
            (false, true) => Some(SecretMatch::Previous),
            (false, false) => None,
        }
    }

    /// Name in the client certificate. `None`: the credential has a secret.
    pub fn certificate(&self) -> Option<&Name> {
        match &self.proof {
            Proof::Secret { .. } => None,
            Proof::Certificate(name) => Some(name),
        }
    }

    /// Principal of calls with this credential.
    pub fn principal(&self) -> Principal {
        Principal {
            name: self.principal_name(),
            roles: self.roles,
            namespaces: self.namespaces.clone(),
            rates: self.rates,
        }
    }

    /// Name of the principal: `cert:` and the name in the certificate, or `key:` and the id.
    pub fn principal_name(&self) -> Name {
        match self.certificate() {
            Some(name) => format!("cert:{name}").into(),
            None => format!("key:{}", self.id).into(),
        }
    }

    /// Approximate memory in bytes.
    fn weight_bytes(&self) -> usize {
        400 + self.label.len() + 80 * self.namespaces.len()
    }
}

/// Takes as long as [`ApiKey::verify`] of an existing key, so that the time of a refusal does not show which ids exist. Always false.
pub fn verify_unknown(secret: &Secret) -> bool {
    SecretHash::unknown().ct_eq(&SecretHash::of(secret)).into()
}

#[cfg(test)]
mod tests;
