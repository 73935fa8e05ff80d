//! The plainest way to drain a queue in SQL: claim a hundred ready stages, complete them in one statement, commit each.

use crate::store::connection::{Client, Run, Target};

/// Rows a claim takes.
const CLAIM: i64 = 100;

const CLAIM_SQL: &str = "WITH picked AS (SELECT job_uid, stage_no FROM ready_stages WHERE namespace_id = 1 AND queue = $1 \
    ORDER BY priority DESC, ready_at, job_uid, stage_no LIMIT $2 FOR UPDATE SKIP LOCKED), \
    gone AS (DELETE FROM ready_stages r USING picked p WHERE r.namespace_id = 1 AND r.job_uid = p.job_uid \
    AND r.stage_no = p.stage_no RETURNING r.job_uid, r.stage_no) \
    UPDATE stages s SET state = 3, attempt = attempt + 1, version = version + 1 FROM gone g \
    WHERE s.namespace_id = 1 AND s.job_uid = g.job_uid AND s.stage_no = g.stage_no RETURNING s.job_uid, s.stage_no";
const COMPLETE_SQL: &str = "UPDATE stages s SET state = 5, progress = 1, version = version + 1, end_time = now() \
    FROM unnest($1::uuid[], $2::int4[]) AS v(job_uid, stage_no) \
    WHERE s.namespace_id = 1 AND s.job_uid = v.job_uid AND s.stage_no = v.stage_no";

/// Drains a queue over `workers` connections; returns how many stages there were.
pub async fn drain(url: &str, queue: &str, workers: usize) -> anyhow::Result<u64> {
    let target = Target::parse(url)?;
    let mut tasks = Vec::with_capacity(workers);
    for _ in 0..workers {
        let client = target.connect("SET plan_cache_mode = force_generic_plan").await?;
        tasks.push(tokio::spawn(drain_alone(client, queue.to_owned())));
    }
    let mut drained = 0;
    for task in tasks {
        drained += task.await??;
    }
    Ok(drained)
}

async fn drain_alone(client: Client, queue: String) -> anyhow::Result<u64> {
    let mut drained = 0;
    loop {
        let claimed = client.rows(CLAIM_SQL, &[&queue, &CLAIM]).await?;
        if claimed.is_empty() {
            return Ok(drained);
        }
        let (uids, numbers): (Vec<uuid::Uuid>, Vec<i32>) =
            claimed.iter().map(|row| (row.get::<_, uuid::Uuid>(0), row.get::<_, i32>(1))).unzip();
        client.rows(COMPLETE_SQL, &[&uids, &numbers]).await?;
        drained += claimed.len() as u64;
    }
}
