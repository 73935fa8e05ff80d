//! What workers get with their leases, read together for all calls that wait for it.
//!
//! Each LeaseStages reads inputs, payloads and artifacts after its commit. While one such read is in flight others gather, and the next read is for
//! all of them: one round trip for every call of a group, not one for each.

use foldhash::{HashMap, HashMapExt};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::Store;
use crate::domain::documents::LeaseDocuments;
use crate::domain::id::{JobKey, StageNo};
use crate::error::{Error, Result};

/// Leases that one read is for at most, unless one call has more.
const MAX_LEASES: usize = 1_000;
/// Reads at once: one with large documents does not hold up the others.
const MAX_READERS: usize = 2;

/// Documents by lease.
pub type Documents = HashMap<(JobKey, StageNo), LeaseDocuments>;

/// The calls that wait for documents.
#[derive(Default)]
pub struct LeaseReads {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    requests: Vec<Request>,
    readers: usize,
}

struct Request {
    leases: Vec<(JobKey, StageNo)>,
    answer: oneshot::Sender<Result<Documents>>,
}

/// A task that reads until nobody waits. Dropped before that, it has panicked.
struct Reader {
    store: Store,
    is_done: bool,
}

impl Store {
    /// What workers get with leases of these stages.
    pub async fn lease_documents(&self, leases: Vec<(JobKey, StageNo)>) -> Result<Documents> {
        let (answer, documents) = oneshot::channel();
        let starts = {
            let mut queue = self.lease_reads.lock();
            queue.requests.push(Request { leases, answer });
            let starts = queue.readers < MAX_READERS;
            queue.readers += usize::from(starts);
            starts
        };
        if starts {
            let reader = Reader { store: self.clone(), is_done: false };
            tokio::spawn(async move { reader.read_all().await });
        }
        // The task answers, unless it panicked or the runtime is going down.
        documents.await.unwrap_or(Err(Error::StoreUnavailable))
    }
}

impl Reader {
    async fn read_all(mut self) {
        loop {
            let requests = self.store.lease_reads.lock().take();
            if requests.is_empty() {
                self.is_done = true;
                return;
            }
            let mut leases: Vec<(JobKey, StageNo)> =
                requests.iter().flat_map(|request| request.leases.iter().copied()).collect();
            leases.sort_unstable();
            leases.dedup();
            let found = self.store.read_lease_documents(&leases).await;
            for Request { leases, answer } in requests {
                let own = |found: &Documents| {
                    let mut own = Documents::with_capacity(leases.len());
                    own.extend(leases.iter().filter_map(|lease| Some((*lease, found.get(lease)?.clone()))));
                    own
                };
                let _gone = answer.send(found.as_ref().map(own).map_err(Clone::clone));
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.is_done {
            let mut queue = self.store.lease_reads.lock();
            queue.readers -= 1;
            // Who waits is told that nothing was read.
            queue.requests.clear();
        }
    }
}

impl Queue {
    /// The first calls that fit in one read; those whose callers have gone leave. If there are none, the reader ends.
    fn take(&mut self) -> Vec<Request> {
        self.requests.retain(|request| !request.answer.is_closed());
        let mut leases = 0;
        let fits = self.requests.iter().take_while(|request| {
            leases += request.leases.len();
            leases <= MAX_LEASES
        });
        let count = fits.count().max(1).min(self.requests.len());
        self.readers -= usize::from(count == 0);
        self.requests.drain(..count).collect()
    }
}

impl LeaseReads {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }
}
