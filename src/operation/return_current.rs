//! An operation whose refusal by version carries the current state, as of the same decision and without another read.

use uuid::Uuid;

use super::{Operation, Reply, Weight};
use crate::domain::audit::AuditEntry;
use crate::domain::current::ComparedState;
use crate::domain::id::JobKey;
use crate::domain::job::StageCredential;
use crate::domain::record::RecordKey;
use crate::domain::refusal::{AttachedState, Refusal};
use crate::domain::request::RequestIdentity;
use crate::operation::overlay::{Key, Overlay};

/// State that is returned if its version differs.
#[derive(Clone, Debug)]
pub enum Shown {
    Record(RecordKey),
    Job(JobKey),
    /// A stage of a job.
    Stage(JobKey, StageCredential),
}

/// Decides like the operation in it.
pub struct ReturnCurrent {
    pub operation: Box<dyn Operation>,
    /// State that a refusal returns, one for each item of the request. None: none for that item.
    pub shown: Vec<Option<Shown>>,
}

impl ReturnCurrent {
    /// An operation on one item.
    pub fn of_one(operation: Box<dyn Operation>, shown: Option<Shown>) -> Self {
        Self { operation, shown: vec![shown] }
    }

    fn show(&self, refusal: Refusal, index: usize, overlay: &mut Overlay) -> Refusal {
        match refusal {
            Refusal::At { index, path, refusal } => {
                Refusal::At { index, path, refusal: Box::new(self.show(*refusal, index, overlay)) }
            }
            Refusal::VersionMismatch { .. } | Refusal::FieldVersionMismatch { .. } => {
                let current = self.shown.get(index).and_then(Option::as_ref).and_then(|shown| shown.look(overlay));
                match current {
                    Some(current) => {
                        Refusal::WithCurrent { refusal: Box::new(refusal), current: AttachedState::new(current) }
                    }
                    None => refusal,
                }
            }
            other => other,
        }
    }
}

impl Shown {
    fn look(&self, overlay: &mut Overlay) -> Option<ComparedState> {
        match self {
            Self::Record(key) => overlay.record(key).map(ComparedState::Record),
            Self::Job(key) => overlay.job(*key).map(ComparedState::Job),
            Self::Stage(key, hold) => {
                let job = overlay.job(*key)?;
                let no = job.verified_stage(hold).ok()?.no;
                Some(ComparedState::Stage(job, no))
            }
        }
    }
}

impl Operation for ReturnCurrent {
    fn name(&self) -> &'static str {
        self.operation.name()
    }

    fn keys(&self) -> Vec<Key> {
        self.operation.keys()
    }

    fn presumed_absent(&self) -> Vec<Key> {
        self.operation.presumed_absent()
    }

    fn weight(&self) -> Weight {
        self.operation.weight()
    }

    fn is_urgent(&self) -> bool {
        self.operation.is_urgent()
    }

    fn ends_attempt(&self) -> bool {
        self.operation.ends_attempt()
    }

    fn only_leases(&self) -> bool {
        self.operation.only_leases()
    }

    fn is_probe(&self) -> bool {
        self.operation.is_probe()
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.operation.request()
    }

    fn remembered_ids(&self) -> Vec<Uuid> {
        self.operation.remembered_ids()
    }

    fn audit(&self) -> Option<AuditEntry> {
        self.operation.audit()
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        self.operation.decide(overlay).map_err(|refusal| self.show(refusal, 0, overlay))
    }
}
