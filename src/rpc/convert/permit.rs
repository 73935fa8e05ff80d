//! Permits: claims, outcomes and tokens.

use std::collections::HashSet;
use std::time::Duration;

use super::failure::class;
use super::path::Path;
use super::{text, time, worker};
use crate::domain::id::{LeaseToken, Name, NamespaceId};
use crate::domain::permit::{
    Blocker, Granted, MAX_AMOUNT, MAX_CLAIMS, MAX_NAME, PermitClaim, PermitMode, PermitOutcome, PermitToken,
    ResourceKey,
};
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::proto;
use crate::rpc::limits;

/// The duration of a permit without `ttl`.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// The name of a resource; an empty one is refused.
pub fn name(given: &str, path: &Path) -> Result<Name, Refusal> {
    if given.is_empty() {
        return Err(path.missing());
    }
    text::line(given, MAX_NAME, path)
}

/// Claims, each of another resource.
pub fn claims(given: &[proto::PermitClaim], path: &Path) -> Result<Vec<PermitClaim>, Refusal> {
    if given.len() > MAX_CLAIMS {
        return Err(path.refuse(format!("has {} claims, {MAX_CLAIMS} are allowed", given.len())));
    }
    let mut seen = HashSet::new();
    let mut claims = Vec::with_capacity(given.len());
    for (i, given) in given.iter().enumerate() {
        let path = path.index(i);
        let claim = claim(given, &path)?;
        if !seen.insert(claim.resource.clone()) {
            return Err(path.field("resource").refuse("another claim names the same resource"));
        }
        claims.push(claim);
    }
    Ok(claims)
}

fn claim(given: &proto::PermitClaim, path: &Path) -> Result<PermitClaim, Refusal> {
    let resource = name(&given.resource, &path.field("resource"))?;
    let amount = if given.amount == 0 { 1 } else { given.amount };
    if !(1..=MAX_AMOUNT).contains(&amount) {
        return Err(path.field("amount").outside("1 to 1,000,000", amount));
    }
    let mode = match proto::PermitMode::try_from(given.mode) {
        Ok(proto::PermitMode::Unspecified) => None,
        Ok(proto::PermitMode::Exclusive) => Some(PermitMode::Exclusive),
        Ok(proto::PermitMode::Shared) => Some(PermitMode::Shared),
        Err(_) => return Err(path.field("mode").unknown(given.mode)),
    };
    Ok(PermitClaim { resource, amount, mode })
}

/// The parameters of an AcquirePermit, without its `request_id`.
pub struct AcquireParameters {
    pub claims: Vec<PermitClaim>,
    pub ttl: Duration,
    pub wait: Duration,
    pub holder: Name,
    pub priority: i32,
    pub lease: Option<LeaseToken>,
}

/// Checks an AcquirePermit and fills in its defaults.
pub fn acquire_parameters(given: &proto::AcquirePermitRequest) -> Result<AcquireParameters, Refusal> {
    let root = Path::Root;
    let path = root.field("claims");
    if given.claims.is_empty() {
        return Err(path.missing());
    }
    let claims = claims(&given.claims, &path)?;
    let path = root.field("lease_token");
    let lease = given.lease_token.as_deref().map(|given| worker::parse(given, &path)).transpose()?;
    // What is bound to a lease ends with it, so it need not end before.
    let usual = if lease.is_some() { time::LEASE_DURATION.max } else { DEFAULT_TTL };
    let ttl = time::parse_optional_duration(given.ttl.as_ref(), time::LEASE_DURATION, &root.field("ttl"))?;
    let wait = time::parse_wait(given.wait.as_ref(), &root.field("wait"))?;
    let path = root.field("holder");
    if given.holder.is_empty() && lease.is_none() {
        return Err(path.missing());
    }
    let holder = text::line(&given.holder, limits::WORKER_ID_BYTES, &path)?;
    let path = root.field("priority");
    if !(-limits::PRIORITY..=limits::PRIORITY).contains(&given.priority) {
        return Err(path.outside("-1,000 to 1,000", given.priority));
    }
    let (ttl, wait) = (ttl.unwrap_or(usual), wait.unwrap_or_default());
    Ok(AcquireParameters { claims, ttl, wait, holder, priority: given.priority, lease })
}

/// A permit token; an empty one is refused.
pub fn token(given: &str, path: &Path) -> Result<PermitToken, Refusal> {
    if given.is_empty() {
        return Err(path.empty());
    }
    PermitToken::parse(given).ok_or_else(|| path.refuse("is not a permit token"))
}

/// The outcome of the use of a permit. None: success.
pub fn outcome(given: Option<&proto::PermitOutcome>, path: &Path) -> Result<PermitOutcome, Refusal> {
    let Some(given) = given else { return Ok(PermitOutcome::default()) };
    let (latency, retry_after) = (path.field("latency"), path.field("retry_after"));
    Ok(PermitOutcome {
        class: match given.failure_class {
            0 => None,
            number => Some(class(number, &path.field("failure_class"))?),
        },
        latency: time::parse_optional_duration(given.latency.as_ref(), time::RETRY_AFTER, &latency)?,
        retry_after: time::parse_optional_duration(given.retry_after.as_ref(), time::RETRY_AFTER, &retry_after)?,
    })
}

/// A permit for its holder; `now` is the database's time.
pub fn permit(
    namespace: NamespaceId,
    id: uuid::Uuid,
    claims: &[PermitClaim],
    granted: &[Granted],
    now: Timestamp,
) -> proto::Permit {
    let first = claims.first().map(|claim| ResourceKey::of(namespace, &claim.resource).uid).unwrap_or_default();
    let of = |claim: &PermitClaim| granted.iter().find(|granted| granted.resource == claim.resource);
    let grant = |granted: &Granted| proto::PermitGrant {
        resource: granted.resource.to_string(),
        fencing_token: granted.fencing_token,
    };
    let end = granted.iter().filter_map(|granted| granted.expires_at).min();
    proto::Permit {
        permit_token: PermitToken { namespace, resource: first, id }.to_string(),
        grants: claims.iter().filter_map(of).map(grant).collect(),
        expire_time: end.map(time::timestamp),
        ttl: end.map(|end| time::duration(now.until(end))),
    }
}

/// The status of a permit that was renewed.
pub fn renewed(granted: &[Granted], now: Timestamp) -> proto::PermitStatus {
    let end = granted.iter().filter_map(|granted| granted.expires_at).min();
    proto::PermitStatus {
        lost: false,
        expire_time: end.map(time::timestamp),
        ttl: end.map(|end| time::duration(now.until(end))),
    }
}

/// The denial of a permit by these blockers.
pub fn denial(blockers: &[Blocker], now: Timestamp) -> proto::PermitDenial {
    let after = |blocker: &Blocker| blocker.block.until.map(|until| now.until(until));
    let to_proto = |blocker: &Blocker| proto::PermitBlocker {
        resource: blocker.resource.to_string(),
        reason: blocker.block.reason as i32,
        retry_after: after(blocker).map(time::duration),
    };
    let all = blockers.iter().map(after).collect::<Option<Vec<Duration>>>();
    let retry_after = all.and_then(|all| all.into_iter().max());
    proto::PermitDenial {
        blockers: blockers.iter().map(to_proto).collect(),
        retry_after: retry_after.map(time::duration),
    }
}

/// The claims as messages.
pub fn claims_to_proto(claims: &[PermitClaim]) -> Vec<proto::PermitClaim> {
    let to_proto = |claim: &PermitClaim| proto::PermitClaim {
        resource: claim.resource.to_string(),
        amount: claim.amount,
        mode: claim.mode.map_or(0, |mode| mode as i32),
    };
    claims.iter().map(to_proto).collect()
}
