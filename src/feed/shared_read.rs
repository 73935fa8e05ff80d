//! One read for all watches that ask for the same thing at the same time.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Result};

/// Reads of the same thing. A result is shared by all requests from before its read began, so none of them gets a result older than itself;
/// requests that come while a read is under way share the next one. Errors are shared too.
///
/// The reads run in tasks of their own: a stream is not polled while its client does not read, and one that stopped in the middle of a
/// read would hold a connection and block all other requests. A read ends when all who requested it have gone.
pub struct SharedRead<T> {
    reads: Mutex<PendingReads<T>>,
}

type SharedResult<T> = Shared<BoxFuture<'static, Result<T>>>;
/// A result while somebody waits for it.
type AwaitedResult<T> = Option<WeakShared<BoxFuture<'static, Result<T>>>>;

struct PendingReads<T> {
    /// Has begun, so it is too old for new requests.
    running: AwaitedResult<T>,
    /// Begins when `running` has ended.
    next: AwaitedResult<T>,
}

impl<T> Default for SharedRead<T> {
    fn default() -> Self {
        Self { reads: Mutex::new(PendingReads { running: None, next: None }) }
    }
}

impl<T: Clone + Send + Sync + 'static> SharedRead<T> {
    /// The result of a read that begins after this call: of `read`, or of another request if its result is `usable`.
    ///
    /// # Errors
    /// Those of the read.
    pub async fn read<F>(
        self: &Arc<Self>,
        usable: impl Fn(&T) -> bool,
        read: impl Fn() -> F + Clone + Send + 'static,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        loop {
            let answer = self.join(read.clone()).await;
            if answer.as_ref().map_or(true, &usable) {
                return answer;
            }
        }
    }

    fn join<F>(self: &Arc<Self>, read: impl FnOnce() -> F + Send + 'static) -> SharedResult<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut reads = self.reads.lock();
        if let Some(next) = awaited(&reads.next) {
            return next;
        }
        let before = awaited(&reads.running);
        let (this, waits) = (self.clone(), before.is_some());
        // Dropped with the last request that waits for the result, which ends the task.
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Some(before) = before {
                let _answer = before.await;
                let mut reads = this.reads.lock();
                reads.running = reads.next.take();
            }
            read().await
        }));
        let answer = async move { task.await.unwrap_or(Err(Error::StoreUnavailable)) }.boxed().shared();
        let place = if waits { &mut reads.next } else { &mut reads.running };
        *place = answer.downgrade();
        answer
    }
}

/// The result, if somebody waits for it and it is not there yet.
fn awaited<T: Clone>(answer: &AwaitedResult<T>) -> Option<SharedResult<T>> {
    answer.as_ref()?.upgrade().filter(|answer| answer.peek().is_none())
}

/// Runs a read in a task of its own, so that it goes on while the stream that needs it is not polled. The task ends when its caller has gone.
///
/// # Errors
/// Those of the read.
pub async fn read_in_task<T: Send + 'static>(read: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    AbortOnDropHandle::new(tokio::spawn(read)).await.unwrap_or(Err(Error::StoreUnavailable))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn requests_at_one_time_share_a_read_and_later_ones_read_again() {
        let (reads, shared) = (Arc::new(AtomicUsize::new(0)), Arc::new(SharedRead::<usize>::default()));
        let ask = || {
            let (reads, shared) = (reads.clone(), shared.clone());
            async move {
                let read = move || {
                    let reads = reads.clone();
                    async move {
                        tokio::task::yield_now().await;
                        Ok(reads.fetch_add(1, Ordering::SeqCst) + 1)
                    }
                };
                shared.read(|_| true, read).await.expect("an answer")
            }
        };
        // The read of the first request begins before the others come, which share the second read.
        let all = futures::future::join_all((0..100).map(|_| ask())).await;
        assert_eq!((all[0], all[1], all[99]), (1, 2, 2));
        assert_eq!(ask().await, 3);
        assert!(awaited(&shared.reads.lock().running).is_none(), "no result is kept after its last caller");
    }

    #[tokio::test]
    async fn a_request_that_is_not_polled_blocks_no_other() {
        let shared = Arc::new(SharedRead::<usize>::default());
        let read = || async {
            tokio::task::yield_now().await;
            Ok(1)
        };
        let (still, other) = (shared.read(|_| true, read), shared.read(|_| true, read));
        let mut still = std::pin::pin!(still);
        assert!(futures::poll!(still.as_mut()).is_pending());
        // It is never polled again.
        assert_eq!(other.await, Ok(1));
    }

    #[tokio::test]
    async fn a_read_ends_when_all_its_callers_have_gone() {
        /// Sends when it is dropped.
        struct Dropped(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _gone = self.0.take().map(|tell| tell.send(()));
            }
        }
        let shared = Arc::new(SharedRead::<usize>::default());
        let (tell, ended) = tokio::sync::oneshot::channel();
        let (began, tell) = (Arc::new(tokio::sync::Notify::new()), Arc::new(Mutex::new(Some(tell))));
        let read = {
            let began = began.clone();
            move || {
                let (began, dropped) = (began.clone(), Dropped(tell.lock().take()));
                async move {
                    let _dropped = dropped;
                    began.notify_one();
                    std::future::pending().await
                }
            }
        };
        {
            let ask = || shared.read(|_| true, read.clone());
            let asked = futures::future::join(ask(), ask());
            tokio::select! {
                _never = asked => unreachable!("the read never ends by itself"),
                () = began.notified() => {}
            }
        }
        ended.await.expect("the read was dropped");
        assert_eq!(shared.read(|_| true, || async { Ok(7) }).await, Ok(7));
    }
}
