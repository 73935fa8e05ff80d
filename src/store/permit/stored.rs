//! The statements of resources.

use std::sync::Arc;

use foldhash::HashMap;

use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::time::Timestamp;
use crate::store::aggregate::Stored;
use crate::store::commit::Plan;
use crate::store::load;
use crate::store::pg::connection::{DbResult, Run};
use crate::store::pg::held::Tables;

impl Stored for Resource {
    const TABLES: Tables = Tables::Resources;

    /// Loads all of them: a resource is small.
    async fn load(
        client: &impl Run,
        keys: &[ResourceKey],
        _known: &HashMap<ResourceKey, Arc<Self>>,
    ) -> DbResult<HashMap<ResourceKey, Arc<Self>>> {
        load::resources(client, keys).await
    }

    async fn lock(client: &impl Run, keys: &[ResourceKey], wait: bool) -> DbResult<()> {
        load::lock_resources(client, keys, wait).await
    }

    fn check_version(plan: &mut Plan, c: i32, key: &ResourceKey, base: Option<&Self>) {
        plan.check_resource(c, *key, base);
    }

    fn share_lock(plan: &mut Plan, c: i32, key: &ResourceKey, base: Option<&Self>) {
        plan.share_lock_resource(c, *key, base);
    }

    fn write(
        plan: &mut Plan,
        c: i32,
        key: &ResourceKey,
        (base, after): (Option<&Self>, Option<&Self>),
        (): &(),
        now: Timestamp,
    ) {
        plan.write_resource(c, *key, base, after, now);
    }
}
