//! One read for all who ask at the same time.

use std::sync::{Arc, Mutex};

use futures::future::{BoxFuture, FutureExt, Shared};
use tokio::sync::oneshot;

use super::lock;
use crate::error::{Error, Result};

/// Reads of the same thing. An answer is shared by all who asked before its read began, so that nobody gets what is older than
/// his question; who asks while one is under way shares the next. Failures are shared too.
///
/// The reads run in tasks of their own: a stream is not polled while its reader does not read, and one that stood still in the
/// middle of a read would hold a connection, and everybody else who asks.
pub struct Coalesce<T> {
    reads: Mutex<Reads<T>>,
}

type Answer<T> = Shared<BoxFuture<'static, Result<T>>>;

struct Reads<T> {
    /// Has begun: too late for who asks now.
    running: Option<Answer<T>>,
    /// Begins when `running` has ended.
    next: Option<Answer<T>>,
}

impl<T> Default for Coalesce<T> {
    fn default() -> Self {
        Self { reads: Mutex::new(Reads { running: None, next: None }) }
    }
}

impl<T: Clone + Send + Sync + 'static> Coalesce<T> {
    /// Answers with a read that begins after this call, one's own or another's that is `usable`.
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

    fn join<F>(self: &Arc<Self>, read: impl FnOnce() -> F + Send + 'static) -> Answer<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut reads = lock(&self.reads);
        if let Some(next) = &reads.next {
            return next.clone();
        }
        let (tell, told) = oneshot::channel();
        // The task that reads never gives up, but the runtime may be going down.
        let answer = async move { told.await.unwrap_or(Err(Error::StoreUnavailable)) }.boxed().shared();
        let before = reads.running.clone();
        if before.is_some() {
            reads.next = Some(answer.clone());
        } else {
            reads.running = Some(answer.clone());
        }
        let this = self.clone();
        tokio::spawn(async move {
            if let Some(before) = before {
                let _answer = before.await;
                let mut reads = lock(&this.reads);
                reads.running = reads.next.take();
            }
            let answer = read().await;
            let mut reads = lock(&this.reads);
            if reads.next.is_none() {
                // Nobody is left to share it with.
                reads.running = None;
            }
            drop(reads);
            let _nobody_waits = tell.send(answer);
        });
        answer
    }
}

/// Runs a read in a task of its own, for the same reason.
pub async fn detached<T: Send + 'static>(read: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(read).await.unwrap_or(Err(Error::StoreUnavailable))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn those_who_ask_together_share_a_read_and_later_ones_read_again() {
        let (reads, shared) = (Arc::new(AtomicUsize::new(0)), Arc::new(Coalesce::<usize>::default()));
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
        // The first reads before the others have asked; they share the second.
        let all = futures::future::join_all((0..100).map(|_| ask())).await;
        assert_eq!((all[0], all[1], all[99]), (1, 2, 2));
        assert_eq!(ask().await, 3);
        assert!(lock(&shared.reads).running.is_none(), "nothing is kept for nobody");
    }

    #[tokio::test]
    async fn one_who_stands_still_holds_up_nobody() {
        let shared = Arc::new(Coalesce::<usize>::default());
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
}
