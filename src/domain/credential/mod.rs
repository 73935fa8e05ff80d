//! Credentials: API keys and names of client certificates, what they permit, and whether they are valid at a moment.
//!
//! A secret is compared by its SHA-256 in constant time and stored nowhere. It has 256 random bits, so a slow hash would add nothing. No `Debug`
//! of a type here shows a secret or a hash.

mod aggregate;
mod key_ring;
mod key_text;

use std::sync::Arc;

pub use key_ring::{KeyChanges, KeyRing};
pub use key_text::{KeyId, KeyText, Secret, SecretHash};

use super::access::{NamespacePattern, Principal, RateLimits, Roles};
use super::id::Name;
use super::time::Timestamp;

/// Credentials that are stored at most, ended ones included.
pub const MAX_KEYS: usize = 10_000;

/// What the bearer of a credential has to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The secret of an API key.
    Secret {
        /// Of the newest secret.
        hash: SecretHash,
        /// The secret before the last rotation. None: the key was never rotated, or without a grace.
        previous: Option<Previous>,
    },
    /// A client certificate with this name, signed by an authority that the server trusts.
    Certificate(Name),
}

/// The secret that a rotation replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Of the secret.
    pub hash: SecretHash,
    /// When it stops being valid.
    pub until: Timestamp,
}

/// Which secret of a credential was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretMatch {
    /// The newest.
    Newest,
    /// The one before the last rotation.
    Previous,
}

/// Whether a credential is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It is.
    Active = 1,
    /// Its `expire_time` has come.
    Expired = 2,
    /// It was revoked.
    Revoked = 3,
}

impl KeyState {
    /// The name on the wire, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Expired => "EXPIRED",
            Self::Revoked => "REVOKED",
        }
    }
}

/// A credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Names it for operators; part of the text of an API key. Not secret.
    pub id: KeyId,
    /// Grows by one with each change.
    pub version: i64,
    /// The version of the [`KeyRing`] at its last change.
    pub changed_version: i64,
    /// What its bearer has to show.
    pub proof: Proof,
    /// What it is for, in the words of whoever created it.
    pub label: Name,
    /// What it permits.
    pub roles: Roles,
    /// The namespaces that it is valid in.
    pub namespaces: Arc<[NamespacePattern]>,
    /// How often it may be used.
    pub rates: RateLimits,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it stops being valid. None: never.
    pub expire_time: Option<Timestamp>,
    /// When it was revoked. None: it was not.
    pub revoke_time: Option<Timestamp>,
    /// When it was last used, accurate to an hour. None: it was not, as far as is known. No part of the version.
    pub last_use_time: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it is valid at a moment.
    pub fn state(&self, now: Timestamp) -> KeyState {
        match (self.revoke_time, self.expire_time) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(expiry)) if expiry <= now => KeyState::Expired,
            (None, _) => KeyState::Active,
        }
    }

    /// When it ended: it was revoked or has expired. None: it is active.
    pub fn ended(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state(now) {
            KeyState::Active => None,
            KeyState::Expired => self.expire_time,
            KeyState::Revoked => self.revoke_time,
        }
    }

    /// Whether it is active and this is its secret: the newest, or the one before it as long as the grace of the rotation lasts. Takes the same
    /// time whatever the secret is. False for a certificate.
    pub fn verify(&self, secret: &Secret, now: Timestamp) -> bool {
        self.match_secret(secret, now).is_some() && self.state(now) == KeyState::Active
    }

    /// Which of its secrets this is, whether it is active or not; the one before the last rotation only as long as the grace lasts. None: neither,
    /// or it is a certificate. Takes the same time whatever the secret is.
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

    /// The name in a client certificate that stands for it. None: it has a secret.
    pub fn certificate(&self) -> Option<&Name> {
        match &self.proof {
            Proof::Secret { .. } => None,
            Proof::Certificate(name) => Some(name),
        }
    }

    /// Who a call with this credential is made as.
    pub fn principal(&self) -> Principal {
        Principal {
            name: self.principal_name(),
            roles: self.roles,
            namespaces: self.namespaces.clone(),
            rates: self.rates,
        }
    }

    /// The name of its principal: `cert:` and the name in the certificate, or `key:` and the id.
    pub fn principal_name(&self) -> Name {
        match self.certificate() {
            Some(name) => format!("cert:{name}").into(),
            None => format!("key:{}", self.id).into(),
        }
    }

    /// About how much memory it takes.
    fn weight_bytes(&self) -> usize {
        400 + self.label.len() + 80 * self.namespaces.len()
    }
}

/// Takes as long as [`ApiKey::verify`] of a key that exists, so that a stranger cannot tell which ids do. Always false.
pub fn verify_unknown(secret: &Secret) -> bool {
    SecretHash::unknown().ct_eq(&SecretHash::of(secret)).into()
}

#[cfg(test)]
mod tests;
