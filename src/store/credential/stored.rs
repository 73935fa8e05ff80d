//! The statements of the key ring.

use std::sync::Arc;

use foldhash::HashMap;

use super::queries::{changed_keys, lock_key_ring};
use crate::domain::credential::KeyRing;
use crate::domain::time::Timestamp;
use crate::store::aggregate::Stored;
use crate::store::commit::Plan;
use crate::store::pg::connection::{DbResult, Run};
use crate::store::pg::held::Tables;

impl Stored for KeyRing {
    const TABLES: Tables = Tables::Credentials;

    async fn load(client: &impl Run, _keys: &[()], known: &HashMap<(), Arc<Self>>) -> DbResult<HashMap<(), Arc<Self>>> {
        let mut ring = known.get(&()).cloned().unwrap_or_default();
        let changes = changed_keys(client, ring.version).await?;
        if changes.is_whole || changes.version != ring.version {
            Arc::make_mut(&mut ring).apply(changes);
        }
        Ok([((), ring)].into_iter().collect())
    }

    async fn lock(client: &impl Run, _keys: &[()], wait: bool) -> DbResult<()> {
        lock_key_ring(client, wait).await
    }

    fn check_version(plan: &mut Plan, c: i32, (): &(), base: Option<&Self>) {
        plan.check_key_ring(c, base);
    }

    fn share_lock(plan: &mut Plan, c: i32, (): &(), base: Option<&Self>) {
        plan.lock_key_ring(c, base);
    }

    /// Never deletes it: there is always one.
    fn write(
        plan: &mut Plan,
        c: i32,
        (): &(),
        (base, after): (Option<&Self>, Option<&Self>),
        (): &(),
        _now: Timestamp,
    ) {
        if let Some(after) = after {
            plan.write_key_ring(c, base, after);
        }
    }
}
