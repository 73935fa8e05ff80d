//! The rows of a changed job: the difference between the job as it was loaded and as it was decided, one net effect per row.

use crate::domain::id::{JobKey, StageNo};
use crate::domain::job::{Job, JobChanges};
use crate::domain::json::Document;
use crate::domain::lease::LeaseKey;
use crate::domain::permit::ResourceKey;
use crate::domain::ready::ReadyChange;
use crate::domain::request::{RequestKey, RequestRecord};
use crate::domain::stage::Stage;
use crate::domain::time::Timestamp;
use crate::store::commit::columns::*;
use crate::store::commit::plan::Plan;
use crate::store::job::child_rows::{event_row, spec_row};
use crate::store::job::in_row;
use crate::store::job::job_rows::{changed_job, failure, new_job, set_or_gone};
use crate::store::permit::write::stored_amount;
use crate::store::pg::types::JsonText;
use crate::store::values::{micros, owned, stage_no, text};

impl Plan {
    /// Writes a job that is new (`base` is `None`) or changed. The insert fails for the whole group if the id of a new job is used; where
    /// that may be so, its component checks it first, see [`Self::check_absent_job`].
    pub fn write_job(&mut self, c: i32, base: Option<&Job>, job: &Job, changes: &JobChanges, now: Timestamp) {
        let Some(base) = base else {
            self.insert_jobs.push(new_job(c, job, changes));
            self.write_children(c, None, job, changes, now);
            return;
        };
        if job.is_at_revision_of(base) {
            // Only what stages wait for changed.
            self.check_version_jobs.push(root(c, base));
        } else {
            self.lock_jobs.push(root(c, base));
            self.update_jobs.push(changed_job(c, base, job, changes));
        }
        self.write_children(c, Some(base), job, changes, now);
    }

    /// Checks that a job has the version that was read, or still does not exist.
    pub fn check_job(&mut self, c: i32, key: JobKey, base: Option<&Job>) {
        match base {
            Some(base) => self.check_version_jobs.push(root(c, base)),
            None => self.check_absent_job(c, key),
        }
    }

    /// Checks the same, and keeps an existing job from changing until the group is committed.
    pub fn share_lock_job(&mut self, c: i32, key: JobKey, base: Option<&Job>) {
        match base {
            Some(base) => self.share_lock_jobs.push(root(c, base)),
            None => self.check_absent_job(c, key),
        }
    }

    /// Checks that there is no such job.
    pub fn check_absent_job(&mut self, c: i32, key: JobKey) {
        self.check_absent_jobs.push(RootId { c, namespace_id: key.namespace.0, root_uid: key.uid });
    }

    /// Deletes a job and all below it; history stays.
    pub fn delete_job(&mut self, c: i32, base: &Job) {
        let (namespace_id, root_uid) = ids(base.key);
        self.lock_jobs.push(root(c, base));
        for table in [&mut self.delete_jobs, &mut self.delete_job_ready_stages, &mut self.delete_job_leases] {
            table.push(RootId { c, namespace_id, root_uid });
        }
        if in_row::is_in_row(base) {
            return;
        }
        for table in [
            &mut self.delete_job_job_documents,
            &mut self.delete_job_stages,
            &mut self.delete_job_stage_specs,
            &mut self.delete_job_stage_artifacts,
        ] {
            table.push(RootId { c, namespace_id, root_uid });
        }
    }

    /// Checks that a lease has expired and was not renewed.
    pub fn check_lease_expired(&mut self, c: i32, key: JobKey, no: StageNo, token_secret: uuid::Uuid) {
        let (namespace_id, job_uid) = ids(key);
        self.check_expired_leases.push(LeaseToken { c, namespace_id, job_uid, stage_no: stage_no(no), token_secret });
    }

    /// Renews a lease that still has this secret.
    pub fn renew_lease(&mut self, c: i32, key: LeaseKey, token_secret: uuid::Uuid, expires_at: Timestamp) {
        let (namespace_id, job_uid) = ids(key.job);
        let stage_no = stage_no(key.stage_no);
        self.renew_leases.push(LeaseRenewal { c, namespace_id, job_uid, stage_no, token_secret, expires_at });
    }

    /// Remembers a request under an id that must be new.
    pub fn remember_request(&mut self, c: i32, key: RequestKey, record: &RequestRecord, now: Timestamp) {
        self.check_absent_requests.push(RequestId { c, namespace_id: key.namespace.0, request_id: key.request_id });
        self.insert_requests.push(RequestRow {
            c,
            namespace_id: key.namespace.0,
            request_id: key.request_id,
            digest: record.digest,
            job_uids: record.jobs.iter().flat_map(|uid| *uid.as_bytes()).collect(),
            stage_no: record.stage_no.map(stage_no),
            revision: record.revision,
            applied: record.applied,
            create_time: now,
            versions: (!record.versions.is_empty())
                .then(|| record.versions.iter().flat_map(|version| version.to_be_bytes()).collect()),
        });
    }

    fn write_children(&mut self, c: i32, base: Option<&Job>, job: &Job, changes: &JobChanges, now: Timestamp) {
        match base.filter(|base| in_row::is_in_row(base)) {
            _ if in_row::is_in_row(job) => {}
            Some(base) => self.move_to_rows(c, base, job, changes),
            None => self.write_stage_rows(c, base, job, changes),
        }
        self.write_leases(c, base, job, changes);
        self.write_ready(c, base, job, changes, now);
        for (&no, &resource) in &changes.blocked {
            // One that was leased or started by the same group after all has no row.
            if base.is_some_and(|base| job.is_leasable(&job.stages[no]) && base.stages.get(no).is_some()) {
                self.block_stage(c, job, no, resource);
            }
        }
        for event in &changes.events {
            self.insert_events.push(event_row(c, job.key, event));
        }
    }

    /// Rows below a job that has some.
    fn write_stage_rows(&mut self, c: i32, base: Option<&Job>, job: &Job, changes: &JobChanges) {
        for &no in &changes.stages {
            self.write_stage(c, base, job, &job.stages[no], changes);
        }
        let is_rewired = |no: &&StageNo| is_old(base, **no) && !changes.renewed_specs.contains(no);
        for &no in changes.rewired.iter().filter(is_rewired) {
            self.rewire_specs.push(StageDependenciesRow {
                c,
                namespace_id: job.key.namespace.0,
                job_uid: job.key.uid,
                stage_no: stage_no(no),
                depends_on: JsonText::of(&job.stages[no].depends_on),
            });
        }
        self.write_documents(c, base, job, changes);
    }

    /// Rows of a job that was kept in one row and has grown. What only the database has of it (inputs, payload, result, artifacts) is
    /// copied there, unless it changes too.
    fn move_to_rows(&mut self, c: i32, base: &Job, job: &Job, changes: &JobChanges) {
        let (namespace_id, job_uid) = ids(job.key);
        for stage in job.stages.iter() {
            self.insert_stages.push(stage_row(c, job.key, stage));
            let is_kept = is_old(Some(base), stage.no) && !changes.renewed_specs.contains(&stage.no);
            let specs = if is_kept { &mut self.move_specs } else { &mut self.insert_specs };
            specs.push(spec_row(c, job.key, stage, changes));
            if is_old(Some(base), stage.no) && !changes.artifacts.contains_key(&stage.no) {
                self.move_artifacts.push(StageId { c, namespace_id, job_uid, stage_no: stage_no(stage.no) });
            }
        }
        let result = changes.result.as_ref().map(|result| set_or_gone(result.as_ref()));
        self.move_documents.push(MovedResult { c, namespace_id, job_uid, result });
        for (&no, artifacts) in &changes.artifacts {
            if let Some(artifacts) = artifacts {
                self.set_artifacts.push(artifacts_row(c, job.key, no, artifacts));
            }
        }
    }

    fn write_stage(&mut self, c: i32, base: Option<&Job>, job: &Job, stage: &Stage, changes: &JobChanges) {
        let row = stage_row(c, job.key, stage);
        if is_old(base, stage.no) {
            self.update_stages.push(row);
            if changes.renewed_specs.contains(&stage.no) {
                self.update_specs.push(spec_row(c, job.key, stage, changes));
            }
            return;
        }
        self.insert_stages.push(row);
        self.insert_specs.push(spec_row(c, job.key, stage, changes));
    }

    fn write_leases(&mut self, c: i32, base: Option<&Job>, job: &Job, changes: &JobChanges) {
        let (namespace_id, job_uid) = ids(job.key);
        for &no in &changes.stages {
            let stage = &job.stages[no];
            let before = base.and_then(|base| base.stages.get(no)).filter(|before| before.lease().is_some());
            let same = before.is_some_and(|before| before.token_secret == stage.token_secret);
            let stage_no = stage_no(no);
            match (stage.lease(), stage.token_secret) {
                (Some(lease), Some(token_secret)) if same => {
                    if changes.renewed.contains(&no) {
                        let key = LeaseKey { job: job.key, stage_no: no };
                        self.renew_lease(c, key, token_secret, lease.expires_at);
                    }
                }
                (Some(lease), Some(token_secret)) => self.set_leases.push(LeaseRow {
                    c,
                    namespace_id,
                    job_uid,
                    stage_no,
                    token_secret,
                    fencing_token: stage.fencing_token,
                    worker_id: owned(&lease.worker_id),
                    duration_us: micros(lease.duration),
                    expires_at: lease.expires_at,
                }),
                (_, _) if before.is_some() => {
                    self.clear_leases.push(StageId { c, namespace_id, job_uid, stage_no });
                }
                (_, _) => {}
            }
        }
    }

    fn write_ready(&mut self, c: i32, base: Option<&Job>, job: &Job, changes: &JobChanges, now: Timestamp) {
        let (namespace_id, job_uid) = ids(job.key);
        for stage in job.stages_to_look_at(base, changes) {
            let rows = match job.ready_change(base, stage) {
                ReadyChange::None => continue,
                ReadyChange::Created => &mut self.insert_ready,
                ReadyChange::Replaced => &mut self.renew_ready,
                ReadyChange::Became | ReadyChange::Moved => &mut self.set_ready,
                ReadyChange::Ended => {
                    self.clear_ready.push(StageId { c, namespace_id, job_uid, stage_no: stage_no(stage.no) });
                    continue;
                }
            };
            let first = stage.spec.permits.first();
            rows.push(ReadyRow {
                c,
                namespace_id,
                job_uid,
                stage_no: stage_no(stage.no),
                queue: owned(&stage.spec.queue),
                priority: job.priority,
                ready_at: now,
                group_key: stage.spec.group_key.as_ref().map(owned),
                alone: stage.is_suspect(),
                resource_uid: first.map(|claim| ResourceKey::uid_of(&claim.resource)),
                amount: first.and_then(stored_amount),
            });
        }
    }

    fn write_documents(&mut self, c: i32, base: Option<&Job>, job: &Job, changes: &JobChanges) {
        let (namespace_id, job_uid) = ids(job.key);
        let result = changes.result.as_ref().map(|result| result.as_ref().map(text));
        match (base, changes.payload.as_ref().map(text), result) {
            (None, None, None | Some(None)) | (Some(_), _, None) => {}
            (None, payload, result) => {
                let result = result.flatten();
                self.insert_documents.push(NewDocument { c, namespace_id, job_uid, payload, result });
            }
            (Some(_), _, Some(result)) => self.set_results.push(JobResult { c, namespace_id, job_uid, result }),
        }
        for (&no, artifacts) in &changes.artifacts {
            match artifacts {
                Some(artifacts) => self.set_artifacts.push(artifacts_row(c, job.key, no, artifacts)),
                None => self.clear_artifacts.push(StageId { c, namespace_id, job_uid, stage_no: stage_no(no) }),
            }
        }
    }
}

fn ids(key: JobKey) -> (i32, uuid::Uuid) {
    (key.namespace.0, key.uid)
}

fn root(c: i32, base: &Job) -> RootVersion {
    let (namespace_id, root_uid) = ids(base.key);
    RootVersion { c, namespace_id, root_uid, version: base.revision, create_time: base.meta.create_time }
}

fn is_old(base: Option<&Job>, no: StageNo) -> bool {
    base.is_some_and(|base| base.stages.get(no).is_some())
}

fn stage_row(c: i32, key: JobKey, stage: &Stage) -> StageRow {
    StageRow {
        c,
        namespace_id: key.namespace.0,
        job_uid: key.uid,
        stage_no: stage_no(stage.no),
        version: stage.version,
        changed_revision: stage.changed_revision,
        state: stage.phase() as i16,
        attempt: i32::try_from(stage.attempt).unwrap_or(i32::MAX),
        fencing_token: stage.fencing_token,
        token_secret: stage.token_secret,
        outcome_digest: stage.outcome_digest,
        progress: stage.progress,
        message: stage.message.as_ref().map(owned),
        failure: failure(stage.failure.as_ref()),
        wakes_at: stage.wakes_at(),
        start_time: stage.start_time,
        end_time: stage.end_time,
        permits: (!stage.permits().is_empty()).then(|| JsonText::of(&stage.permits())),
        failures: (!stage.failures.is_empty()).then(|| JsonText::of(&stage.failures)),
        parent_token: stage.parent.map(|parent| parent.fencing_token),
    }
}

fn artifacts_row(c: i32, key: JobKey, no: StageNo, artifacts: &Document) -> StageArtifactsRow {
    let (namespace_id, job_uid) = ids(key);
    StageArtifactsRow { c, namespace_id, job_uid, stage_no: stage_no(no), artifacts: text(artifacts) }
}
