//! An operation whose refusal by version brings the current state along: what was compared, of the same decision, with no read of its own.

use uuid::Uuid;

use super::{Operation, Reply, Weight};
use crate::domain::audit::AuditEntry;
use crate::domain::current::ComparedState;
use crate::domain::id::JobKey;
use crate::domain::job::StageCredential;
use crate::domain::record::RecordKey;
use crate::domain::refusal::Refusal;
use crate::domain::request::RequestIdentity;
use crate::engine::world::{Key, World};

/// What is shown where the version differs.
#[derive(Clone, Debug)]
pub enum Shown {
    /// This record.
    Record(RecordKey),
    /// This job.
    Job(JobKey),
    /// This stage of a job.
    Stage(JobKey, StageCredential),
}

/// Decides as the operation does.
pub struct ReturnCurrent {
    /// What is decided.
    pub operation: Box<dyn Operation>,
    /// What its refusal shows; of several things, by their places. None: nothing.
    pub shown: Vec<Option<Shown>>,
}

impl ReturnCurrent {
    /// An operation on one thing.
    pub fn of_one(operation: Box<dyn Operation>, shown: Option<Shown>) -> Self {
        Self { operation, shown: vec![shown] }
    }

    fn show(&self, refusal: Refusal, index: usize, world: &mut World) -> Refusal {
        match refusal {
            Refusal::At { index, path, refusal } => {
                Refusal::At { index, path, refusal: Box::new(self.show(*refusal, index, world)) }
            }
            Refusal::VersionMismatch { .. } | Refusal::FieldVersionMismatch { .. } => {
                let current = self.shown.get(index).and_then(Option::as_ref).and_then(|shown| shown.look(world));
                match current {
                    Some(current) => Refusal::WithCurrent { refusal: Box::new(refusal), current },
                    None => refusal,
                }
            }
            other => other,
        }
    }
}

impl Shown {
    fn look(&self, world: &mut World) -> Option<ComparedState> {
        match self {
            Self::Record(key) => world.record(key).map(ComparedState::Record),
            Self::Job(key) => world.job(*key).map(ComparedState::Job),
            Self::Stage(key, hold) => {
                let job = world.job(*key)?;
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

    fn creates(&self, key: &JobKey) -> bool {
        self.operation.creates(key)
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

    fn names(&self) -> Vec<Uuid> {
        self.operation.names()
    }

    fn audit(&self) -> Option<AuditEntry> {
        self.operation.audit()
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        self.operation.decide(world).map_err(|refusal| self.show(refusal, 0, world))
    }
}
