//! Creates, revokes, rotates and retires credentials.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Operation, Reply, Weight};
use crate::domain::access::{NamespacePattern, Role};
use crate::domain::audit::AuditEntry;
use crate::domain::credential::{ApiKey, KeyId, KeyState, MAX_KEYS, PreviousSecret, Proof, SecretHash};
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::domain::time::Timestamp;
use crate::operation::overlay::{Key, Overlay};

/// Time after which an expired or revoked credential is deleted.
pub const KEPT: Duration = Duration::from_secs(90 * 24 * 3_600);
/// Most credentials that one operation deletes.
const MAX_RETIRED: usize = 500;

/// When a credential expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Never,
    At(Timestamp),
    /// A time after its creation.
    After(Duration),
}

#[derive(Debug)]
pub struct CreateKey {
    /// The decision sets versions and times.
    pub key: ApiKey,
    pub expiry: Expiry,
    pub request: Option<RequestIdentity>,
}

impl Operation for CreateKey {
    fn name(&self) -> &'static str {
        "create_key"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::KeyRing(())]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn remembered_ids(&self) -> Vec<Uuid> {
        vec![self.key.id.to_uuid()]
    }

    fn audit(&self) -> Option<AuditEntry> {
        let key = &self.key;
        let roles: Vec<&str> = key.roles.iter().map(Role::name).collect();
        let namespaces: Vec<String> = key.namespaces.iter().map(NamespacePattern::to_string).collect();
        let entry = AuditEntry::new("AdminService/CreateKey", key.id)
            .with("label", &*key.label)
            .with("roles", roles)
            .with("namespaces", namespaces);
        Some(match key.certificate() {
            Some(name) => entry.with("certificate_name", &**name),
            None => entry,
        })
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let (ring, now) = (overlay.key_ring(), overlay.now());
        let exists = |what: String| Refusal::KeyAlreadyExists { what };
        if ring.get(self.key.id).is_some() {
            return Err(exists(format!("API key {}", self.key.id)));
        }
        if let Some(name) = self.key.certificate()
            && let Some(other) = ring.of_certificate(name)
        {
            return Err(exists(format!("a credential for certificate_name {name:?}, {},", other.id)));
        }
        if ring.len() >= MAX_KEYS {
            return Err(Refusal::TooManyKeys { limit: MAX_KEYS });
        }
        let expire_time = match self.expiry {
            Expiry::Never => None,
            Expiry::At(at) if at <= now => {
                return Err(Refusal::field("expire_time", "must be in the future by the clock of the database"));
            }
            Expiry::At(at) => Some(at),
            Expiry::After(ttl) => Some(now.after(ttl)),
        };
        let key = overlay.put_key(ApiKey { create_time: now, expire_time, ..self.key.clone() });
        Ok(Reply::about_key(key, true))
    }
}

/// Revokes a credential. It cannot be activated again.
#[derive(Debug)]
pub struct RevokeKey {
    pub id: KeyId,
    pub request: Option<RequestIdentity>,
}

impl Operation for RevokeKey {
    fn name(&self) -> &'static str {
        "revoke_key"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::KeyRing(())]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn remembered_ids(&self) -> Vec<Uuid> {
        vec![self.id.to_uuid()]
    }

    fn is_urgent(&self) -> bool {
        // It must get through while a stolen key is used to flood the server.
        true
    }

    fn audit(&self) -> Option<AuditEntry> {
        Some(AuditEntry::new("AdminService/RevokeKey", self.id))
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let key = existing(overlay, self.id)?;
        if key.revoke_time.is_some() {
            return Ok(Reply::about_key(key, false));
        }
        let key = overlay.put_key(ApiKey { revoke_time: Some(overlay.now()), ..(*key).clone() });
        Ok(Reply::about_key(key, true))
    }
}

/// Gives an API key another secret.
#[derive(Debug)]
pub struct RotateKey {
    pub id: KeyId,
    /// Hash of the new secret.
    pub hash: SecretHash,
    /// Time for which the old secret stays valid. Zero: it ends at once.
    pub grace: Duration,
    pub request: Option<RequestIdentity>,
}

impl Operation for RotateKey {
    fn name(&self) -> &'static str {
        "rotate_key"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::KeyRing(())]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn remembered_ids(&self) -> Vec<Uuid> {
        vec![self.id.to_uuid()]
    }

    fn audit(&self) -> Option<AuditEntry> {
        Some(AuditEntry::new("AdminService/RotateKey", self.id).with("grace_seconds", self.grace.as_secs_f64()))
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let (key, now) = (existing(overlay, self.id)?, overlay.now());
        let refuse = |state, why| Refusal::InvalidTransition { what: format!("API key {}", self.id), state, why };
        match key.state(now) {
            KeyState::Active => {}
            state @ (KeyState::Expired | KeyState::Revoked) => {
                return Err(refuse(state.name(), "cannot be rotated; create another one"));
            }
        }
        let Proof::Secret { hash, .. } = key.proof else {
            return Err(refuse("CERTIFICATE", "has no secret to rotate; the authority issues another certificate"));
        };
        let previous = (!self.grace.is_zero()).then(|| PreviousSecret { hash, until: now.after(self.grace) });
        let proof = Proof::Secret { hash: self.hash, previous };
        let key = overlay.put_key(ApiKey { proof, ..(*key).clone() });
        Ok(Reply::about_key(key, true))
    }
}

/// Deletes credentials that expired or were revoked [`KEPT`] ago or longer.
#[derive(Debug)]
pub struct RetireKeys;

impl Operation for RetireKeys {
    fn name(&self) -> &'static str {
        "retire_keys"
    }

    fn weight(&self) -> Weight {
        Weight { rows: MAX_RETIRED, ..Weight::SMALL }
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::KeyRing(())]
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let (ring, now) = (overlay.key_ring(), overlay.now());
        let is_old = |key: &&Arc<ApiKey>| key.ended(now).is_some_and(|ended| ended.after(KEPT) <= now);
        let ids: Vec<KeyId> = ring.iter().filter(is_old).take(MAX_RETIRED).map(|key| key.id).collect();
        if !ids.is_empty() {
            overlay.delete_keys(&ids);
        }
        Ok(Reply { applied: !ids.is_empty(), ..Reply::default() })
    }
}

fn existing(overlay: &mut Overlay, id: KeyId) -> Result<Arc<ApiKey>, Refusal> {
    overlay.key_ring().get(id).cloned().ok_or_else(|| Refusal::KeyNotFound { key_id: id.to_string() })
}
