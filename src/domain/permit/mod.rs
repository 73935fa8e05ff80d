//! Permits: locks, semaphores, rate limits and circuit breakers over named resources.
//!
//! Layout: `policy` has the rules of a resource; `token_bucket`, `breaker` (with `breaker_counts`) and `adaptive_limit` (with `learner`) the
//! state of each kind of rule; `resource` all of them with the permits; `wait_queue` the waiters; `availability` decides whether a claim can be
//! granted; `audit` logs what operators did; `step_back` handles a clock that stepped back.

pub mod adaptive_limit;
mod aggregate;
pub mod audit;
pub mod availability;
pub mod breaker;
mod breaker_counts;
mod learner;
mod micros;
pub mod policy;
pub mod resource;
pub mod step_back;
pub mod token_bucket;
pub mod wait_queue;

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failure::FailureClass;
use super::id::{LeaseToken, Name, NamespaceId, StageNo, hashed};
use super::time::Timestamp;
use breaker::BreakerPass;

/// Maximum length of a resource's name, in bytes.
pub const MAX_NAME: usize = 256;
/// Maximum amount of one claim, and maximum capacity of a resource.
pub const MAX_AMOUNT: i64 = 1_000_000;
/// Maximum number of claims of one permit, each for another resource.
pub const MAX_CLAIMS: usize = 32;
/// Maximum number of held permits of one resource, and of waiters in its queue.
pub const MAX_HOLDERS: usize = 10_000;
/// Maximum number of permits that one attempt of a stage can hold.
pub const MAX_OF_ATTEMPT: usize = 100;

/// Key of a resource. The `uid` is hashed from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// Namespace of the resource.
    pub namespace: NamespaceId,
    /// Uid of the resource in its namespace; 16 bytes for a name of any length.
    pub uid: Uuid,
}

impl ResourceKey {
    /// Computes the key of a name.
    pub fn of(namespace: NamespaceId, name: &str) -> Self {
        Self { namespace, uid: Self::uid_of(name) }
    }

    /// Computes the uid of a name, which is the same in every namespace.
    pub fn uid_of(name: &str) -> Uuid {
        hashed(name.as_bytes())
    }
}

/// Mode of a permit. Numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PermitMode {
    /// No other permit is held at the same time.
    Exclusive = 1,
    /// Other shared permits are held at the same time, up to the capacity.
    Shared = 2,
}

/// Claim on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitClaim {
    /// Name of the resource.
    pub resource: Name,
    /// Amount, 1 or more.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub amount: i64,
    /// Mode. `None`: shared if the resource has a policy, else exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PermitMode>,
}

fn one() -> i64 {
    1
}

fn is_one(amount: &i64) -> bool {
    *amount == 1
}

/// Proof that its bearer was granted a permit. It names the first resource of the permit; the row of that resource names the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PermitToken {
    /// Namespace of the resources.
    pub namespace: NamespaceId,
    /// Uid of the first resource.
    pub resource: Uuid,
    /// Secret id of 122 random bits; the same at all resources of the permit.
    pub id: Uuid,
}

impl PermitToken {
    /// Parses the text form. `None`: the text is not a permit token.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 36] =
            (text.len() == 48).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten()?.try_into().ok()?;
        let (namespace, rest) = bytes.split_first_chunk::<4>()?;
        let (resource, rest) = rest.split_first_chunk::<16>()?;
        let (id, _) = rest.split_first_chunk::<16>()?;
        let namespace = NamespaceId(i32::from_be_bytes(*namespace));
        Some(Self { namespace, resource: Uuid::from_bytes(*resource), id: Uuid::from_bytes(*id) })
    }

    /// Key of the first resource.
    pub fn key(&self) -> ResourceKey {
        ResourceKey { namespace: self.namespace, uid: self.resource }
    }
}

impl fmt::Display for PermitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.0.to_be_bytes();
        let bytes = [&namespace[..], self.resource.as_bytes(), self.id.as_bytes()].concat();
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Outcome of the use of a permit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitOutcome {
    /// Class of the failure. `None`: success.
    pub class: Option<FailureClass>,
    /// Duration of the use. `None`: the time since the grant counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Duration>,
    /// Wait that the called service asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

impl PermitOutcome {
    /// An outcome that says nothing about the resource.
    pub const NEUTRAL: Self = Self { class: Some(FailureClass::Cancelled), latency: None, retry_after: None };

    /// Combines the outcomes of several uses under one permit: the class that says most about the resource, and the
    /// longest latency and wait.
    pub fn and(self, other: Self) -> Self {
        let telling = |outcome: &Self| match outcome.class {
            Some(FailureClass::ServerError | FailureClass::Network | FailureClass::Timeout) => 3,
            Some(FailureClass::RateLimited) => 2,
            None | Some(FailureClass::ClientError) => 1,
            Some(FailureClass::Cancelled | FailureClass::Internal | FailureClass::LeaseExpired) => 0,
        };
        let class = if telling(&other) > telling(&self) { other.class } else { self.class };
        let (latency, retry_after) = (self.latency.max(other.latency), self.retry_after.max(other.retry_after));
        Self { class, latency, retry_after }
    }
}

/// Reason that a claim cannot be granted. Numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockReason {
    /// Another permit is held exclusively, or another waiter is ahead.
    Held = 1,
    /// The capacity, or the learned limit, is in use.
    Capacity = 2,
    /// A rate has no tokens left, or the called service asked to wait.
    Rate = 3,
    /// The minimum interval since the last grant has not passed.
    Interval = 4,
    /// The circuit breaker is open.
    BreakerOpen = 5,
}

impl BlockReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [BlockReason; 5] = [Self::Held, Self::Capacity, Self::Rate, Self::Interval, Self::BreakerOpen];

    /// Name on the wire without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Capacity => "CAPACITY",
            Self::Rate => "RATE",
            Self::Interval => "INTERVAL",
            Self::BreakerOpen => "BREAKER_OPEN",
        }
    }
}

/// Reason that a claim cannot be granted, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Reason of the block.
    pub reason: BlockReason,
    /// Earliest time at which the reason can end. `None`: not known.
    pub until: Option<Timestamp>,
}

/// A resource that blocks a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Name of the resource.
    pub resource: Name,
    /// Reason and time of the block.
    pub block: Block,
}

/// A granted permit at one of its resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Key of the resource.
    pub key: ResourceKey,
    /// Name of the resource.
    pub resource: Name,
    /// Fencing token of the permit at this resource.
    pub fencing_token: i64,
    /// Expiry unless the permit is renewed. `None`: it ends with the attempt that holds it.
    pub expires_at: Option<Timestamp>,
}

/// A permit at one resource that an attempt of a stage holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPermit {
    /// Uid of the resource, in the namespace of the job.
    #[serde(rename = "r")]
    pub resource: Uuid,
    /// Id of the permit.
    #[serde(rename = "p")]
    pub id: Uuid,
    /// Fencing token of the permit at this resource.
    #[serde(rename = "f")]
    pub fencing_token: i64,
}

/// A permit at one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Permit {
    /// Id of the permit: the secret part of its token.
    #[serde(skip)]
    pub id: Uuid,
    /// Lower bound of the stored expiry: another server may have renewed the permit since. `None`: it ends with the attempt that holds
    /// it, or is lost.
    #[serde(skip)]
    pub expires_at: Option<Timestamp>,
    /// Uids of all its resources in the order of the claims. Empty: this is the only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<Uuid>,
    /// Mode of the permit.
    pub mode: PermitMode,
    /// Amount of the resource that it uses.
    pub amount: i64,
    /// Fencing token of the permit at this resource.
    pub fencing_token: i64,
    /// Holder, as it names itself.
    pub holder: Name,
    /// Duration from a renewal to the expiry, unless the caller gives another.
    pub ttl: Duration,
    /// Longest duration of a renewal so far, if it is longer than `ttl`. Zero: none was.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub renewed_for: Duration,
    /// Time of the grant.
    pub granted_at: Timestamp,
    /// What the breaker has to know when the permit ends. `None`: the resource had no breaker at the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<BreakerPass>,
    /// Whether at least half of the limit was in use with the grant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub saturated: bool,
    /// Lease that it was acquired under; the permit ends with the lease's attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseBinding>,
    /// Number of stages that share it; the last one to end releases it.
    #[serde(default = "single", skip_serializing_if = "is_single")]
    pub members: u32,
    /// Combined outcome of the stages that have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<PermitOutcome>,
    /// Time at which it expired or was revoked. `None`: it is held. Lost permits are remembered for a while, so that
    /// their holders get PERMIT_LOST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
}

impl Permit {
    /// Keys of all its resources; `found_at` is the resource that it was read from.
    pub fn keys(&self, found_at: ResourceKey) -> Vec<ResourceKey> {
        if self.all.is_empty() {
            return vec![found_at];
        }
        self.all.iter().map(|uid| ResourceKey { uid: *uid, ..found_at }).collect()
    }

    /// Time of the grant or of the last renewal, computed from the expiry. Not exact if a renewal had another time to live.
    pub fn held_since(&self) -> Timestamp {
        let renewed_at = self.expires_at.map(|at| at.before(self.ttl));
        self.granted_at.max(renewed_at.unwrap_or(self.granted_at))
    }

    /// Whether it is a probe of the circuit breaker.
    pub fn is_probe(&self) -> bool {
        self.pass.is_some_and(|pass| pass.probe)
    }
}

fn single() -> u32 {
    1
}

fn is_single(members: &u32) -> bool {
    *members == 1
}

/// The attempt that a permit is bound to, by its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseBinding {
    /// Uid of the job, in the namespace of the resource.
    pub job_uid: Uuid,
    /// Number of the stage in the job.
    pub stage_no: StageNo,
    /// Fencing token of the attempt.
    pub fencing_token: i64,
    /// Secret of the attempt's lease token.
    pub secret: Uuid,
}

impl From<LeaseToken> for LeaseBinding {
    fn from(token: LeaseToken) -> Self {
        let LeaseToken { job_uid, stage_no, fencing_token, secret } = token;
        Self { job_uid, stage_no, fencing_token, secret }
    }
}

impl From<LeaseBinding> for LeaseToken {
    fn from(bound: LeaseBinding) -> Self {
        let LeaseBinding { job_uid, stage_no, fencing_token, secret } = bound;
        Self { job_uid, stage_no, fencing_token, secret }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_token_round_trips_through_its_text() {
        let token = PermitToken {
            namespace: NamespaceId(7),
            resource: ResourceKey::of(NamespaceId(7), "doc-1").uid,
            id: Uuid::new_v4(),
        };
        let text = token.to_string();
        assert_eq!(text.len(), 48);
        assert_eq!(PermitToken::parse(&text), Some(token));
        assert_eq!(PermitToken::parse(&text[1..]), None);
        assert_eq!(PermitToken::parse(&"!".repeat(48)), None);
    }

    #[test]
    fn combined_outcomes_keep_the_most_telling_class() {
        let of = |class| PermitOutcome { class, ..PermitOutcome::default() };
        let failed = of(Some(FailureClass::Timeout));
        let limited =
            PermitOutcome { retry_after: Some(Duration::from_secs(2)), ..of(Some(FailureClass::RateLimited)) };
        assert_eq!(of(None).and(failed), failed);
        assert_eq!(failed.and(limited).class, failed.class);
        assert_eq!(failed.and(limited).retry_after, limited.retry_after);
        assert_eq!(PermitOutcome::NEUTRAL.and(of(None)).class, None);
    }
}
