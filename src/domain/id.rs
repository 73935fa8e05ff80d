//! Identities: namespaces, jobs, stages, and the lease tokens that prove ownership of a stage.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Number of a namespace in the database. Names are resolved to numbers when a request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId(pub i32);

/// Key of a job. The `uid` is computed from the job's id, see [`JobKey::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey {
    /// Namespace of the job.
    pub namespace: NamespaceId,
    /// Uid of the job in its namespace; 16 bytes for an id of any length.
    pub uid: Uuid,
}

/// Number of a stage in its job, from 0 in the order in which stages were added; never reused within a job.
pub type StageNo = u32;

/// The longest job id, in bytes.
pub const MAX_JOB_ID: usize = 128;

impl JobKey {
    /// Computes the key of a job id.
    pub fn of(namespace: NamespaceId, job_id: &str) -> Self {
        Self { namespace, uid: uid_of(job_id) }
    }
}

/// Computes the uid of a job or a session from its id. An id that is a version 7 UUID in its canonical form (ids that the server generates) is its
/// own uid, which keeps new rows next to each other in the indexes. Any other id is hashed into a version 8 UUID. So the two kinds never collide,
/// and no second index is needed to find something by its id.
pub fn uid_of(id: &str) -> Uuid {
    let own = Uuid::try_parse(id).ok().filter(|uid| uid.get_version_num() == 7 && uid.to_string() == id);
    own.unwrap_or_else(|| hashed(id.as_bytes()))
}

/// Hashes content into a version 8 UUID: the first half of its SHA-256.
pub fn hashed(content: &[u8]) -> Uuid {
    let digest = Sha256::digest(content);
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::new_v8(bytes)
}

/// Whether a job id is `[A-Za-z0-9._:-]{1,128}`.
pub fn is_job_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_JOB_ID
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// Proof that its bearer was granted one attempt of one stage.
///
/// The token names the stage, so that no index over tokens is needed and a token of a finished or deleted job differs from a forged one.
/// The secret is compared with that of the stage's newest lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    /// Uid of the job, in the namespace of the call.
    pub job_uid: Uuid,
    /// Number of the stage in the job.
    pub stage_no: StageNo,
    /// Fencing token of the attempt.
    pub fencing_token: i64,
    /// Secret of 122 random bits.
    pub secret: Uuid,
}

impl LeaseToken {
    /// Parses the text form. `None`: the text is not a lease token.
    pub fn parse(text: &str) -> Option<Self> {
        // Checks the length first, so that a text of 4 MiB is not decoded.
        let bytes: [u8; 44] =
            (text.len() == 59).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten()?.try_into().ok()?;
        let (uid, rest) = bytes.split_first_chunk::<16>()?;
        let (stage_no, rest) = rest.split_first_chunk::<4>()?;
        let (fencing_token, rest) = rest.split_first_chunk::<8>()?;
        let (secret, _) = rest.split_first_chunk::<16>()?;
        Some(Self {
            job_uid: Uuid::from_bytes(*uid),
            stage_no: u32::from_be_bytes(*stage_no),
            fencing_token: i64::from_be_bytes(*fencing_token),
            secret: Uuid::from_bytes(*secret),
        })
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(44);
        bytes.extend_from_slice(self.job_uid.as_bytes());
        bytes.extend_from_slice(&self.stage_no.to_be_bytes());
        bytes.extend_from_slice(&self.fencing_token.to_be_bytes());
        bytes.extend_from_slice(self.secret.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Short text shared by many owners: names, queues, worker ids.
pub type Name = Arc<str>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_token_round_trips_through_its_text() {
        let token =
            LeaseToken { job_uid: Uuid::now_v7(), stage_no: 9_999, fencing_token: i64::MAX, secret: Uuid::new_v4() };
        let text = token.to_string();
        assert_eq!(text.len(), 59);
        assert_eq!(LeaseToken::parse(&text), Some(token));
        assert_eq!(LeaseToken::parse(&text[1..]), None);
        assert_eq!(LeaseToken::parse(&"!".repeat(59)), None);
    }

    #[test]
    fn generated_and_chosen_job_ids_never_share_a_uid() {
        let namespace = NamespaceId(1);
        let own = Uuid::now_v7();
        assert_eq!(JobKey::of(namespace, &own.to_string()).uid, own);
        let shouted = JobKey::of(namespace, &own.to_string().to_uppercase());
        assert_eq!(shouted.uid.get_version_num(), 8);
        assert_ne!(JobKey::of(namespace, "film-1"), JobKey::of(namespace, "film-2"));
    }

    #[test]
    fn job_ids_are_short_and_plain() {
        assert!(is_job_id("film:7_a.b-C"));
        assert!(!is_job_id(""));
        assert!(!is_job_id("a b"));
        assert!(!is_job_id("a\0"));
        assert!(!is_job_id(&"a".repeat(129)));
    }
}
