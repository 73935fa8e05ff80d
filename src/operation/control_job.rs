//! Controls a job: update, cancel, pause, resume, retry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Operation, Reply, Weight, commit_job, existing};
use crate::domain::field_op::FieldOp;
use crate::domain::id::{JobKey, Name};
use crate::domain::job::JobTx;
use crate::domain::record::{Record, RecordKey};
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};

#[derive(Debug)]
pub enum Control {
    /// Sets labels, priority and context; what is `None` or empty stays.
    Update {
        /// Replaces all labels. None: they stay.
        labels: Option<Arc<BTreeMap<String, String>>>,
        /// From −1,000 to 1,000; higher is first.
        priority: Option<i32>,
        /// Operations on fields of the job's context, in order.
        context: Vec<FieldOp>,
    },
    /// Cancels the job: holders of leases are asked to stop.
    Cancel {
        /// Time that holders have to stop.
        grace: Duration,
        /// Shown in the job. None: no reason.
        reason: Option<Name>,
    },
    /// Stages are not leased until the job is resumed.
    Pause,
    /// Stages are leased again.
    Resume,
    /// Begins a new run of the stages that did not succeed.
    Retry {
        /// A stage that runs again too, with all stages behind it. None: only those that did not succeed.
        from_stage: Option<Name>,
    },
}

#[derive(Debug)]
pub struct ControlJob {
    pub key: JobKey,
    /// The id as the caller gave it, for errors.
    pub job_id: Name,
    pub control: Control,
    /// The revision the job must have. None: any.
    pub expected_revision: Option<i64>,
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
    /// Operations on the job's context. Empty: none.
    fn context(&self) -> &[FieldOp] {
        match &self.control {
            Control::Update { context, .. } => context,
            Control::Cancel { .. } | Control::Pause | Control::Resume | Control::Retry { .. } => &[],
        }
    }

    /// Changes the context: a record beside the job, whose versions are the job's revisions.
    fn change_context(&self, overlay: &mut Overlay, edit: &mut JobTx) -> Result<(), Refusal> {
        let (operations, key, now) = (self.context(), RecordKey::context(self.key), overlay.now());
        if operations.is_empty() {
            return Ok(());
        }
        let base = overlay.record(&key).unwrap_or_else(|| Arc::new(Record::new(key, now)));
        let changed = Record::apply(&base, operations, edit.job.revision, now, "context_operations")?;
        // An empty context is not stored.
        if let Some(record) = changed.filter(|record| base.version > 0 || !record.fields.is_empty()) {
            edit.context_changed();
            overlay.put_record(Arc::new(record));
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
        // Cancelling and pausing reduce load.
        matches!(self.control, Control::Cancel { .. } | Control::Pause)
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let job = existing(overlay, self.key, &self.job_id)?;
        expect_version(job.revision, self.expected_revision)?;
        let mut edit = overlay.begin_job(&job);
        self.control.apply(&mut edit)?;
        self.change_context(overlay, &mut edit)?;
        Ok(Reply::about(commit_job(overlay, &job, edit)))
    }
}
