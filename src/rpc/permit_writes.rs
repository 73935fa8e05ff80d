//! The rpcs that renew and release permits, and those that change resources.

use std::sync::Arc;

use futures::future::join_all;

use super::caller::Caller;
use super::convert::digest::identity;
use super::convert::path::Path;
use super::convert::record::bounded;
use super::convert::{permit as convert, policy, text, time};
use super::limits;
use crate::domain::id::{Name, NamespaceId};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result, after_commit};
use crate::operation::Reply;
use crate::operation::permits::PermitReply;
use crate::operation::permits::release::ReleasePermit;
use crate::operation::permits::renew::RenewPermit;
use crate::operation::permits::resource::{ChangeResource, ResourceChange};
use crate::operation::permits::revoke::RevokePermit;
use crate::proto;

/// RenewPermits. Each is decided for itself, in one or a few groups.
pub async fn renew_permits(caller: Caller, request: proto::RenewPermitsRequest) -> Result<proto::RenewPermitsResponse> {
    let root = Path::Root;
    let list = root.field("permit_tokens");
    bounded(request.permit_tokens.len(), limits::PERMITS_PER_RENEWAL, "tokens", &list)?;
    let ttl = time::parse_optional_duration(request.ttl.as_ref(), time::LEASE_DURATION, &root.field("ttl"))?;
    let tokens = request.permit_tokens.iter().enumerate();
    let tokens = tokens.map(|(i, given)| convert::token(given, &list.index(i)));
    let tokens = tokens.collect::<std::result::Result<Vec<_>, Refusal>>()?;
    let namespace = caller.namespace;
    let renewals = tokens.into_iter().map(|token| caller.execute(RenewPermit { namespace, token, ttl }));
    let replies = join_all(renewals).await;
    let now = caller.services.engine.now();
    let status = |reply: Result<Reply>| match reply.map(|reply| reply.permit) {
        Ok(Some(PermitReply::Granted(granted))) => Ok(convert::renewed(&granted, now)),
        Ok(_) => Err(Error::bug("a renewal without a permit")),
        Err(Error::Refused(Refusal::PermitLost)) => Ok(proto::PermitStatus { lost: true, ..Default::default() }),
        Err(error) => Err(error),
    };
    Ok(proto::RenewPermitsResponse { statuses: replies.into_iter().map(status).collect::<Result<_>>()? })
}

/// What a ReleasePermit asks for, without its `request_id`.
pub(super) fn release(
    namespace: NamespaceId,
    request: &proto::ReleasePermitRequest,
) -> std::result::Result<ReleasePermit, Refusal> {
    let root = Path::Root;
    let token = convert::token(&request.permit_token, &root.field("permit_token"))?;
    let outcome = convert::outcome(request.outcome.as_ref(), &root.field("outcome"))?;
    Ok(ReleasePermit { namespace, token, outcome, request: None })
}

pub async fn release_permit(
    caller: Caller,
    mut request: proto::ReleasePermitRequest,
) -> Result<proto::ReleasePermitResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let release = ReleasePermit { request: identity, ..release(caller.namespace, &request)? };
    let outcome = release.outcome.class;
    let reply = caller.execute(release).await?;
    if reply.applied && reply.replayed.is_none() {
        caller.services.engine.shared().permits.figures.released(outcome);
    }
    Ok(proto::ReleasePermitResponse { applied: reply.applied, replayed: reply.replayed.is_some() })
}

pub async fn update_resource(
    caller: Caller,
    mut request: proto::UpdateResourceRequest,
) -> Result<proto::UpdateResourceResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let root = Path::Root;
    let name = convert::name(&request.name, &root.field("name"))?;
    let policy = request.policy.as_ref().map(|given| policy::policy(given, &root.field("policy"))).transpose()?;
    let change = ResourceChange::SetPolicy(policy.map(Arc::new));
    let operation = change_resource(&caller, name.clone(), change, request.expected_version)?;
    let reply = caller.execute(ChangeResource { request: identity, ..operation }).await?;
    let resource = resource_after(&caller, &name, &reply).await?;
    Ok(proto::UpdateResourceResponse { resource, applied: reply.applied, replayed: reply.replayed.is_some() })
}

pub async fn delete_resource(
    caller: Caller,
    mut request: proto::DeleteResourceRequest,
) -> Result<proto::DeleteResourceResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let name = convert::name(&request.name, &Path::Root.field("name"))?;
    let operation = change_resource(&caller, name, ResourceChange::Delete, request.expected_version)?;
    let reply = caller.execute(ChangeResource { request: identity, ..operation }).await?;
    Ok(proto::DeleteResourceResponse { replayed: reply.replayed.is_some() })
}

pub async fn reset_breaker(
    caller: Caller,
    mut request: proto::ResetBreakerRequest,
) -> Result<proto::ResetBreakerResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let root = Path::Root;
    let name = convert::name(&request.name, &root.field("name"))?;
    let requester = text::worker_id(&request.requester, &root.field("requester"))?;
    let reason: String = text::prose(&request.reason, limits::MESSAGE_BYTES, &root.field("reason"))?;
    tracing::info!(resource = %name, %requester, %reason, "a breaker is closed by hand");
    let operation = change_resource(&caller, name.clone(), ResourceChange::ResetBreaker { requester, reason }, None)?;
    let reply = caller.execute(ChangeResource { request: identity, ..operation }).await?;
    let resource = resource_after(&caller, &name, &reply).await?;
    Ok(proto::ResetBreakerResponse { resource, replayed: reply.replayed.is_some() })
}

pub async fn revoke_permit(
    caller: Caller,
    mut request: proto::RevokePermitRequest,
) -> Result<proto::RevokePermitResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let root = Path::Root;
    let resource = convert::name(&request.resource, &root.field("resource"))?;
    let fencing_token = request.fencing_token;
    if fencing_token < 1 {
        return Err(root.field("fencing_token").outside("1 or more", request.fencing_token).into());
    }
    let requester = text::worker_id(&request.requester, &root.field("requester"))?;
    let reason: String = text::prose(&request.reason, limits::MESSAGE_BYTES, &root.field("reason"))?;
    let key = ResourceKey::of(caller.namespace, &resource);
    let (name, by, why) = (resource.clone(), requester.clone(), reason.clone());
    let reply =
        caller.execute(RevokePermit { key, resource, fencing_token, requester, reason, request: identity }).await?;
    if reply.applied && reply.replayed.is_none() {
        let revocations = reply.resource.iter().flat_map(|resource| &resource.state.revocations);
        let holder = revocations.rev().find(|one| one.fencing_token == fencing_token).map(|one| &*one.holder);
        tracing::info!(resource = %name, fencing_token, holder, requester = %by, reason = %why, "a permit was revoked");
    }
    let resource = resource_after(&caller, &name, &reply).await?;
    Ok(proto::RevokePermitResponse { resource, applied: reply.applied, replayed: reply.replayed.is_some() })
}

fn change_resource(
    caller: &Caller,
    resource: Name,
    change: ResourceChange,
    expected_version: Option<i64>,
) -> std::result::Result<ChangeResource, Refusal> {
    if expected_version.is_some_and(|expected| expected < 0) {
        return Err(Path::Root.field("expected_version").refuse("must not be negative"));
    }
    let key = ResourceKey::of(caller.namespace, &resource);
    Ok(ChangeResource { key, resource, change, expected_version, request: None })
}

/// The resource that was changed; in a replay, as it is now.
async fn resource_after(caller: &Caller, name: &Name, reply: &Reply) -> Result<Option<proto::Resource>> {
    let key = ResourceKey::of(caller.namespace, name);
    let resource: Option<Arc<Resource>> = match &reply.replayed {
        Some(_) => caller.services.store.resources(&[key]).await.map_err(after_commit)?.remove(&key),
        None => reply.resource.clone(),
    };
    let shared = caller.services.engine.shared();
    let now = caller.services.engine.now();
    Ok(resource.map(|resource| policy::resource(&resource, &shared.permits.denials(&key), now)))
}
