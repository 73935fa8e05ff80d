//! What a person does to a job: update, cancel, pause, resume, run again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Operation, Reply, Weight, existing, keep};
use crate::domain::field_op::FieldOp;
use crate::domain::id::{JobKey, Name};
use crate::domain::job::JobTx;
use crate::domain::record::{Record, RecordKey};
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::engine::world::{Key, World};

/// What shall happen.
#[derive(Debug)]
pub enum Control {
    /// Sets labels and priority, those that are given.
    Update {
        /// All labels anew.
        labels: Option<Arc<BTreeMap<String, String>>>,
        /// −1,000 to 1,000.
        priority: Option<i32>,
        /// What shall happen to the fields of its context, in order.
        context: Vec<FieldOp>,
    },
    /// Asks everybody to stop.
    Cancel {
        /// How long holders may go on.
        grace: Duration,
        /// What the caller said.
        reason: Option<Name>,
    },
    /// Hands out nothing.
    Pause,
    /// Hands out again.
    Resume,
    /// Runs what did not succeed again.
    Retry {
        /// This stage and what follows it too.
        from_stage: Option<Name>,
    },
}

/// One of them, for one job.
#[derive(Debug)]
pub struct ControlJob {
    /// Which job.
    pub key: JobKey,
    /// As the caller named it.
    pub job_id: Name,
    /// What shall happen.
    pub control: Control,
    /// The job's revision that the caller knows.
    pub expected_revision: Option<i64>,
    /// The caller's `request_id`.
    pub request: Option<RequestIdentity>,
}

impl Control {
    fn apply(&self, edit: &mut JobTx) -> Result<(), Refusal> {
        match self {
            Self::Update { labels, priority, .. } => {
                edit.update(labels.clone(), *priority);
                Ok(())
            }
            Self::Cancel { grace, reason } => edit.cancel(*grace, reason.clone()),
            Self::Pause => edit.pause(),
            Self::Resume => edit.resume(),
            Self::Retry { from_stage } => edit.retry(from_stage.as_ref()),
        }
    }
}

impl ControlJob {
    /// Changes to the job's context, where there are any.
    fn context(&self) -> &[FieldOp] {
        match &self.control {
            Control::Update { context, .. } => context,
            Control::Cancel { .. } | Control::Pause | Control::Resume | Control::Retry { .. } => &[],
        }
    }

    /// Changes the context: a record beside the job, whose versions are the job's revisions.
    fn change_context(&self, world: &mut World, edit: &mut JobTx) -> Result<(), Refusal> {
        let (operations, key, now) = (self.context(), RecordKey::context(self.key), world.now());
        if operations.is_empty() {
            return Ok(());
        }
        let base = world.record(&key).unwrap_or_else(|| Arc::new(Record::new(key, now)));
        let changed = Record::apply(&base, operations, edit.job.revision, now, "context_operations")?;
        // One that stays empty need not be made.
        if let Some(record) = changed.filter(|record| base.version > 0 || !record.fields.is_empty()) {
            edit.context_changed();
            world.put_record(Arc::new(record));
        }
        Ok(())
    }
}

impl Operation for ControlJob {
    fn name(&self) -> &'static str {
        match self.control {
            Control::Update { .. } => "update_job",
            Control::Cancel { .. } => "cancel_job",
            Control::Pause => "pause_job",
            Control::Resume => "resume_job",
            Control::Retry { .. } => "retry_job",
        }
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys = vec![Key::Job(self.key)];
        if !self.context().is_empty() {
            keys.push(Key::Record(RecordKey::context(self.key)));
        }
        keys
    }

    fn weight(&self) -> Weight {
        let bytes = self.context().iter().map(|operation| operation.field.len() + operation.change.bytes()).sum();
        Weight::SMALL.plus(Weight { rows: self.context().len(), bytes })
    }

    fn is_urgent(&self) -> bool {
        // They take load away.
        matches!(self.control, Control::Cancel { .. } | Control::Pause)
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let job = existing(world, self.key, &self.job_id)?;
        expect_version(job.revision, self.expected_revision)?;
        let mut edit = world.edit(&job);
        self.control.apply(&mut edit)?;
        self.change_context(world, &mut edit)?;
        Ok(Reply::about(keep(world, &job, edit)))
    }
}
