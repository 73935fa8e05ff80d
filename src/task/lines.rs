//! Lines of stages that nobody will wake: the server that was to wake them has gone, or the stage for which they waited has.

use std::num::NonZeroUsize;
use std::time::Duration;

use foldhash::HashMap;
use lru::LruCache;

use super::Chore;
use super::due::execute_all;
use crate::domain::id::{JobKey, StageNo};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::wait_queue::{StageWaiters, StageWakeUp};
use crate::engine::Engine;
use crate::engine::permits::keeper;
use crate::error::Result;
use crate::operation::permits::wake::SyncStageHead;
use crate::store::permits::{StageLine, WakeUp};

/// Lines that are looked at in one second. A round over more lasts longer.
const LINES: usize = 200;
/// Lines whose last look is remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is more than none");

/// How a line was found.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    version: Option<i64>,
    head: (JobKey, StageNo),
    /// Its place is known to be that of the head.
    is_led: bool,
}

/// Looks at the lines of stages, some after the other. One look for each line, however many wait in it; and as long as nothing changes,
/// nothing is written.
pub struct StageLines {
    engine: Engine,
    /// The last one that was looked at. None: a round begins.
    after: Option<ResourceKey>,
    looks: LruCache<ResourceKey, Look>,
}

impl StageLines {
    /// At the beginning of a round.
    pub fn new(engine: Engine) -> Self {
        Self { engine, after: None, looks: LruCache::new(REMEMBERED) }
    }

    /// The operation that a line needs which waits at a place: none if it has changed since the last look, for then it is served, unless the
    /// stage at its head has another priority.
    fn lead(&mut self, line: &StageLine, place: &StageWaiters) -> Option<SyncStageHead> {
        let look = Look { version: line.version, head: line.head, is_led: false };
        let before = self.looks.get(&line.key).copied();
        let stands_still = before.is_some_and(|before| Look { is_led: false, ..before } == look);
        let is_led = before.is_some_and(|before| before.is_led) && stands_still;
        self.looks.put(line.key, Look { is_led: stands_still, ..look });
        let (job, stage_no) = line.head;
        let is_due = stands_still && !is_led || line.priority != place.priority;
        is_due.then_some(SyncStageHead { key: line.key, job, stage_no })
    }

    /// Lets one stage be picked of each line that has no place, and one of each queue where those that were woken have no workers; unless one can be
    /// picked already. It will say by itself what it waits for.
    async fn wake(&self, lines: &[&StageLine]) -> Result<usize> {
        let keys: Vec<ResourceKey> = lines.iter().map(|line| line.key).collect();
        if keys.is_empty() {
            return Ok(0);
        }
        let resources = self.engine.shared().store.followed_resources(&keys).await?;
        let wake_up = |line: &&StageLine| {
            let largest = resources.get(&line.key).and_then(|resource| resource.largest());
            (line.key, WakeUp { stages: 1, largest, every_queue: line.place.is_some(), arrival: None })
        };
        let wake_ups: HashMap<ResourceKey, WakeUp> = lines.iter().map(wake_up).collect();
        keeper::wake(&self.engine, &wake_ups).await.map(|found| found.len())
    }
}

impl Chore for StageLines {
    const NAME: &'static str = "stage_lines";
    const EVERY: Duration = Duration::from_secs(1);

    async fn run(&mut self) -> Result<usize> {
        let lines = self.engine.shared().store.next_lines(self.after, LINES).await?;
        self.after = lines.last().filter(|_| lines.len() >= LINES).map(|line| line.key);
        let (mut leads, mut lost) = (Vec::new(), Vec::new());
        for line in &lines {
            match &line.place {
                Some(place) if place.wake == StageWakeUp::None => leads.extend(self.lead(line, place)),
                Some(place) if place.wake == StageWakeUp::Idle => lost.push(line),
                // There is an alarm at the end of its time.
                Some(_) => {}
                None => lost.push(line),
            }
        }
        self.wake(&lost).await?;
        execute_all(&self.engine, leads.into_iter()).await
    }
}
