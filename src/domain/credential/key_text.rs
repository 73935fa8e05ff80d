//! Text form of an API key: `il_`, an id of 8 characters, `_`, and a secret of 43 characters.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Prefix of every key, by which scanners for leaked secrets find it.
const PREFIX: &str = "il_";
/// Number of characters of an id.
const ID_LENGTH: usize = 8;
/// Number of characters of 32 bytes in base64url without padding.
const SECRET_LENGTH: usize = 43;
/// Characters of ids, in the order of their values.
const ID_CHARACTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Id of a credential: 8 characters `[a-z0-9]`. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; ID_LENGTH]);

impl KeyId {
    /// Makes an id from a random number.
    pub fn of_random(number: u64) -> Self {
        let mut rest = number;
        Self(std::array::from_fn(|_| {
            let character = ID_CHARACTERS[(rest % 36) as usize];
            rest /= 36;
            character
        }))
    }

    /// Parses an id. `None`: the text is not an id.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; ID_LENGTH] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).then_some(Self(bytes))
    }

    /// The id as a string slice.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII characters get in")
    }

    /// The id as a UUID, as remembered requests store ids: its 8 bytes, followed by zeros.
    pub fn to_uuid(self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        bytes[..ID_LENGTH].copy_from_slice(&self.0);
        uuid::Uuid::from_bytes(bytes)
    }

    /// The id of a UUID made by [`Self::to_uuid`]. `None`: the UUID is not one.
    pub fn of_uuid(uuid: uuid::Uuid) -> Option<Self> {
        let (id, rest) = uuid.as_bytes().split_at(ID_LENGTH);
        Self::parse(std::str::from_utf8(id).ok()?).filter(|_| rest.iter().all(|byte| *byte == 0))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Secret of an API key: 32 random bytes. Never stored, and not in `Debug` output.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Makes a secret of 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// SHA-256 of a secret, as it is stored.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Hashes a secret with SHA-256.
    pub fn of(secret: &Secret) -> Self {
        Self(Sha256::digest(secret.0).into())
    }

    /// Reads a stored hash. `None`: it is not 32 bytes long.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes that are stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A hash with no known secret: compared with where there is no hash to compare with, so that the comparison takes the same time.
    pub(super) fn unknown() -> Self {
        Self([0; 32])
    }

    /// Compares two hashes in constant time.
    pub(super) fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Id and secret of an API key, as its owner has them.
#[derive(Clone, Debug)]
pub struct KeyText {
    /// Id of the key.
    pub id: KeyId,
    /// Secret of the key.
    pub secret: Secret,
}

impl KeyText {
    /// Parses the text form. `None`: the text is not an API key.
    pub fn parse(text: &str) -> Option<Self> {
        // Checks the length first, since the text of an unauthenticated caller may be long.
        if text.len() != PREFIX.len() + ID_LENGTH + 1 + SECRET_LENGTH || !text.is_ascii() {
            return None;
        }
        let (id, rest) = text.strip_prefix(PREFIX)?.split_at(ID_LENGTH);
        let secret = URL_SAFE_NO_PAD.decode(rest.strip_prefix('_')?).ok()?;
        Some(Self { id: KeyId::parse(id)?, secret: Secret(secret.try_into().ok()?) })
    }

    /// The text form. It contains the secret: only for the owner of the key.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, URL_SAFE_NO_PAD.encode(self.secret.0))
    }
}
