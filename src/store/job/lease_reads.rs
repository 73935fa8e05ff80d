//! Documents that workers get with their leases, read together for all calls that wait for them.
//!
//! Each LeaseStages call reads inputs, payloads and artifacts after its commit. While two such reads run, further calls queue, and the next read is
//! for all of them: one round trip for the calls of a group, not one for each.

use foldhash::{HashMap, HashMapExt};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::domain::documents::LeaseDocuments;
use crate::domain::id::{JobKey, StageNo};
use crate::error::{Error, Result};
use crate::store::Store;

/// Leases of one read at most, unless one call has more.
const MAX_LEASES: usize = 1_000;
/// Concurrent reads at most: one with large documents does not delay the others.
const MAX_READERS: usize = 2;

/// Documents by the stage that is leased.
pub type Documents = HashMap<(JobKey, StageNo), LeaseDocuments>;

/// Calls that wait for documents.
#[derive(Default)]
pub struct LeaseReads {
    queue: Mutex<ReadQueue>,
}

#[derive(Default)]
struct ReadQueue {
    requests: Vec<DocumentRequest>,
    readers: usize,
}

struct DocumentRequest {
    leases: Vec<(JobKey, StageNo)>,
    answer: oneshot::Sender<Result<Documents>>,
}

/// A task that reads until no call waits. Dropped before that, it has panicked.
struct DocumentReader {
    store: Store,
    is_done: bool,
}

impl Store {
    /// Documents that workers get with leases of these stages.
    pub async fn lease_documents(&self, leases: Vec<(JobKey, StageNo)>) -> Result<Documents> {
        let (answer, documents) = oneshot::channel();
        let starts = {
            let mut queue = self.lease_reads.queue.lock();
            queue.requests.push(DocumentRequest { leases, answer });
            let starts = queue.readers < MAX_READERS;
            queue.readers += usize::from(starts);
            starts
        };
        if starts {
            let reader = DocumentReader { store: self.clone(), is_done: false };
            tokio::spawn(async move { reader.read_all().await });
        }
        // The task responds, unless it panicked or the runtime shuts down.
        documents.await.unwrap_or(Err(Error::StoreUnavailable))
    }
}

impl DocumentReader {
    async fn read_all(mut self) {
        loop {
            let requests = self.store.lease_reads.queue.lock().take();
            if requests.is_empty() {
                self.is_done = true;
                return;
            }
            let mut leases: Vec<(JobKey, StageNo)> =
                requests.iter().flat_map(|request| request.leases.iter().copied()).collect();
            leases.sort_unstable();
            leases.dedup();
            let found = self.store.read_lease_documents(&leases).await;
            for DocumentRequest { leases, answer } in requests {
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

impl Drop for DocumentReader {
    fn drop(&mut self) {
        if !self.is_done {
            let mut queue = self.store.lease_reads.queue.lock();
            queue.readers -= 1;
            // Waiting calls fail, since their senders are dropped.
            queue.requests.clear();
        }
    }
}

impl ReadQueue {
    /// Takes the first calls that fit in one read; cancelled calls are dropped. If it returns none, the reader ends.
    fn take(&mut self) -> Vec<DocumentRequest> {
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

impl LeaseReads {}
