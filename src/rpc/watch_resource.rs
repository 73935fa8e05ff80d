//! WatchResource: a resource as it is, then its newest versions. Versions between two updates may be left out; the last one never is.

use std::sync::Arc;

use super::caller::Caller;
use super::convert::path::Path;
use super::convert::{permit as convert, policy};
use super::services::Services;
use super::streams::{MessageSource, Messages, messages};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::error::Result;
use crate::feed::follow::{FollowedResources, ResumePoint, StateUpdate, StateWatcher};
use crate::proto;
use crate::proto::watch_resource_response::Update;

struct ResourceWatch {
    services: Arc<Services>,
    watcher: StateWatcher<FollowedResources>,
}

pub async fn watch_resource(
    caller: Caller,
    request: proto::WatchResourceRequest,
) -> Result<Messages<proto::WatchResourceResponse>> {
    let name = convert::name(&request.name, &Path::Root.field("name"))?;
    let key = ResourceKey::of(caller.namespace, &name);
    let services = caller.services.clone();
    let resumed = vec![(key, ResumePoint::default())];
    let watcher = StateWatcher::begin(&services.hub, &services.watch_store, resumed, caller.memory).await?;
    Ok(messages(ResourceWatch { services, watcher }))
}

impl MessageSource for ResourceWatch {
    type Message = proto::WatchResourceResponse;

    async fn next(&mut self) -> Result<Option<Self::Message>> {
        let update = match self.watcher.next().await? {
            StateUpdate::New(resource) | StateUpdate::Changed { state: resource, .. } => {
                Update::Resource(self.to_proto(&resource).await?)
            }
            StateUpdate::Absent { .. } => Update::Removal(proto::ResourceRemoval {}),
            StateUpdate::Keepalive => Update::Keepalive(proto::WatchKeepalive { version: 0 }),
        };
        Ok(Some(proto::WatchResourceResponse { update: Some(update) }))
    }
}

impl ResourceWatch {
    async fn to_proto(&self, resource: &Resource) -> Result<proto::Resource> {
        let now = self.services.now().await?;
        let denials = self.services.engine.shared().permits.denials(&resource.key);
        Ok(policy::resource(resource, &denials, now))
    }
}
