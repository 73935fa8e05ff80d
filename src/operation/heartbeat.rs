//! A worker is alive: its lease is extended when enough of it is used up, and progress is noted on the way.

use super::{Operation, Reply, keep};
use crate::domain::id::{JobKey, LeaseToken, Name, NamespaceId};
use crate::domain::job::Hold;
use crate::domain::refusal::Refusal;
use crate::engine::world::{Key, World};

/// One beat for one lease.
#[derive(Debug)]
pub struct Beat {
    /// The caller's namespace.
    pub namespace: NamespaceId,
    /// The lease.
    pub token: LeaseToken,
    /// 0 to 1.
    pub progress: Option<f64>,
    /// At most 1 KiB.
    pub message: Option<Name>,
}

impl Beat {
    fn key(&self) -> JobKey {
        JobKey { namespace: self.namespace, uid: self.token.job_uid }
    }
}

impl Operation for Beat {
    fn name(&self) -> &'static str {
        "heartbeat"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.key())]
    }

    fn is_urgent(&self) -> bool {
        true
    }

    /// A lost lease is a refusal here, so that it is proved like any other; the edge tells it as a status.
    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let job = world.job(self.key()).ok_or(Refusal::LeaseLost)?;
        let hold = Hold::Token(self.token);
        let stage = job.running(&hold).map_err(|_| Refusal::LeaseLost)?;
        let lease = stage.lease().ok_or(Refusal::LeaseLost)?;
        let no = stage.no;
        // Two thirds of its time are enough to write only every third of it.
        let now = world.now();
        let is_due = now.until(lease.expires_at) < lease.duration * 2 / 3 || lease.is_ahead(now);
        let mut edit = world.edit(&job);
        edit.progress(&hold, self.progress, self.message.clone())?;
        if is_due {
            edit.renew(no);
        }
        Ok(Reply::about_stage(no, keep(world, &job, edit)))
    }
}
