//! Loads of jobs with their stages and leases.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use postgres_types::ToSql;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::id::{JobKey, NamespaceId, StageNo};
use crate::domain::job::{Job, JobMeta, JobPhase, JobState, Tally};
use crate::domain::stage::{Lease, Stage, StageState};
use crate::domain::stage_table::StageTable;
use crate::domain::time::Timestamp;
use crate::store::job::in_row::{self, StoredSpec, StoredStage};
use crate::store::load::{micros, number, parsed};
use crate::store::pg::connection::{DbResult, Run};
use crate::store::pg::types::JsonText;
use crate::store::table::JOBS;
use crate::store::values::FAILING;

/// Loads jobs. Of a `known` job only the stages that changed are loaded. Missing jobs are absent.
pub async fn jobs(
    client: &impl Run,
    keys: &[JobKey],
    known: &HashMap<JobKey, Arc<Job>>,
) -> DbResult<HashMap<JobKey, Arc<Job>>> {
    let namespaces: Vec<i32> = keys.iter().map(|key| key.namespace.0).collect();
    let uids: Vec<Uuid> = keys.iter().map(|key| key.uid).collect();
    let revisions: Vec<i64> = keys.iter().map(|key| known.get(key).map_or(0, |job| job.revision)).collect();
    let made: Vec<Timestamp> =
        keys.iter().map(|key| known.get(key).map_or(Timestamp(0), |job| job.meta.create_time)).collect();
    let params: [&(dyn ToSql + Sync); 4] = [&namespaces, &uids, &revisions, &made];
    let rows = client.rows(include_str!("../sql/job/load_jobs.sql"), &params).await?;
    let mut loaded: HashMap<JobKey, Job> = HashMap::with_capacity(keys.len());
    let mut unchanged = Vec::new();
    for row in &rows {
        let key = JobKey { namespace: NamespaceId(row.get(1)), uid: row.get(2) };
        // Renewed leases are not loaded: the known expiry is a lower bound.
        if known.get(&key).is_some_and(|known| is_current(known, row)) {
            unchanged.push(key);
            continue;
        }
        let job = loaded.entry(key).or_insert_with(|| {
            let mut job = root(key, row, known.get(&key));
            job.has_stage_rows = row.get::<_, Option<&str>>(51).is_none();
            put_own_stages(&mut job, row);
            job
        });
        if !job.has_stage_rows {
            put_lease(job, row);
        } else if row.get::<_, Option<i32>>(24).is_some() {
            let stage = Arc::new(stage(row));
            debug_assert!(stage.no as usize <= job.stages.len(), "stages come in order");
            job.stages.put(stage);
        }
    }
    let derived = loaded.into_iter().map(|(key, mut job)| {
        job.derive();
        (key, Arc::new(job))
    });
    Ok(derived.chain(unchanged.into_iter().filter_map(|key| Some((key, known.get(&key)?.clone())))).collect())
}

/// Whether a known job has revision and creation time of a row of load_jobs.
fn is_current(known: &Job, row: &Row) -> bool {
    known.revision == row.get::<_, i64>(5) && known.meta.create_time == row.get::<_, Timestamp>(16)
}

/// A job from the columns that load_jobs and list_jobs begin with, with the stages that are `known`.
pub(in crate::store) fn root(key: JobKey, row: &Row, known: Option<&Arc<Job>>) -> Job {
    let timeout_left: Option<i64> = row.get("timeout_left_us");
    let labels: Option<JsonText> = row.get(10);
    let failure: Option<JsonText> = row.get(11);
    let timeout: Option<i64> = row.get(21);
    let retry: Option<JsonText> = row.get(23);
    Job {
        key,
        meta: Arc::new(JobMeta {
            job_id: row.get::<_, &str>(3).into(),
            kind: row.get::<_, &str>(4).into(),
            create_time: row.get(16),
            delayed_until: row.get(17),
            timeout: timeout.map(micros),
            retention: micros(row.get(22)),
            retry: Arc::new(retry.map(|text| parsed(&text)).unwrap_or_default()),
        }),
        labels: Arc::new(labels.map(|text| parsed(&text)).unwrap_or_default()),
        priority: row.get(8),
        revision: row.get(5),
        run: row.get(6),
        state: job_state(row.get(7), row.get(13), timeout_left.map(micros)),
        progress: row.get(9),
        failure: failure.map(|text| Arc::new(parsed(&text))),
        cancel_reason: row.get::<_, Option<&str>>(12).map(Into::into),
        opens_at: row.get(14),
        times_out_at: row.get(15),
        start_time: row.get(18),
        end_time: row.get(19),
        expire_time: row.get(20),
        has_stage_rows: false,
        // A known job of the same key that was created at another time is another job.
        stages: known
            .filter(|known| known.meta.create_time == row.get::<_, Timestamp>(16))
            .map_or_else(StageTable::default, |known| known.stages.clone()),
        graph: Arc::default(),
        tally: Tally::default(),
    }
}

/// A stage that has a row of its own.
fn stage(row: &Row) -> Stage {
    let failure: Option<JsonText> = row.get(34);
    let message: Option<&str> = row.get(33);
    let spec = StoredSpec {
        spec: Arc::new(parsed(&row.get(38))),
        depends_on: parsed::<Vec<StageNo>>(&row.get(39)).into(),
        parent_no: row.get::<_, Option<i32>>(45).map(number),
        required_by: row.get::<_, Option<JsonText>>(47).map(|text| parsed(&text)).unwrap_or_default(),
        plan_digest: row.get(48),
    };
    let stored = StoredStage {
        state: row.get(27),
        version: row.get(25),
        changed_revision: row.get(26),
        attempt: number(row.get(28)),
        fencing_token: row.get(29),
        token_secret: row.get(30),
        outcome_digest: row.get(31),
        progress: row.get(32),
        message: message.map(Into::into),
        failure: failure.map(|text| Arc::new(parsed(&text))),
        wakes_at: row.get(35),
        start_time: row.get(36),
        end_time: row.get(37),
        permits: row.get::<_, Option<JsonText>>(43).map(|text| parsed(&text)).unwrap_or_default(),
        failures: row.get::<_, Option<JsonText>>(44).map(|text| parsed(&text)).unwrap_or_default(),
        parent_token: row.get(46),
    };
    stored.with(number(row.get(24)), spec, lease(row))
}

/// Puts the stages into a job that holds them in its own row.
fn put_own_stages(job: &mut Job, row: &Row) {
    let (specs, stages): (Option<&str>, Option<&str>) = (row.get(50), row.get(51));
    if let Some((specs, stages)) = specs.zip(stages) {
        in_row::parsed(specs, stages).into_iter().for_each(|stage| job.stages.put(Arc::new(stage)));
    }
}

/// Gives a stage that a job holds in its own row its lease.
fn put_lease(job: &mut Job, row: &Row) {
    let no: Option<i32> = row.get(24);
    if let Some(no) = no
        && let Some(stage) = job.stages.get_mut(number(no))
        && let StageState::Running(attempt) = &mut stage.state
    {
        attempt.lease = lease(row);
    }
}

fn lease(row: &Row) -> Option<Lease> {
    let worker_id: Option<&str> = row.get(40);
    Some(Lease { worker_id: worker_id?.into(), duration: micros(row.get(41)), expires_at: row.get(42) })
}

/// A job with the expiries of its leases from rows of load_leases.
pub(in crate::store) fn renewed(mut job: Arc<Job>, leases: &[Row]) -> Arc<Job> {
    for row in leases {
        Job::renew_lease(&mut job, number(row.get(0)), row.get(1), row.get(2));
    }
    job
}

/// The statements that lock jobs: the one that fails where a job is locked, and the one that waits.
static LOCK: LazyLock<[String; 2]> = LazyLock::new(|| [false, true].map(|wait| JOBS.lock_statement(wait)));

/// Locks jobs in key order. Where another transaction has locked one, it waits or fails.
pub async fn lock_jobs(client: &impl Run, keys: &[JobKey], wait: bool) -> DbResult<()> {
    let namespaces: Vec<i32> = keys.iter().map(|key| key.namespace.0).collect();
    let uids: Vec<Uuid> = keys.iter().map(|key| key.uid).collect();
    client.rows(&LOCK[usize::from(wait)], &[&namespaces, &uids]).await?;
    Ok(())
}

pub(in crate::store) fn job_state(
    number: i16,
    grace_until: Option<Timestamp>,
    timeout_left: Option<Duration>,
) -> JobState {
    let deadline = grace_until.unwrap_or(Timestamp(0));
    if number == FAILING {
        return JobState::Failing { deadline };
    }
    match JobPhase::from_number(number.into()).expect("a CHECK keeps states in range") {
        JobPhase::Pending => JobState::Pending,
        JobPhase::Running => JobState::Running,
        JobPhase::Paused => JobState::Paused { timeout_left },
        JobPhase::Cancelling => JobState::Cancelling { deadline },
        JobPhase::Succeeded => JobState::Succeeded,
        JobPhase::Failed => JobState::Failed,
        JobPhase::Cancelled => JobState::Cancelled,
    }
}
