//! One read for all who ask at the same time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Mutex;

use crate::error::Result;

/// Reads of the same thing. An answer is shared by all who asked before its read began, so that nobody gets what is older than
/// his question; who asks while one is under way shares the next. Failures are shared too.
pub struct Coalesce<T> {
    started: AtomicU64,
    waiting: AtomicUsize,
    last: Mutex<Option<(u64, Result<T>)>>,
}

impl<T> Default for Coalesce<T> {
    fn default() -> Self {
        Self { started: AtomicU64::new(0), waiting: AtomicUsize::new(0), last: Mutex::new(None) }
    }
}

/// Somebody who waits, until he no longer does.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T: Clone> Coalesce<T> {
    /// Answers with a read that began after this call, one's own or another's that is `usable`.
    pub async fn read<F>(&self, usable: impl Fn(&T) -> bool, read: impl FnOnce() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let asked = self.started.load(Ordering::Acquire);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let waits = Waits(&self.waiting);
        let mut last = self.last.lock().await;
        let shared = match &*last {
            Some((number, answer)) if *number > asked && answer.as_ref().map_or(true, &usable) => Some(answer.clone()),
            Some(_) | None => None,
        };
        let answer = match shared {
            Some(answer) => answer,
            None => {
                let number = self.started.fetch_add(1, Ordering::AcqRel) + 1;
                let answer = read().await;
                *last = Some((number, answer.clone()));
                answer
            }
        };
        drop(waits);
        if self.waiting.load(Ordering::Acquire) == 0 {
            // Nobody is left to share it with.
            *last = None;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_ask_together_share_a_read_and_later_ones_read_again() {
        let (reads, shared) = (AtomicUsize::new(0), Coalesce::<usize>::default());
        let ask = || async {
            let read = || async {
                tokio::task::yield_now().await;
                Ok(reads.fetch_add(1, Ordering::SeqCst) + 1)
            };
            shared.read(|_| true, read).await.expect("an answer")
        };
        // The first reads before the others have asked; they share the second.
        let all = futures::future::join_all((0..100).map(|_| ask())).await;
        assert_eq!((all[0], all[1], all[99]), (1, 2, 2));
        assert_eq!(ask().await, 3);
        assert!(shared.last.lock().await.is_none(), "nothing is kept for nobody");
    }
}
