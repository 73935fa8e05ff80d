//! The statements of jobs.

use std::sync::Arc;

use foldhash::HashMap;

use crate::domain::id::JobKey;
use crate::domain::job::{Job, JobEffects};
use crate::domain::time::Timestamp;
use crate::store::aggregate::Stored;
use crate::store::commit::Plan;
use crate::store::load;
use crate::store::pg::connection::{DbResult, Run};
use crate::store::pg::held::Tables;

impl Stored for Job {
    const TABLES: Tables = Tables::Jobs;

    async fn load(
        client: &impl Run,
        keys: &[JobKey],
        known: &HashMap<JobKey, Arc<Self>>,
    ) -> DbResult<HashMap<JobKey, Arc<Self>>> {
        load::jobs(client, keys, known).await
    }

    async fn lock(client: &impl Run, keys: &[JobKey], wait: bool) -> DbResult<()> {
        load::lock_jobs(client, keys, wait).await
    }

    fn check_version(plan: &mut Plan, c: i32, key: &JobKey, base: Option<&Self>) {
        plan.check_job(c, *key, base);
    }

    fn share_lock(plan: &mut Plan, c: i32, key: &JobKey, base: Option<&Self>) {
        plan.share_lock_job(c, *key, base);
    }

    fn write(
        plan: &mut Plan,
        c: i32,
        key: &JobKey,
        states: (Option<&Self>, Option<&Self>),
        effects: &JobEffects,
        now: Timestamp,
    ) {
        match states {
            (None, None) => plan.check_absent_job(c, *key),
            (Some(base), None) => plan.delete_job(c, base),
            (base, Some(after)) => {
                if base.is_none() && !effects.has_generated_id {
                    plan.check_absent_job(c, *key);
                }
                plan.write_job(c, base, after, &effects.changes, now);
            }
        }
    }
}
