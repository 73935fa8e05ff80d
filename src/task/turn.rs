//! Whose turn it is: of several servers on one database, one at a time does the work that concerns all.
//!
//! The turn is a row with an end, which its holder moves on while it works. A server that ends gives it up; one that is killed
//! loses it after [`TURN`]. Nothing rests on there being one holder only: whatever two do at once is refused to one of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use uuid::Uuid;

use crate::error::Result;
use crate::store::Store;

/// How long a turn lasts unless it is taken again.
const TURN: Duration = Duration::from_secs(3);
/// How long the last answer is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// How long giving it up may take at the end.
const PATIENCE: Duration = Duration::from_secs(1);
/// What the turn is about.
const ROLE: &str = "background";

/// This server's part in taking turns.
pub struct Turn {
    store: Store,
    server: Uuid,
    answer: Mutex<Option<Answer>>,
    /// The last answer, for figures.
    is_ours: AtomicBool,
}

#[derive(Clone, Copy)]
struct Answer {
    is_ours: bool,
    asked: Instant,
}

impl Turn {
    /// A server that has not asked yet.
    pub fn new(store: Store) -> Self {
        Self { store, server: Uuid::new_v4(), answer: Mutex::default(), is_ours: AtomicBool::new(false) }
    }

    /// Whether it is this server's turn; takes it where it is free, and keeps it.
    pub async fn is_ours(&self) -> Result<bool> {
        let mut answer = self.answer.lock().await;
        if let Some(answer) = answer.filter(|answer| answer.asked.elapsed() < BELIEVED) {
            return Ok(answer.is_ours);
        }
        let asked = Instant::now();
        *answer = None;
        self.is_ours.store(false, Ordering::Relaxed);
        let is_ours = self.store.take_turn(ROLE, self.server, TURN).await?;
        self.is_ours.store(is_ours, Ordering::Relaxed);
        *answer = Some(Answer { is_ours, asked });
        Ok(is_ours)
    }

    /// What was found out last.
    pub fn is_known_to_be_ours(&self) -> bool {
        self.is_ours.load(Ordering::Relaxed)
    }

    /// Lets another server go on at once.
    pub async fn give_up(&self) {
        let mut answer = self.answer.lock().await;
        if answer.take().is_some_and(|answer| !answer.is_ours) {
            return;
        }
        match tokio::time::timeout(PATIENCE, self.store.free_turn(ROLE, self.server)).await {
            Ok(Ok(())) => {}
            // It ends by itself.
            Ok(Err(error)) => tracing::debug!(%error, "the turn was not given up"),
            Err(_) => tracing::debug!("the turn was not given up in time"),
        }
    }
}
