//! WatchResource: a resource as it is, then what becomes of it. The last state always comes; what lies between may be told as one.

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use tokio::time::sleep;
use tonic::Status;

use super::caller::Caller;
use super::convert::path::Path;
use super::convert::{permit as convert, policy};
use super::services::Services;
use super::watch::Messages;
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::time::Timestamp;
use crate::engine::followers::Following;
use crate::error::Result;
use crate::feed::{Quiet, detached};
use crate::operation::overlay::Key;
use crate::proto;
use crate::proto::watch_resource_response::Update;

/// A resource that many use is told this often at most.
const TICK: Duration = Duration::from_millis(50);

struct Watcher {
    services: Arc<Services>,
    following: Following<ResourceKey>,
    key: ResourceKey,
    /// What was told last: version and creation, or that it is not there.
    told: Option<Option<(i64, Timestamp)>>,
    quiet: Quiet,
}

/// WatchResource.
pub async fn watch_resource(
    caller: Caller,
    request: proto::WatchResourceRequest,
) -> Result<Messages<proto::WatchResourceResponse>> {
    let name = convert::name(&request.name, &Path::Root.field("name"))?;
    let key = ResourceKey::of(caller.namespace, &name);
    let services = caller.services.clone();
    // First, so that nothing is missed between the look and the wait.
    let following = services.engine.shared().permits.followers.follow(vec![key]);
    let quiet = Quiet::new(services.hub.settings.keepalive);
    let watcher = Watcher { services, following, key, told: None, quiet };
    let messages = stream::try_unfold(watcher, |mut watcher| async move {
        let update = watcher.next().await.map_err(Status::from)?;
        Ok(Some((proto::WatchResourceResponse { update: Some(update) }, watcher)))
    });
    Ok(Box::pin(messages))
}

impl Watcher {
    async fn next(&mut self) -> Result<Update> {
        loop {
            if self.told.is_some() {
                tokio::select! {
                    biased;
                    _changed = self.following.changed() => sleep(TICK).await,
                    () = self.quiet.lasts() => return Ok(Update::Keepalive(proto::WatchKeepalive { revision: 0 })),
                }
            }
            if let Some(update) = self.look().await? {
                self.quiet.broken();
                return Ok(update);
            }
        }
    }

    async fn look(&mut self) -> Result<Option<Update>> {
        let shared = self.services.engine.shared().clone();
        let is_current = |resource: &Arc<Resource>| {
            self.told.is_some() && self.following.is_current(&self.key, (resource.version, resource.create_time))
        };
        let cached = shared.cache.get(&Key::Resource(self.key)).filter(is_current);
        let resource = match cached {
            Some(resource) => Some(resource),
            None => {
                let (store, key) = (self.services.watch_store.clone(), self.key);
                // A stream that its reader lets stand still shall hold no connection.
                detached(async move { store.resources(&[key]).await }).await?.remove(&self.key)
            }
        };
        let at = resource.as_ref().map(|resource| (resource.version, resource.create_time));
        let is_older = |(version, made): (i64, Timestamp)| matches!(self.told, Some(Some((told, then))) if (made, version) <= (then, told));
        if self.told == Some(at) || at.is_some_and(is_older) {
            return Ok(None);
        }
        self.told = Some(at);
        let now = self.services.now().await?;
        Ok(Some(match resource {
            None => Update::Absent(proto::ResourceAbsent {}),
            Some(resource) => {
                let denials = shared.permits.denials(&self.key);
                Update::Resource(policy::resource(&resource, &denials, now))
            }
        }))
    }
}
