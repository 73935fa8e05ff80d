//! The rpcs that read resources.

use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::convert::path::Path;
use super::convert::{permit as convert, policy, text};
use super::limits;
use super::page::{self, Binding, Budget};
use crate::domain::id::Name;
use crate::domain::permit::{MAX_NAME, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::proto;

pub async fn get_resource(caller: Caller, request: proto::GetResourceRequest) -> Result<proto::GetResourceResponse> {
    let name = convert::name(&request.name, &Path::Root.field("name"))?;
    let key = ResourceKey::of(caller.namespace, &name);
    let found = caller.services.store.resources(&[key]).await?.remove(&key);
    let resource = found.ok_or_else(|| Refusal::ResourceNotFound { name: name.to_string() })?;
    let denials = caller.services.engine.shared().permits.denials(&key);
    let now = caller.services.now().await?;
    Ok(proto::GetResourceResponse { resource: Some(policy::resource(&resource, &denials, now)) })
}

/// Behind which name a list goes on.
#[derive(Serialize, Deserialize)]
struct Cursor {
    name: String,
}

pub async fn list_resources(
    caller: Caller,
    request: proto::ListResourcesRequest,
) -> Result<proto::ListResourcesResponse> {
    let prefix: Name = text::line(&request.name_prefix, MAX_NAME, &Path::Root.field("name_prefix"))?;
    let binding = Binding::of("ListResources", caller.namespace, &[&prefix]);
    let after: Option<Cursor> = binding.cursor(&request.page_token)?;
    let after = after.map(|cursor| cursor.name).unwrap_or_default();
    // Tokens are not signed.
    if after.len() > MAX_NAME || after.chars().any(char::is_control) {
        return Err(Error::InvalidCursor { path: "page_token", why: "is not a page token" });
    }
    let limit = page::size(request.page_size)?;
    let store = &caller.services.store;
    let found = store.list_resources(caller.namespace, &prefix, &after, i64::from(limit) + 1).await?;
    let shown = found.len().min(limit as usize);
    let keys: Vec<ResourceKey> = found[..shown].iter().map(|(key, _)| *key).collect();
    let mut loaded = store.resources(&keys).await?;
    let permits = &caller.services.engine.shared().permits;
    let now = caller.services.now().await?;
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let (mut resources, mut last) = (Vec::with_capacity(shown), None);
    let mut is_full = found.len() > shown;
    for (key, name) in &found[..shown] {
        // One that was deleted since is left out.
        if let Some(resource) = loaded.remove(key) {
            let mut resource = policy::resource(&resource, &permits.denials(key), now);
            resource.holders.clear();
            if !budget.takes(&resource) {
                is_full = true;
                break;
            }
            resources.push(resource);
        }
        last = Some(name);
    }
    let next = last.filter(|_| is_full).map(|name| binding.token(&Cursor { name: name.to_string() }));
    Ok(proto::ListResourcesResponse { resources, next_page_token: next.transpose()?.unwrap_or_default() })
}
