//! Reads of committed jobs and namespaces for the rpcs, each response of one snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use postgres_types::ToSql;
use uuid::Uuid;

use crate::domain::documents::{JobDocuments, LeaseDocuments};
use crate::domain::event::{EventKind, JobEvent, StageChange};
use crate::domain::id::{JobKey, NamespaceId, StageNo};
use crate::domain::job::{Job, JobPhase};
use crate::domain::json::Document;
use crate::domain::record::RecordKey;
use crate::domain::request::{RequestKey, RequestRecord};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::job::in_row;
use crate::store::job::lease_reads::Documents;
use crate::store::job::load::renewed;
use crate::store::load;
use crate::store::load::number;
use crate::store::pg::connection::{DbError, Run, unavailable};
use crate::store::pg::snapshot::Snapshot;
use crate::store::pg::types::JsonText;

impl Store {
    /// A job with its documents.
    pub async fn job(&self, key: JobKey) -> Result<Option<(Arc<Job>, JobDocuments)>> {
        Ok(self.jobs_with_documents(&[key]).await?.remove(&key))
    }

    /// Jobs with their documents, all of one snapshot; missing ones are absent.
    pub async fn jobs_with_documents(&self, keys: &[JobKey]) -> Result<HashMap<JobKey, (Arc<Job>, JobDocuments)>> {
        let client = self.reads.get().await?;
        let snapshot = Snapshot::of(&client);
        let read = async {
            let none = HashMap::default();
            let (namespaces, uids) = columns(keys);
            let own: [&(dyn ToSql + Sync); 2] = [&namespaces, &uids];
            let of: Vec<RecordKey> = keys.iter().copied().map(RecordKey::context).collect();
            let unknown = HashMap::default();
            let (jobs, mut contexts, mut documents, artifacts) = futures::try_join!(
                load::jobs(&snapshot, keys, &none),
                load::records(&snapshot, &of, &unknown),
                documents(&snapshot, keys),
                snapshot.rows(include_str!("../sql/job/load_artifacts.sql"), &own),
            )?;
            for row in &artifacts {
                let key = JobKey { namespace: NamespaceId(row.get(0)), uid: row.get(1) };
                documents.entry(key).or_default().artifacts.insert(number(row.get(2)), document(row.get(3)));
            }
            let whole = |(key, job): (JobKey, Arc<Job>)| {
                let mut own = documents.remove(&key).unwrap_or_default();
                own.context = contexts.remove(&RecordKey::context(key));
                (key, (job, own))
            };
            Ok(jobs.into_iter().map(whole).collect())
        };
        read.await.map_err(|error: DbError| unavailable(&error))
    }

    /// Jobs with their stages, without documents; missing ones are absent.
    pub async fn jobs(&self, keys: &[JobKey]) -> Result<HashMap<JobKey, Arc<Job>>> {
        let client = self.reads.get().await?;
        load::jobs(&client, keys, &HashMap::default()).await.map_err(|error| unavailable(&error))
    }

    /// A job with its stages, without documents. Of a `known` job only the stages that changed since are read, and all leases, since a renewal
    /// changes no revision.
    pub async fn job_since(&self, key: JobKey, known: Option<Arc<Job>>) -> Result<Option<Arc<Job>>> {
        let Some(known) = known else { return Ok(self.jobs(&[key]).await?.remove(&key)) };
        let client = self.reads.get().await?;
        let snapshot = Snapshot::of(&client);
        let read = async {
            let (keys, known) = ([key], [(key, known)].into_iter().collect());
            let own: [&(dyn ToSql + Sync); 2] = [&key.namespace.0, &key.uid];
            let (mut jobs, leases) = futures::try_join!(
                load::jobs(&snapshot, &keys, &known),
                snapshot.rows(include_str!("../sql/lease/load_leases.sql"), &own),
            )?;
            Ok(jobs.remove(&key).map(|job| renewed(job, &leases)))
        };
        read.await.map_err(|error: DbError| unavailable(&error))
    }

    /// Payloads and results of jobs; those that have none may be absent.
    pub async fn list_job_payloads(&self, keys: &[JobKey]) -> Result<HashMap<JobKey, JobDocuments>> {
        let client = self.reads.get().await?;
        documents(&client, keys).await.map_err(|error| unavailable(&error))
    }

    /// Inputs and artifacts of some stages of a job.
    pub async fn stage_documents(
        &self,
        key: JobKey,
        stages: &[StageNo],
    ) -> Result<BTreeMap<StageNo, (Option<Document>, Option<Document>)>> {
        let client = self.reads.get().await?;
        let stages: Vec<i32> = stages.iter().map(|no| signed(*no)).collect();
        let sql = include_str!("../sql/job/load_stage_documents.sql");
        let rows = client.rows(sql, &[&key.namespace.0, &key.uid, &stages]).await;
        let rows = rows.map_err(|error| unavailable(&error))?;
        let entry = |row: &tokio_postgres::Row| {
            (number(row.get(0)), (row.get::<_, Option<_>>(1).map(document), row.get::<_, Option<_>>(2).map(document)))
        };
        Ok(rows.iter().map(entry).collect())
    }

    /// Documents that workers get with leases of these stages.
    pub(in crate::store) async fn read_lease_documents(&self, leases: &[(JobKey, StageNo)]) -> Result<Documents> {
        let client = self.reserved.get().await?;
        let keys: Vec<JobKey> = leases.iter().map(|(key, _)| *key).collect();
        let (namespaces, uids) = columns(&keys);
        let sql = include_str!("../sql/job/load_own_documents.sql");
        let rows = client.rows(sql, &[&namespaces, &uids]).await.map_err(|error| unavailable(&error))?;
        let (mut found, mut with_rows) = (Documents::with_capacity(leases.len()), Vec::new());
        for row in &rows {
            let (key, no) = leases[number(row.get(0)) as usize - 1];
            if row.get(1) {
                with_rows.push((key, no));
            } else {
                let texts = in_row::Texts { inputs: row.get(3), artifacts: row.get(4), specs: row.get(5) };
                found.insert((key, no), texts.of_lease(no, row.get::<_, Option<_>>(2).map(document)));
            }
        }
        if !with_rows.is_empty() {
            documents_in_rows(&client, &with_rows, &mut found).await.map_err(|error| unavailable(&error))?;
        }
        Ok(found)
    }

    /// Remembered requests; new ones are absent.
    pub async fn requests(&self, keys: &[RequestKey]) -> Result<HashMap<RequestKey, Arc<RequestRecord>>> {
        let client = self.repeats.get().await?;
        load::requests(&client, keys).await.map_err(|error| unavailable(&error))
    }

    /// History of a job after a revision, in order.
    pub async fn list_events(&self, job: &Job, after: i64, limit: u32) -> Result<Vec<JobEvent>> {
        let client = self.reads.get().await?;
        let sql = include_str!("../sql/history/list_events.sql");
        let (key, since, limit) = (job.key, job.meta.create_time, i64::from(limit));
        let rows = client.rows(sql, &[&key.namespace.0, &key.uid, &since, &after, &limit]).await;
        rows.map_err(|error| unavailable(&error))?.iter().map(|row| event(row, 0)).collect()
    }

    /// The time by the database's clock, read by the statement.
    pub async fn clock(&self) -> Result<Timestamp> {
        let client = self.reads.get().await?;
        load::clock(&client).await.map_err(|error| unavailable(&error))
    }

    /// Revision and creation time of jobs; missing ones are absent.
    pub async fn revisions(&self, keys: &[JobKey]) -> Result<HashMap<JobKey, (i64, Timestamp)>> {
        let client = self.reserved.get().await?;
        let (namespaces, uids) = columns(keys);
        let rows = client.rows(include_str!("../sql/job/load_revisions.sql"), &[&namespaces, &uids]).await;
        let entry = |row: &tokio_postgres::Row| {
            (JobKey { namespace: NamespaceId(row.get(0)), uid: row.get(1) }, (row.get(2), row.get(3)))
        };
        Ok(rows.map_err(|error| unavailable(&error))?.iter().map(entry).collect())
    }
}

/// Documents that workers get with leases of stages that have rows of their own.
async fn documents_in_rows(
    client: &impl Run,
    leases: &[(JobKey, StageNo)],
    found: &mut HashMap<(JobKey, StageNo), LeaseDocuments>,
) -> std::result::Result<(), tokio_postgres::Error> {
    let keys: Vec<JobKey> = leases.iter().map(|(key, _)| *key).collect();
    let (namespaces, uids) = columns(&keys);
    let stages: Vec<i32> = leases.iter().map(|(_, no)| signed(*no)).collect();
    let sql = include_str!("../sql/job/load_lease_documents.sql");
    let params: [&(dyn ToSql + Sync); 3] = [&namespaces, &uids, &stages];
    let (payloads, rows) = futures::try_join!(documents(client, &keys), client.rows(sql, &params))?;
    for row in &rows {
        let (key, no) = leases[number(row.get(0)) as usize - 1];
        let own = found.entry((key, no)).or_insert_with(|| LeaseDocuments {
            payload: payloads.get(&key).and_then(|documents| documents.payload.clone()),
            input: row.get::<_, Option<_>>(1).map(document),
            artifacts: BTreeMap::new(),
        });
        if let (Some(dependency), Some(artifacts)) = (row.get::<_, Option<i32>>(2), row.get::<_, Option<_>>(3)) {
            own.artifacts.insert(number(dependency), document(artifacts));
        }
    }
    Ok(())
}

async fn documents(
    client: &impl Run,
    keys: &[JobKey],
) -> std::result::Result<HashMap<JobKey, JobDocuments>, tokio_postgres::Error> {
    let (namespaces, uids) = columns(keys);
    let rows = client.rows(include_str!("../sql/job/load_documents.sql"), &[&namespaces, &uids]).await?;
    let entry = |row: &tokio_postgres::Row| {
        let key = JobKey { namespace: NamespaceId(row.get(0)), uid: row.get(1) };
        let (payload, result) = (row.get::<_, Option<_>>(2), row.get::<_, Option<_>>(3));
        let (payload, result) = (payload.map(document), result.map(document));
        (key, JobDocuments { payload, result, ..JobDocuments::default() })
    };
    Ok(rows.iter().map(entry).collect())
}

fn columns(keys: &[JobKey]) -> (Vec<i32>, Vec<Uuid>) {
    keys.iter().map(|key| (key.namespace.0, key.uid)).unzip()
}

fn document(text: JsonText) -> Document {
    Document::from_checked(text.0)
}

/// The number of a stage as a column has it.
pub(in crate::store) fn signed(no: StageNo) -> i32 {
    i32::try_from(no).unwrap_or(i32::MAX)
}

/// An event from eight columns of a row that begin at a position.
pub(in crate::store) fn event(row: &tokio_postgres::Row, at: usize) -> Result<JobEvent> {
    let (kind, phase): (i16, i16) = (row.get(at + 3), row.get(at + 4));
    let stages: Option<JsonText> = row.get(at + 6);
    let stages: Vec<StageChange> = stages.map(|text| load::parsed(&text)).unwrap_or_default();
    Ok(JobEvent {
        revision: row.get(at),
        run: row.get(at + 1),
        event_time: row.get(at + 2),
        kind: EventKind::from_number(kind.into()).ok_or_else(|| Error::bug("an event of unknown kind is stored"))?,
        job_phase: JobPhase::from_number(phase.into())
            .ok_or_else(|| Error::bug("an event of unknown state is stored"))?,
        progress: row.get(at + 7),
        worker_id: row.get::<_, Option<&str>>(at + 5).map(Into::into),
        stages,
    })
}
