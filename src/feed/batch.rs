//! One read of many things for many who each ask for one of them.
//!
//! After a restart thousands of watches begin at once, each with a snapshot of another job. Read one by one they would take a connection and
//! a handful of round trips each.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::HashMap;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Keys that one read is for at most. Snapshots of large jobs are megabytes.
const MAX_KEYS: usize = 32;
/// Reads at once at most.
const MAX_READS: usize = 4;

/// Collects requests for values by key, and reads many at once. An answer is shared by all who asked for its key before its read began, so that
/// nobody gets a value older than the request. A request whose caller has gone leaves the queue without being read, and a read ends when all it was for
/// have gone.
pub struct Batch<K, V> {
    queue: Mutex<Queue<K, V>>,
}

type Answer<V> = Result<Option<V>>;

struct Queue<K, V> {
    /// Keys in the order of their first request.
    order: VecDeque<K>,
    requests: HashMap<K, Vec<oneshot::Sender<Answer<V>>>>,
    /// Tasks that read now.
    readers: usize,
}

/// One reading task. Dropped before its queue is empty, it has panicked or was aborted.
struct Reader<K, V> {
    batch: Arc<Batch<K, V>>,
    is_done: bool,
}

impl<K, V> Default for Batch<K, V> {
    fn default() -> Self {
        Self { queue: Mutex::new(Queue { order: VecDeque::new(), requests: HashMap::default(), readers: 0 }) }
    }
}

impl<K, V> Batch<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    /// The value of a key as a read finds it that begins after this call; `None` if it finds none. `read` is for all who wait now.
    ///
    /// # Errors
    /// Those of the read. They are shared by all it was for.
    pub async fn ask<F>(self: &Arc<Self>, key: K, read: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Answer<V>
    where
        F: Future<Output = Result<HashMap<K, V>>> + Send,
    {
        let (sender, receiver) = oneshot::channel();
        let reader = self.queue.lock().add(key, sender).then(|| Reader { batch: self.clone(), is_done: false });
        if let Some(reader) = reader {
            tokio::spawn(async move { reader.read_all(read).await });
        }
        // The task answers, unless it panicked or the runtime is going down.
        receiver.await.unwrap_or(Err(Error::StoreUnavailable))
    }
}

impl<K: Clone + Eq + Hash, V> Queue<K, V> {
    /// Adds a request. True if a task shall begin to read.
    fn add(&mut self, key: K, sender: oneshot::Sender<Answer<V>>) -> bool {
        let requests = self.requests.entry(key.clone()).or_default();
        if requests.is_empty() {
            self.order.push_back(key);
        }
        requests.push(sender);
        let begins = self.readers < MAX_READS && (self.readers == 0 || self.order.len() > MAX_KEYS);
        self.readers += usize::from(begins);
        begins
    }

    /// The next keys for which somebody still waits. With none left the reader who asks is counted out, under the same lock in which
    /// [`Queue::add`] decides whether another is needed.
    fn take(&mut self) -> Vec<(K, Vec<oneshot::Sender<Answer<V>>>)> {
        let mut taken = Vec::new();
        while taken.len() < MAX_KEYS {
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

impl<K, V> Reader<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone,
{
    /// Reads until nobody waits any more.
    async fn read_all<F>(mut self, read: impl Fn(Vec<K>) -> F)
    where
        F: Future<Output = Result<HashMap<K, V>>>,
    {
        loop {
            let mut taken = self.batch.queue.lock().take();
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

impl<K, V> Drop for Reader<K, V> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut queue = self.batch.queue.lock();
        queue.readers -= 1;
        if queue.readers == 0 {
            // Nobody would read these; without their senders those who wait hear that the store is not available.
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

    type Reads = Arc<(AtomicUsize, AtomicUsize, Semaphore)>;

    /// A read that waits for a permit of the semaphore, then counts itself and its keys.
    fn read(reads: Reads) -> impl Fn(Vec<u32>) -> futures::future::BoxFuture<'static, Result<HashMap<u32, u32>>> {
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
    async fn many_requests_share_few_reads_and_each_gets_its_own_value() {
        let (reads, batch): (Reads, Arc<Batch<u32, u32>>) =
            (Arc::new((AtomicUsize::new(0), AtomicUsize::new(0), Semaphore::new(1_000))), Arc::default());
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
    async fn requests_of_callers_who_have_gone_are_not_read() {
        let (reads, batch): (Reads, Arc<Batch<u32, u32>>) =
            (Arc::new((AtomicUsize::new(0), AtomicUsize::new(0), Semaphore::new(0))), Arc::default());
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
    async fn after_a_read_that_panicked_nobody_waits_for_ever() {
        let batch: Arc<Batch<u32, u32>> = Arc::default();
        let panics = |_: Vec<u32>| async { panic!("a fault") };
        let asked = [batch.ask(1, panics), batch.ask(2, panics)];
        assert!(join_all(asked).await.iter().all(|answer| *answer == Err(Error::StoreUnavailable)));
        assert_eq!(batch.queue.lock().readers, 0);
        assert_eq!(batch.ask(1, |_| async { Ok(HashMap::default()) }).await, Ok(None));
    }
}
