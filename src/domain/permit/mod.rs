//! Permits: rights to use what must be shared with care.
//!
//! Layout: `policy` are the rules of a resource; `token_bucket`, `breaker` and `adaptive_limit` are where each kind of rule
//! stands; `resource` has them all, with who holds a
//! permit; `line` is who waits; `audit` is what operators did; `room` says whether a claim fits; `step_back` is what a
//! clock that stepped back makes necessary.

pub mod adaptive_limit;
mod aggregate;
pub mod audit;
pub mod breaker;
mod learner;
pub mod line;
pub mod policy;
pub mod resource;
pub mod room;
pub mod step_back;
mod tally;
pub mod token_bucket;

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failure::FailureClass;
use super::id::{LeaseToken, Name, NamespaceId, StageNo, hashed};
use super::time::Timestamp;
use breaker::Pass;

/// The longest name of a resource, in bytes.
pub const MAX_NAME: usize = 256;
/// The most of a resource that one claim may ask for, and the highest capacity.
pub const MAX_AMOUNT: i64 = 1_000_000;
/// Resources of one permit.
pub const MAX_CLAIMS: usize = 32;
/// Permits of one resource, and waiters in its line.
pub const MAX_HOLDERS: usize = 10_000;
/// Permits that one attempt of a stage may hold.
pub const MAX_OF_ATTEMPT: usize = 100;

/// A resource, wherever it is stored. The `uid` follows from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// Whose resource it is.
    pub namespace: NamespaceId,
    /// The resource in its namespace, 16 bytes whatever the length of its name.
    pub uid: Uuid,
}

impl ResourceKey {
    /// The key of a name.
    pub fn of(namespace: NamespaceId, name: &str) -> Self {
        Self { namespace, uid: Self::uid_of(name) }
    }

    /// What follows from a name in any namespace.
    pub fn uid_of(name: &str) -> Uuid {
        hashed(name.as_bytes())
    }
}

/// How a permit uses its resource. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    /// Alone.
    Exclusive = 1,
    /// Together with others, as many as the capacity allows.
    Shared = 2,
}

/// What is asked of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its name.
    pub resource: Name,
    /// How much of it, from 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub amount: i64,
    /// How; `None` follows from whether the resource has a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

fn one() -> i64 {
    1
}

fn is_one(amount: &i64) -> bool {
    *amount == 1
}

/// The proof that its bearer was given a permit. It names the first of its resources, where all of them are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PermitToken {
    /// Whose resources they are.
    pub namespace: NamespaceId,
    /// The first resource.
    pub resource: Uuid,
    /// 122 random bits; the same in all resources of the permit.
    pub id: Uuid,
}

impl PermitToken {
    /// Reads the text form; `None` if it is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 36] =
            (text.len() == 48).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten()?.try_into().ok()?;
        let (namespace, rest) = bytes.split_first_chunk::<4>()?;
        let (resource, rest) = rest.split_first_chunk::<16>()?;
        let (id, _) = rest.split_first_chunk::<16>()?;
        let namespace = NamespaceId(i32::from_be_bytes(*namespace));
        Some(Self { namespace, resource: Uuid::from_bytes(*resource), id: Uuid::from_bytes(*id) })
    }

    /// The first resource.
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

/// What came of the use of a permit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it failed; `None` for success.
    pub class: Option<FailureClass>,
    /// How long it took; the time from the grant on if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Duration>,
    /// How long the vendor asked to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

impl Outcome {
    /// One that says nothing about the resource.
    pub const NEUTRAL: Self = Self { class: Some(FailureClass::Cancelled), latency: None, retry_after: None };

    /// That of several uses under one permit: what says most about the resource, and the longest wait asked for.
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

/// What is in the way at a resource. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockReason {
    /// Somebody holds it, or is before in the line.
    Held = 1,
    /// All that may be used at once is in use.
    Capacity = 2,
    /// No tokens, or the vendor asked to wait.
    Rate = 3,
    /// Too soon after the last grant.
    Interval = 4,
    /// Too many failures.
    BreakerOpen = 5,
}

impl BlockReason {
    /// All, in the order of their numbers.
    pub const ALL: [BlockReason; 5] = [Self::Held, Self::Capacity, Self::Rate, Self::Interval, Self::BreakerOpen];

    /// The name on the wire without its prefix.
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

/// Why a claim does not fit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What is in the way.
    pub reason: BlockReason,
    /// When that is over, or may be; `None` if no time is known.
    pub until: Option<Timestamp>,
}

/// A resource that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Which.
    pub resource: Name,
    /// Why.
    pub block: Block,
}

/// A permit of one of its resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The resource's key.
    pub key: ResourceKey,
    /// The resource's name.
    pub resource: Name,
    /// The fencing token.
    pub fencing_token: i64,
    /// When it ends unless it is renewed; `None` with the attempt it is of.
    pub expires_at: Option<Timestamp>,
}

/// A permit that an attempt of a stage holds, at one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPermit {
    /// The resource, in the namespace of the job.
    #[serde(rename = "r")]
    pub resource: Uuid,
    /// The permit.
    #[serde(rename = "p")]
    pub id: Uuid,
    /// The permit's fencing token there.
    #[serde(rename = "f")]
    pub fencing_token: i64,
}

/// One permit at one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Permit {
    /// The secret part of its token.
    #[serde(skip)]
    pub id: Uuid,
    /// A lower bound of the stored expiry: another server may have renewed it since. `None`: with the attempt it is of, or never
    /// again since it is lost.
    #[serde(skip)]
    pub expires_at: Option<Timestamp>,
    /// All its resources in the order of the claims, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<Uuid>,
    /// How it uses the resource.
    pub mode: Mode,
    /// How much of it.
    pub amount: i64,
    /// The fencing token.
    pub fencing_token: i64,
    /// Who, by its own word.
    pub holder: Name,
    /// How long a renewal extends it, unless the caller says otherwise.
    pub ttl: Duration,
    /// The longest that a renewal has extended it, where that is more.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub renewed_for: Duration,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// What the breaker wants to know at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<Pass>,
    /// Whether it used up much of the limit of its time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub saturated: bool,
    /// The lease that it was acquired under, and ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Bound>,
    /// Stages that share it; the last one to end releases it.
    #[serde(default = "single", skip_serializing_if = "is_single")]
    pub members: u32,
    /// What came of those that have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When it was lost: expired, or revoked. It is kept for a while, so that its holder can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
}

impl Permit {
    /// All its resources, of which it was found at one.
    pub fn keys(&self, found_at: ResourceKey) -> Vec<ResourceKey> {
        if self.all.is_empty() {
            return vec![found_at];
        }
        self.all.iter().map(|uid| ResourceKey { uid: *uid, ..found_at }).collect()
    }

    /// When it was granted or last renewed, as far as that follows from its end: a renewal may have named another time to live.
    pub fn held_since(&self) -> Timestamp {
        let renewed_at = self.expires_at.map(|at| at.before(self.ttl));
        self.granted_at.max(renewed_at.unwrap_or(self.granted_at))
    }

    /// Whether it tries out if the resource is well again.
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

/// The attempt that a permit is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The job, in the namespace of the resource.
    pub job_uid: Uuid,
    /// The stage.
    pub stage_no: StageNo,
    /// The stage's fencing token in this attempt.
    pub fencing_token: i64,
    /// The secret of the attempt's lease token.
    pub secret: Uuid,
}

impl From<LeaseToken> for Bound {
    fn from(token: LeaseToken) -> Self {
        let LeaseToken { job_uid, stage_no, fencing_token, secret } = token;
        Self { job_uid, stage_no, fencing_token, secret }
    }
}

impl From<Bound> for LeaseToken {
    fn from(bound: Bound) -> Self {
        let Bound { job_uid, stage_no, fencing_token, secret } = bound;
        Self { job_uid, stage_no, fencing_token, secret }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_form() {
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
    fn of_several_outcomes_that_counts_which_says_most() {
        let of = |class| Outcome { class, ..Outcome::default() };
        let failed = of(Some(FailureClass::Timeout));
        let limited = Outcome { retry_after: Some(Duration::from_secs(2)), ..of(Some(FailureClass::RateLimited)) };
        assert_eq!(of(None).and(failed), failed);
        assert_eq!(failed.and(limited).class, failed.class);
        assert_eq!(failed.and(limited).retry_after, limited.retry_after);
        assert_eq!(Outcome::NEUTRAL.and(of(None)).class, None);
    }
}
