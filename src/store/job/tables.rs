//! The tables below a job, in memory: what the rows of a plan would leave behind. For tests of what [`Plan`] computes.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::domain::job::Job;
use crate::domain::lease::LeaseKey;
use crate::domain::retry::FailureCounts;
use crate::domain::stage::{Stage, StageState};
use crate::domain::time::Timestamp;
use crate::store::commit::Plan;
use crate::store::commit::columns::{SpecRow, StageRow};
use crate::store::job::in_row;
use crate::store::job::job_rows::timeout_left_us;

/// The rows of one job.
#[derive(Clone, Debug, Default)]
pub struct JobTables {
    root: Option<(i64, i16, f64, Option<i64>)>,
    /// What was submitted of the stages and where they stand, of a job that is kept in one row.
    own: Option<(String, String)>,
    stages: BTreeMap<i32, StageRow>,
    specs: BTreeMap<i32, SpecRow>,
    depends_on: BTreeMap<i32, String>,
    /// Priority, whether it is leased alone, and queue.
    ready: BTreeMap<i32, (i32, bool, String)>,
    leases: BTreeMap<i32, (Uuid, Timestamp)>,
    /// Whether the job's result is set.
    pub has_result: bool,
}

impl JobTables {
    /// Writes the rows of a plan, each at most once.
    pub fn apply(&mut self, plan: &Plan) {
        for row in plan.insert_jobs.rows() {
            assert!(
                self.root.replace((row.revision, row.state, row.progress, row.timeout_left_us)).is_none(),
                "inserted twice"
            );
            let texts = row.specs.zip(row.stages);
            self.own = texts.map(|(specs, stages)| (specs.0.to_string(), stages.0.to_string()));
            self.has_result = row.result.is_some();
        }
        for row in plan.update_jobs.rows() {
            assert!(
                self.root.replace((row.revision, row.state, row.progress, row.timeout_left_us)).is_some(),
                "updated before it is there"
            );
            let own = self.own.take();
            self.own = row.stages.map(|stages| {
                let (specs, _) = own.expect("a job that has rows keeps them");
                if let Some(result) = row.result {
                    self.has_result = !result.0.is_empty();
                }
                (row.specs.map_or(specs, |specs| specs.0.to_string()), stages.0.to_string())
            });
        }
        let mut written = BTreeSet::new();
        for row in plan.insert_stages.rows() {
            assert!(written.insert(row.stage_no) && self.stages.insert(row.stage_no, row).is_none(), "inserted twice");
        }
        for row in plan.update_stages.rows() {
            assert!(written.insert(row.stage_no) && self.stages.insert(row.stage_no, row).is_some(), "no such stage");
        }
        let moved = plan.move_specs.rows();
        for row in plan.insert_specs.rows().into_iter().chain(moved) {
            assert!(self.depends_on.insert(row.stage_no, row.depends_on.0.to_string()).is_none(), "inserted twice");
            self.specs.insert(row.stage_no, row);
        }
        let mut specified = BTreeSet::new();
        for row in plan.update_specs.rows() {
            assert!(specified.insert(row.stage_no), "one effect per row");
            assert!(self.depends_on.insert(row.stage_no, row.depends_on.0.to_string()).is_some(), "no such spec");
            self.specs.insert(row.stage_no, row);
        }
        for row in plan.rewire_specs.rows() {
            assert!(specified.insert(row.stage_no), "one effect per row");
            assert!(self.depends_on.insert(row.stage_no, row.depends_on.0.to_string()).is_some(), "no such spec");
        }
        for row in plan.insert_documents.rows() {
            self.has_result = row.result.is_some();
        }
        for row in plan.move_documents.rows() {
            self.has_result = row.result.map_or(self.has_result, |result| !result.0.is_empty());
        }
        for row in plan.set_results.rows() {
            self.has_result = row.result.is_some();
        }
        self.apply_ready(plan);
        self.apply_leases(plan);
    }

    fn apply_ready(&mut self, plan: &Plan) {
        let mut written = BTreeSet::new();
        for row in plan.insert_ready.rows() {
            assert!(written.insert(row.stage_no), "one effect per row");
            assert!(self.ready.insert(row.stage_no, (row.priority, row.alone, row.queue)).is_none(), "inserted twice");
        }
        for row in plan.set_ready.rows() {
            assert!(written.insert(row.stage_no), "one effect per row");
            // A row that is there keeps its queue.
            let ready = self.ready.entry(row.stage_no).or_insert((0, false, row.queue));
            (ready.0, ready.1) = (row.priority, row.alone);
        }
        for row in plan.renew_ready.rows() {
            assert!(written.insert(row.stage_no), "one effect per row");
            let renewed = (row.priority, row.alone, row.queue);
            assert!(self.ready.insert(row.stage_no, renewed).is_some(), "what is renewed is there");
        }
        for row in plan.clear_ready.rows() {
            assert!(written.insert(row.stage_no), "one effect per row");
            self.ready.remove(&row.stage_no);
        }
    }

    /// Renews a lease without its job.
    pub fn renew(&mut self, key: LeaseKey, secret: Uuid, expires_at: Timestamp) {
        let mut plan = Plan::default();
        plan.renew_lease(0, key, secret, expires_at);
        self.apply_leases(&plan);
    }

    fn apply_leases(&mut self, plan: &Plan) {
        let mut written = BTreeSet::new();
        for row in plan.renew_leases.rows() {
            assert!(written.insert(row.stage_no), "one effect per row");
            let lease = self.leases.get_mut(&row.stage_no).expect("what is renewed is there");
            assert_eq!(lease.0, row.token_secret);
            lease.1 = lease.1.max(row.expires_at);
        }
        for row in plan.set_leases.rows() {
            assert!(written.insert(row.stage_no), "one effect per row");
            self.leases.insert(row.stage_no, (row.token_secret, row.expires_at));
        }
        for row in plan.clear_leases.rows() {
            assert!(written.insert(row.stage_no), "one effect per row");
            assert!(self.leases.remove(&row.stage_no).is_some(), "what is cleared is there");
        }
    }

    /// That loading these rows gives this job.
    pub fn check(&self, job: &Job) {
        assert_eq!(self.own.is_some(), in_row::is_in_row(job), "one row, or rows for the stages");
        match &self.own {
            Some((specs, stages)) => self.check_own(job, specs, stages),
            None => self.check_rows(job),
        }
        for stage in job.stages.iter() {
            let lease = stage.lease().map(|lease| (stage.token_secret.expect("held"), lease.expires_at));
            let no = i32::try_from(stage.no).expect("few stages");
            assert_eq!(self.leases.get(&no).copied(), lease, "{}", stage.spec.name);
            let ready =
                job.is_leasable(stage).then(|| (job.priority, stage.is_suspect(), stage.spec.queue.to_string()));
            assert_eq!(self.ready.get(&no), ready.as_ref(), "{}", stage.spec.name);
        }
        let (revision, _, progress, timeout_left) = self.root.expect("a root");
        assert_eq!((revision, progress, timeout_left), (job.revision, job.progress, timeout_left_us(job)));
    }

    fn check_own(&self, job: &Job, specs: &str, stages: &str) {
        assert!(self.stages.is_empty() && self.specs.is_empty(), "no rows beside the job's own");
        let stored = in_row::parsed(specs, stages);
        let without_lease = |stage: &Stage| {
            let mut stage = Stage { pending: 0, ..stage.clone() };
            if let StageState::Running(attempt) = &mut stage.state {
                attempt.lease = None;
            }
            format!("{stage:?}")
        };
        let job: Vec<String> = job.stages.iter().map(|stage| without_lease(stage)).collect();
        assert_eq!(stored.iter().map(without_lease).collect::<Vec<_>>(), job);
    }

    fn check_rows(&self, job: &Job) {
        let state = self.stages.values();
        let stages = job.stages.iter();
        assert_eq!(state.len(), job.stages.len(), "a row for each stage");
        for (row, stage) in state.zip(stages) {
            let of_row = (row.version, row.changed_revision, row.state, row.attempt, row.fencing_token, row.progress);
            let attempt = i32::try_from(stage.attempt).expect("few attempts");
            let (version, revision, token) = (stage.version, stage.changed_revision, stage.fencing_token);
            assert_eq!(of_row, (version, revision, stage.phase() as i16, attempt, token, stage.progress));
            let of_row = (row.token_secret, row.outcome_digest, row.wakes_at, row.start_time, row.end_time);
            let (secret, digest) = (stage.token_secret, stage.outcome_digest);
            assert_eq!(of_row, (secret, digest, stage.wakes_at(), stage.start_time, stage.end_time));
            let failures = row.failures.as_ref();
            let failures = failures.map(|text| serde_json::from_str::<FailureCounts>(&text.0).expect("our own"));
            assert_eq!(failures.unwrap_or_default(), stage.failures);
            assert_eq!(
                (&row.message, row.failure.is_some()),
                (&stage.message.as_deref().map(str::to_owned), stage.failure.is_some())
            );
            let depends_on: Vec<u32> = serde_json::from_str(&self.depends_on[&row.stage_no]).expect("our own");
            assert_eq!(depends_on[..], stage.depends_on[..]);
            let spec = &self.specs[&row.stage_no];
            let of_row = (row.parent_token, spec.parent_no, spec.plan_digest);
            let parent =
                stage.parent.map(|parent| (parent.fencing_token, i32::try_from(parent.no).expect("few stages")));
            assert_eq!(of_row, (parent.map(|parent| parent.0), parent.map(|parent| parent.1), stage.plan_digest));
            assert_eq!(*spec.spec.0, *serde_json::to_string(&stage.spec).expect("our own"));
            let required_by = spec.required_by.as_ref().map_or("[]", |text| &*text.0);
            assert_eq!(required_by, serde_json::to_string(&stage.required_by).expect("our own"));
        }
    }
}
