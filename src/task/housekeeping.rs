//! What keeps a server and its database tidy: followed jobs of other servers, old requests, history by days, idle connections.

use std::time::Duration;

use super::Chore;
use crate::domain::job::Changes;
use crate::engine::Engine;
use crate::error::Result;

/// Rows a clean-up takes at once.
const BATCH: i64 = 1_000;
/// Followed jobs that are asked about at once.
const FOLLOWED: usize = 1_000;

/// Notices what other servers did to jobs that somebody follows here: one query for all followers.
pub struct Followed {
    engine: Engine,
}

impl Followed {
    /// A look-out.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for Followed {
    const NAME: &'static str = "followed";
    const EVERY: Duration = Duration::from_secs(1);
    // Each server has followers of its own.
    const BY_TURNS: bool = false;

    async fn run(&mut self) -> Result<usize> {
        let shared = self.engine.shared();
        let followed = shared.hub.followed();
        let mut told = 0;
        for chunk in followed.chunks(FOLLOWED) {
            let keys: Vec<_> = chunk.iter().map(|(key, _)| *key).collect();
            let revisions = shared.store.revisions(&keys).await?;
            let newer = chunk.iter().filter(|(key, seen)| revisions.get(key).is_some_and(|now| now > seen));
            let newer: Vec<_> = newer.map(|(key, _)| *key).collect();
            for key in keys.iter().filter(|key| !revisions.contains_key(key)) {
                shared.hub.publish_deletion(*key);
            }
            if newer.is_empty() {
                continue;
            }
            for job in shared.store.jobs(&newer).await?.values() {
                shared.hub.publish(job, &Changes::default());
                told += 1;
            }
        }
        Ok(told)
    }
}

/// Forgets requests and group outcomes that nobody can ask for any more.
pub struct Forget {
    engine: Engine,
}

impl Forget {
    /// A forgetter.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for Forget {
    const NAME: &'static str = "forget";
    const EVERY: Duration = Duration::from_secs(60);
    const FULL: usize = BATCH as usize;

    async fn run(&mut self) -> Result<usize> {
        self.engine.shared().store.forget(BATCH).await
    }
}

/// Closes connections that nobody has used for long.
pub struct Retire {
    engine: Engine,
}

impl Retire {
    /// One who looks after the pool.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Chore for Retire {
    const NAME: &'static str = "retire";
    const EVERY: Duration = Duration::from_secs(60);
    // Each server has a pool of its own.
    const BY_TURNS: bool = false;

    async fn run(&mut self) -> Result<usize> {
        Ok(self.engine.shared().store.reads.retire_idle())
    }
}

/// Makes the partitions of the coming days and drops those of long ago.
pub struct Partitions {
    engine: Engine,
    keep_days: i32,
}

impl Partitions {
    /// A keeper of history.
    pub fn new(engine: Engine, keep_days: i32) -> Self {
        Self { engine, keep_days }
    }
}

impl Chore for Partitions {
    const NAME: &'static str = "partitions";
    const EVERY: Duration = Duration::from_secs(3_600);

    async fn run(&mut self) -> Result<usize> {
        self.engine.shared().store.keep_partitions(self.keep_days).await
    }
}
