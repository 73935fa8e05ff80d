//! Deletes sessions whose retention is over, and finishes deletions: segments in bounded commits, then the session's row.

use std::time::Duration;

use super::BackgroundJob;
use super::job::execute_all;
use crate::domain::session::{SessionKey, SessionState};
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::timeline::control::{ExpireSession, RemoveSession};

/// Maximum number of sessions in one run.
const BATCH: i64 = 100;
/// Maximum number of segments that one statement deletes.
const SEGMENTS: i64 = 1_000;
/// Maximum number of such statements in one run.
const STATEMENTS: usize = 20;
/// Maximum number of such statements that a call waits for.
const STATEMENTS_PER_CALL: usize = 10;

/// Deletes sessions whose retention is over, and what is left of deleted ones.
pub struct SessionCleaner {
    engine: Engine,
}

impl SessionCleaner {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl BackgroundJob for SessionCleaner {
    const NAME: &'static str = "sessions";
    const EVERY: Duration = Duration::from_secs(1);
    const FULL: usize = 1;

    async fn run(&mut self) -> Result<usize> {
        let due = self.engine.shared().store.expired_sessions(BATCH).await?;
        let (deleted, ended): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(_, state)| *state == SessionState::Deleted);
        let mut done = execute_all(&self.engine, ended.into_iter().map(|(key, _)| ExpireSession { key })).await?;
        let mut left = STATEMENTS;
        for (key, _) in deleted {
            done += remove(&self.engine, key, &mut left).await?;
            if left == 0 {
                break;
            }
        }
        Ok(done)
    }
}

/// Deletes the segments of a deleted session and its row, as far as a call can wait for it; the clean-up does the rest.
///
/// # Errors
/// If the database does not answer. The session stays deleted.
pub async fn remove_session(engine: &Engine, key: SessionKey) -> Result<()> {
    let mut left = STATEMENTS_PER_CALL;
    remove(engine, key, &mut left).await.map(drop)
}

/// Deletes segments by at most `left` statements, and the session's row once there are no more. Returns how many rows were deleted.
async fn remove(engine: &Engine, key: SessionKey, left: &mut usize) -> Result<usize> {
    let mut deleted = 0;
    while *left > 0 {
        *left -= 1;
        let segments = engine.shared().store.delete_segments(key, SEGMENTS).await?;
        deleted += segments;
        if i64::try_from(segments).is_ok_and(|segments| segments < SEGMENTS) {
            return Ok(deleted + execute_all(engine, std::iter::once(RemoveSession { key })).await?);
        }
    }
    Ok(deleted)
}
