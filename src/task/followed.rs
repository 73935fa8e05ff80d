//! Records and resources that somebody follows here and another server changes: one look for all of each kind.

use std::sync::Arc;
use std::time::Duration;

use super::Chore;
use crate::domain::permit::ResourceKey;
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::overlay::Key;
use crate::store::load::Look;

/// Records that are looked at at once.
const AT_ONCE: usize = 500;

/// Looks at all resources that are followed on this server.
pub struct FollowedResources {
    engine: Engine,
}

impl FollowedResources {
    /// A look-out.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for FollowedResources {
    const NAME: &'static str = "followed_resources";
    const EVERY: Duration = Duration::from_millis(250);
    // Each server has followers of its own.
    const BY_TURNS: bool = false;

    async fn run(&mut self) -> Result<usize> {
        let shared = self.engine.shared();
        let followed = shared.permits.followers.followed();
        for followed in followed.chunks(AT_ONCE) {
            let keys: Vec<ResourceKey> = followed.iter().map(|(key, _)| *key).collect();
            let found = shared.store.followed_resources(&keys).await?;
            for key in keys {
                let resource = found.get(&key);
                // First, for who is woken looks there.
                match resource {
                    Some(resource) => shared.cache.put(Key::Resource(key), resource.clone()),
                    None => shared.cache.remove(&Key::Resource(key)),
                }
                let at = resource.map(|resource| (resource.version, resource.create_time));
                shared.permits.followers.note(&key, at);
            }
        }
        Ok(followed.len())
    }
}

/// Looks at all records that are followed on this server; what did not change costs little.
pub struct FollowedRecords {
    engine: Engine,
}

impl FollowedRecords {
    /// A look-out.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for FollowedRecords {
    const NAME: &'static str = "followed_records";
    const EVERY: Duration = Duration::from_millis(250);
    // Each server has followers of its own.
    const BY_TURNS: bool = false;

    async fn run(&mut self) -> Result<usize> {
        let shared = self.engine.shared();
        let mut changed = 0;
        for followed in shared.followers.followed().chunks(AT_ONCE) {
            let (keys, at): (Vec<_>, Vec<_>) = followed.iter().cloned().unzip();
            let looks = shared.store.look_at_followed_records(&keys, &at).await?;
            for (key, look) in keys.into_iter().zip(looks) {
                match look {
                    Look::Unchanged => continue,
                    Look::Changed(record) => {
                        // First, for who is woken looks there.
                        let record = Arc::new(record);
                        shared.cache.put(Key::Record(key.clone()), record.clone());
                        shared.followers.note(&key, Some((record.version, record.create_time)));
                    }
                    Look::Missing => {
                        shared.cache.remove(&Key::Record(key.clone()));
                        shared.followers.note(&key, None);
                    }
                }
                changed += 1;
            }
        }
        Ok(changed)
    }
}
