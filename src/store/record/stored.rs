//! The statements of records.

use std::sync::Arc;

use foldhash::HashMap;

use crate::domain::record::{Record, RecordKey};
use crate::domain::time::Timestamp;
use crate::store::aggregate::Stored;
use crate::store::commit::Plan;
use crate::store::load;
use crate::store::pg::connection::{DbResult, Run};
use crate::store::pg::held::Tables;

impl Stored for Record {
    const TABLES: Tables = Tables::Records;

    async fn load(
        client: &impl Run,
        keys: &[RecordKey],
        known: &HashMap<RecordKey, Arc<Self>>,
    ) -> DbResult<HashMap<RecordKey, Arc<Self>>> {
        load::records(client, keys, known).await
    }

    async fn lock(client: &impl Run, keys: &[RecordKey], wait: bool) -> DbResult<()> {
        load::lock_records(client, keys, wait).await
    }

    fn check_version(plan: &mut Plan, c: i32, key: &RecordKey, base: Option<&Self>) {
        plan.check_record(c, key, base);
    }

    fn share_lock(plan: &mut Plan, c: i32, key: &RecordKey, base: Option<&Self>) {
        plan.share_lock_record(c, key, base);
    }

    fn write(
        plan: &mut Plan,
        c: i32,
        key: &RecordKey,
        (base, after): (Option<&Self>, Option<&Self>),
        (): &(),
        _now: Timestamp,
    ) {
        plan.write_record(c, key, base, after);
    }
}
