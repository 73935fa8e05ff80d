//! Heartbeats of workers: renewals of leases, and progress.
//!
//! They are two operations: a renewal needs only the row of the lease, progress needs the job.

use super::{Operation, Reply, Weight, commit_job};
use crate::domain::id::{JobKey, LeaseToken, Name, NamespaceId};
use crate::domain::job::StageCredential;
use crate::domain::lease::LeaseKey;
use crate::domain::refusal::Refusal;
use crate::operation::overlay::{Key, Overlay};

/// Bytes that a token counts in the queue.
const TOKEN_BYTES: usize = 64;

/// Renews the leases of one Heartbeat.
#[derive(Debug)]
pub struct RenewLeases {
    pub namespace: NamespaceId,
    /// The leases, in the order of the request. One can occur several times.
    pub tokens: Vec<LeaseToken>,
}

impl Operation for RenewLeases {
    fn name(&self) -> &'static str {
        "heartbeat"
    }

    fn keys(&self) -> Vec<Key> {
        self.tokens.iter().map(|token| Key::Lease(LeaseKey::of(self.namespace, token))).collect()
    }

    fn weight(&self) -> Weight {
        Weight { rows: self.tokens.len(), bytes: TOKEN_BYTES * self.tokens.len() }
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn only_leases(&self) -> bool {
        true
    }

    /// A lease that is not held is `None` in the reply. If none of them is held, the operation is refused.
    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let now = overlay.now();
        let mut reply = Reply { leases: Vec::with_capacity(self.tokens.len()), ..Reply::default() };
        for token in &self.tokens {
            let key = LeaseKey::of(self.namespace, token);
            let mut lease = overlay.lease(key).filter(|lease| lease.is_of(token));
            if let Some(lease) = &mut lease {
                if let Some(expires_at) = lease.renewal(now) {
                    lease.expires_at = expires_at;
                    overlay.renew_lease(key, lease.clone());
                }
                lease.step_back(now);
            }
            reply.leases.push(lease);
        }
        if reply.leases.iter().all(Option::is_none) { Err(Refusal::LeaseLost) } else { Ok(reply) }
    }
}

/// Progress of one attempt.
#[derive(Clone, Debug)]
pub struct Note {
    pub token: LeaseToken,
    /// From 0 to 1. None: unchanged.
    pub progress: Option<f64>,
    /// At most 1 KiB. None: unchanged.
    pub message: Option<Name>,
}

/// Sets the progress of several stages of one job, as one revision.
#[derive(Debug)]
pub struct NoteProgress {
    pub key: JobKey,
    /// In the order of the request.
    pub notes: Vec<Note>,
}

impl Operation for NoteProgress {
    fn name(&self) -> &'static str {
        "note_progress"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Job(self.key)]
    }

    fn weight(&self) -> Weight {
        let more = |note: &Note| note.message.as_ref().map_or(0, |message| message.len());
        let bytes = self.notes.iter().map(more).sum::<usize>();
        Weight { rows: Weight::SMALL.rows + self.notes.len(), bytes: Weight::SMALL.bytes + bytes }
    }

    fn is_urgent(&self) -> bool {
        true
    }

    /// Stages whose lease is not held are left out. If none of the leases is held, the operation is refused.
    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let job = overlay.job(self.key).ok_or(Refusal::LeaseLost)?;
        let mut edit = overlay.begin_job(&job);
        let mut noted = Vec::with_capacity(self.notes.len());
        for note in &self.notes {
            noted.extend(edit.progress(&StageCredential::Token(note.token), note.progress, note.message.clone()).ok());
        }
        if noted.is_empty() {
            return Err(Refusal::LeaseLost);
        }
        let (job, applied) = commit_job(overlay, &job, edit);
        Ok(Reply { jobs: vec![job], stages: noted, applied, ..Reply::default() })
    }
}
