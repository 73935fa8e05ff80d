//! Background job for lines of stages that no server will wake: the server that was to wake them was killed, or the stage at the head of the
//! line has gone.

use std::num::NonZeroUsize;
use std::time::Duration;

use foldhash::HashMap;
use lru::LruCache;

use super::job::{BackgroundJob, execute_all};
use crate::domain::id::{JobKey, StageNo};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::wait_queue::{StageWaiters, StageWakeUp};
use crate::engine::Engine;
use crate::engine::permits::loops;
use crate::error::Result;
use crate::operation::permits::wake::SyncStageHead;
use crate::store::permit::queries::{StageLine, WakeUp};

/// Maximum number of lines in one run. A walk over more takes several runs.
const LINES: usize = 200;
/// Number of lines whose last observation is remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(20_000).expect("it is more than none");

/// A line as it was observed by a run.
#[derive(Clone, Copy, PartialEq, Eq)]
struct LineObservation {
    version: Option<i64>,
    head: (JobKey, StageNo),
    /// Whether the place of the line is known to be that of its head.
    is_led: bool,
}

/// Walks over the lines of stages. Each line costs one row, however many stages wait in it, and a line that needs nothing is not written.
pub struct StageLines {
    engine: Engine,
    /// The last line of the run before. None: the walk begins.
    after: Option<ResourceKey>,
    observed: ObservedLines,
}

/// The lines of the last runs, as they were observed.
struct ObservedLines(LruCache<ResourceKey, LineObservation>);

impl StageLines {
    /// The walk begins at the first resource.
    pub fn new(engine: Engine) -> Self {
        Self { engine, after: None, observed: ObservedLines(LruCache::new(REMEMBERED)) }
    }

    /// Lets one stage be picked of each line without a place, and one of each queue where the queues of woken stages have no workers; none
    /// where a stage can be picked already. A stage that is picked joins the line of the resource that blocks it.
    async fn wake(&self, lines: &[&StageLine]) -> Result<usize> {
        if lines.is_empty() {
            return Ok(0);
        }
        let wake_up = |line: &&StageLine| {
            let every_queue = line.place.is_some();
            (line.key, WakeUp { stages: 1, largest: line.largest, every_queue, arrival: None })
        };
        let wake_ups: HashMap<ResourceKey, WakeUp> = lines.iter().map(wake_up).collect();
        loops::wake(&self.engine, &wake_ups).await.map(|found| found.len())
    }
}

impl ObservedLines {
    /// The operation that a line with a place needs. None: the line has changed since it was last observed, so it is being served, and the
    /// stage at its head still has the priority of its place.
    fn lead(&mut self, line: &StageLine, place: &StageWaiters) -> Option<SyncStageHead> {
        let now = LineObservation { version: line.version, head: line.head, is_led: false };
        let before = self.0.get(&line.key).copied();
        let is_unchanged = before.is_some_and(|before| LineObservation { is_led: false, ..before } == now);
        let is_led = before.is_some_and(|before| before.is_led) && is_unchanged;
        self.0.put(line.key, LineObservation { is_led: is_unchanged, ..now });
        let (job, stage_no) = line.head;
        let is_due = is_unchanged && !is_led || line.priority != place.priority;
        is_due.then_some(SyncStageHead { key: line.key, job, stage_no })
    }
}

impl BackgroundJob for StageLines {
    const NAME: &'static str = "stage_lines";
    const EVERY: Duration = Duration::from_secs(1);

    async fn run(&mut self) -> Result<usize> {
        let lines = self.engine.shared().store.next_lines(self.after, LINES).await?;
        self.after = lines.last().filter(|_| lines.len() >= LINES).map(|line| line.key);
        let (mut leads, mut lost) = (Vec::new(), Vec::new());
        for line in &lines {
            match &line.place {
                Some(place) if place.wake == StageWakeUp::None => leads.extend(self.observed.lead(line, place)),
                Some(place) if place.wake == StageWakeUp::Idle => lost.push(line),
                // The stored alarm of the resource ends this wake-up.
                Some(_) => {}
                None => lost.push(line),
            }
        }
        self.wake(&lost).await?;
        execute_all(&self.engine, leads.into_iter()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::NamespaceId;
    use crate::operation::tests::build::key;

    fn line(version: i64, priority: i32) -> StageLine {
        let key_of_resource = ResourceKey { namespace: NamespaceId(1), uid: uuid::Uuid::nil() };
        StageLine {
            key: key_of_resource,
            head: (key(), 0),
            priority,
            version: Some(version),
            place: None,
            largest: None,
        }
    }

    #[test]
    fn a_line_is_led_once_after_it_was_observed_unchanged_or_when_its_priority_differs() {
        let place = r#"{"priority":5,"arrival":1,"amount":1,"mode":"SHARED","seen":1}"#;
        let place: StageWaiters = serde_json::from_str(place).expect("a stored place");
        let mut observed = ObservedLines(LruCache::new(REMEMBERED));
        let mut is_led = |version, priority| observed.lead(&line(version, priority), &place).is_some();
        assert!(!is_led(1, 5), "it may be served at this moment");
        assert!(is_led(1, 5), "it did not change between two runs");
        assert!(!is_led(1, 5), "it was led");
        assert!(!is_led(2, 5) && is_led(2, 5), "the resource has changed");
        assert!(is_led(3, 6), "the head has another priority");
    }
}
