//! One read of many values for many requests, each of which is for one value or a few.
//!
//! After a restart thousands of watches begin at once, each with a snapshot of another job. Read one by one, each snapshot would take a
//! connection and several round trips.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::HashMap;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Maximum number of reads at once.
const MAX_READS: usize = 4;

/// Collects requests for values by key, and reads many keys at once. A value is shared by all requests for its key from before the read began, so none
/// of them gets a value older than itself. A request whose caller has gone is not read, and a read ends when the callers of all its requests have gone.
pub struct Batch<K, V> {
    /// Maximum number of keys in one read.
    max_keys: usize,
    queue: Mutex<RequestQueue<K, V>>,
}

/// The value of a key. None: there is none.
type ReadValue<V> = Result<Option<V>>;

struct RequestQueue<K, V> {
    /// Keys in the order of their first request.
    order: VecDeque<K>,
    requests: HashMap<K, Vec<oneshot::Sender<ReadValue<V>>>>,
    /// Number of tasks that read now.
    readers: usize,
}

/// A task that reads until the queue is empty. Dropped before that, it has panicked or was aborted.
struct BatchReader<K, V> {
    batch: Arc<Batch<K, V>>,
    is_done: bool,
}

impl<K, V> Batch<K, V> {
    /// No requests yet; a read takes `max_keys` keys at most.
    pub fn new(max_keys: usize) -> Self {
        let queue = RequestQueue { order: VecDeque::new(), requests: HashMap::default(), readers: 0 };
        Self { max_keys, queue: Mutex::new(queue) }
    }
}

impl<K, V> Batch<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// The value of a key, by a read that begins after this call. None: there is none. `read` is used for other requests that wait, too.
    ///
    /// # Errors
    /// Those of the read. All its requests share them.
    pub async fn ask<F>(
        self: &Arc<Self>,
        key: K,
        read: impl Fn(Vec<K>) -> F + Clone + Send + Sync + 'static,
    ) -> ReadValue<V>
    where
        F: Future<Output = Result<HashMap<K, V>>> + Send,
    {
        let mut answers = self.ask_all(vec![key], read).await?;
        Ok(answers.pop().flatten())
    }

    /// The values of several keys, in their order; see [`Self::ask`].
    ///
    /// # Errors
    /// Those of the reads.
    pub async fn ask_all<F>(
        self: &Arc<Self>,
        keys: Vec<K>,
        read: impl Fn(Vec<K>) -> F + Clone + Send + Sync + 'static,
    ) -> Result<Vec<Option<V>>>
    where
        F: Future<Output = Result<HashMap<K, V>>> + Send,
    {
        let mut answers = Vec::with_capacity(keys.len());
        let mut readers = Vec::new();
        {
            let mut queue = self.queue.lock();
            for key in keys {
                let (sender, receiver) = oneshot::channel();
                answers.push(receiver);
                if queue.add(key, sender, self.max_keys) {
                    readers.push(BatchReader { batch: self.clone(), is_done: false });
                }
            }
        }
        for reader in readers {
            let read = read.clone();
            tokio::spawn(async move { reader.read_all(read).await });
        }
        // The tasks answer, unless one panicked or the runtime is going down.
        let answer = |answer: std::result::Result<ReadValue<V>, _>| answer.unwrap_or(Err(Error::StoreUnavailable));
        join_all(answers).await.into_iter().map(answer).collect()
    }
}

impl<K: Clone + Eq + Hash, V> RequestQueue<K, V> {
    /// Adds a request. Returns whether another task has to begin to read.
    fn add(&mut self, key: K, sender: oneshot::Sender<ReadValue<V>>, max_keys: usize) -> bool {
        let requests = self.requests.entry(key.clone()).or_default();
        if requests.is_empty() {
            self.order.push_back(key);
        }
        requests.push(sender);
        let begins = self.readers < MAX_READS && (self.readers == 0 || self.order.len() > max_keys);
        self.readers += usize::from(begins);
        begins
    }

    /// Takes the next keys whose callers still wait. If there is none the reader is counted out, under the lock in which
    /// [`RequestQueue::add`] decides whether another one is needed.
    fn take(&mut self, max_keys: usize) -> Vec<(K, Vec<oneshot::Sender<ReadValue<V>>>)> {
        let mut taken = Vec::new();
        while taken.len() < max_keys {
            let Some(key) = self.order.pop_front() else { break };
            let mut waiting = self.requests.remove(&key).unwrap_or_default();
            waiting.retain(|sender| !sender.is_closed());
            if !waiting.is_empty() {
                taken.push((key, waiting));
            }
        }
        self.readers -= usize::from(taken.is_empty());
        taken
    }
}

impl<K, V> BatchReader<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone,
{
    /// Reads until the queue is empty.
    async fn read_all<F>(mut self, read: impl Fn(Vec<K>) -> F)
    where
        F: Future<Output = Result<HashMap<K, V>>>,
    {
        loop {
            let mut taken = self.batch.queue.lock().take(self.batch.max_keys);
            if taken.is_empty() {
                self.is_done = true;
                return;
            }
            let keys = taken.iter().map(|(key, _)| key.clone()).collect();
            let all_gone = join_all(taken.iter_mut().flat_map(|(_, waiting)| waiting).map(oneshot::Sender::closed));
            let found = tokio::select! {
                found = read(keys) => found,
                _ = all_gone => continue,
            };
            for (key, waiting) in taken {
                let answer = found.as_ref().map(|found| found.get(&key).cloned()).map_err(Error::clone);
                for sender in waiting {
                    let _gone = sender.send(answer.clone());
                }
            }
        }
    }
}

impl<K, V> Drop for BatchReader<K, V> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut queue = self.batch.queue.lock();
        queue.readers -= 1;
        if queue.readers == 0 {
            // These would never be read. Without their senders, the callers get STORE_UNAVAILABLE.
            queue.order.clear();
            queue.requests.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Keys in one read.
    const MAX_KEYS: usize = 32;

    type Reads = Arc<(AtomicUsize, AtomicUsize, Semaphore)>;

    /// A read that waits for a permit of the semaphore, then counts itself and its keys.
    fn read(
        reads: Reads,
    ) -> impl Fn(Vec<u32>) -> futures::future::BoxFuture<'static, Result<HashMap<u32, u32>>> + Clone {
        move |keys| {
            let reads = reads.clone();
            Box::pin(async move {
                reads.2.acquire().await.expect("open").forget();
                reads.0.fetch_add(1, Ordering::Relaxed);
                reads.1.fetch_add(keys.len(), Ordering::Relaxed);
                Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key + 1)).collect())
            })
        }
    }

    #[tokio::test]
    async fn requests_share_few_reads_and_each_gets_the_value_of_its_key() {
        let (reads, batch): (Reads, Arc<Batch<u32, u32>>) = (
            Arc::new((AtomicUsize::new(0), AtomicUsize::new(0), Semaphore::new(1_000))),
            Arc::new(Batch::new(MAX_KEYS)),
        );
        let ask = |key: u32| {
            let (batch, reads) = (batch.clone(), read(reads.clone()));
            async move { (key, batch.ask(key, reads).await) }
        };
        for (key, answer) in join_all((0..1_000).map(|i| ask(i % 500))).await {
            assert_eq!(answer, Ok((key % 2 == 0).then_some(key + 1)));
        }
        let (count, keys) = (reads.0.load(Ordering::Relaxed), reads.1.load(Ordering::Relaxed));
        assert!(count <= 500 / MAX_KEYS + MAX_READS + 1, "{count} reads");
        assert_eq!(keys, 500, "a key asked for twice is read once");
        assert_eq!(batch.queue.lock().readers, 0);
    }

    #[tokio::test]
    async fn requests_of_callers_that_have_gone_are_not_read() {
        let (reads, batch): (Reads, Arc<Batch<u32, u32>>) =
            (Arc::new((AtomicUsize::new(0), AtomicUsize::new(0), Semaphore::new(0))), Arc::new(Batch::new(MAX_KEYS)));
        let ask = |key: u32| {
            let (batch, reads) = (batch.clone(), read(reads.clone()));
            tokio::spawn(async move { batch.ask(key, reads).await })
        };
        let gone: Vec<_> = (0..1_000).map(ask).collect();
        while batch.queue.lock().order.len() < 1_000 - MAX_READS * MAX_KEYS {
            tokio::task::yield_now().await;
        }
        gone.iter().for_each(tokio::task::JoinHandle::abort);
        join_all(gone).await;
        let last = ask(2_000);
        reads.2.add_permits(100);
        assert_eq!(last.await.expect("no panic"), Ok(Some(2_001)));
        assert_eq!(reads.1.load(Ordering::Relaxed), 1, "only the last was read");
    }

    #[tokio::test]
    async fn requests_of_a_read_that_panics_fail_and_later_ones_are_read() {
        let batch: Arc<Batch<u32, u32>> = Arc::new(Batch::new(MAX_KEYS));
        let panics = |_: Vec<u32>| async { panic!("a fault") };
        let asked = [batch.ask(1, panics), batch.ask(2, panics)];
        assert!(join_all(asked).await.iter().all(|answer| *answer == Err(Error::StoreUnavailable)));
        assert_eq!(batch.queue.lock().readers, 0);
        assert_eq!(batch.ask(1, |_| async { Ok(HashMap::default()) }).await, Ok(None));
    }
}
