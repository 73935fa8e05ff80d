//! What follows from commits of resources on this server: who waits is told, what is due by the clock is watched, stages in line are woken.
//!
//! Layout: `waits` are the callers who wait here; `breakers` are those that are open; `alarms` are the moments at which something happens to a resource by itself; `keeper`
//! is the task that serves alarms, wakes stages or lets them join a line, and looks after waits that other servers have served.
//!
//! **Invariants.** Lanes only note here and never wait. Nothing rests on an alarm or a note that is lost: the stored alarms, the ends
//! of waits and a look now and then find what was missed.

mod alarms;
pub mod breakers;
pub mod keeper;
mod waits;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};

use foldhash::{HashMap, HashSet};
use lru::LruCache;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain::permit::breaker::BreakerPhase;
use crate::domain::permit::line::{StagePlace, Wake};
use crate::domain::permit::resource::Resource;
use crate::domain::permit::{BlockReason, ResourceKey};
use crate::domain::time::Timestamp;
use crate::feed::Hub;
use crate::feed::follow::FollowedResources;
use crate::figures::permits::PermitFigures;
use crate::operation::overlay::ClusterView;
use crate::operation::overlay::Spared;
use crate::store::permits::WakeUp;
use alarms::Alarms;
use breakers::Breakers;
pub use waits::{Signal, Wait, Waits};

/// Lines of stages that are remembered; where there are more, new stages are tried before they wait.
const MAX_LINES: usize = 100_000;
/// Resources whose denials are counted; the longest undenied is forgotten.
const MAX_COUNTED: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is more than none");

/// The permits of this server.
pub struct Permits {
    /// This server.
    pub server: Uuid,
    /// Callers who wait here.
    pub waits: Arc<Waits>,
    /// What was done.
    pub figures: PermitFigures,
    /// Breakers that are not closed.
    pub breakers: Breakers,
    alarms: Alarms,
    wake_ups: Mutex<HashMap<ResourceKey, WakeUp>>,
    has_wake_ups: Notify,
    joining: Mutex<HashSet<ResourceKey>>,
    has_joining: Notify,
    /// Resources for which stages wait, as far as commits of this server know.
    lines: Mutex<HashSet<ResourceKey>>,
    denials: Mutex<LruCache<ResourceKey, [u64; BlockReason::ALL.len()]>>,
    cluster: Mutex<ClusterView>,
}

impl Permits {
    /// Of a server that knows of no other yet.
    pub fn new() -> Self {
        let server = Uuid::new_v4();
        let servers = Arc::new([server].into_iter().collect());
        Self {
            server,
            waits: Arc::default(),
            figures: PermitFigures::default(),
            breakers: Breakers::default(),
            alarms: Alarms::default(),
            wake_ups: Mutex::default(),
            has_wake_ups: Notify::new(),
            joining: Mutex::default(),
            has_joining: Notify::new(),
            lines: Mutex::default(),
            denials: Mutex::new(LruCache::new(MAX_COUNTED)),
            // Until others are heard of they may be of any version.
            cluster: Mutex::new(ClusterView { server, servers, has_older_servers: true, ..ClusterView::default() }),
        }
    }

    /// What decisions know of what is around them.
    pub fn cluster(&self, spared: Spared) -> ClusterView {
        ClusterView { spared, ..lock(&self.cluster).clone() }
    }

    /// Says which servers are there at a moment, and whether one of them is older than jobs in one row.
    pub fn set_servers(&self, mut servers: HashSet<Uuid>, has_older: bool, now: Timestamp) {
        servers.insert(self.server);
        let mut cluster = lock(&self.cluster);
        cluster.as_of = Some(now);
        cluster.has_older_servers = has_older;
        if *cluster.servers != servers {
            cluster.servers = Arc::new(servers);
        }
    }

    /// The servers that are there, this one among them.
    pub fn servers(&self) -> Arc<HashSet<Uuid>> {
        lock(&self.cluster).servers.clone()
    }

    /// Whether other servers are there.
    pub fn has_others(&self) -> bool {
        lock(&self.cluster).servers.len() > 1
    }

    /// Notes a committed resource: what it was before, and what it is now.
    pub fn note(
        &self,
        hub: &Hub,
        key: ResourceKey,
        before: Option<&Arc<Resource>>,
        after: Option<&Arc<Resource>>,
        now: Timestamp,
    ) {
        hub.publish_state::<FollowedResources>(&key, after);
        self.note_line(key, after.is_some_and(|after| after.state.stages.is_some()));
        let Some(after) = after else {
            self.breakers.observe(key, None, now);
            return self.alarms.set(key, None);
        };
        let at = |resource: &Arc<Resource>| (resource.version, resource.create_time);
        if before.is_some_and(|before| at(before) == at(after)) {
            return;
        }
        self.alarms.set(key, after.wakes_at(now));
        self.tell_waiters(hub, before, after);
        self.count(before, after);
        self.note_breaker(before, after, now);
        if let Some(wake_up) = wake_up(before.and_then(|before| before.state.stages), after, now) {
            lock(&self.wake_ups).insert(key, wake_up);
            self.has_wake_ups.notify_one();
        }
    }

    /// Whether stages wait for a resource, as far as commits of this server know.
    pub fn has_line(&self, key: &ResourceKey) -> bool {
        lock(&self.lines).contains(key)
    }

    fn note_line(&self, key: ResourceKey, is_there: bool) {
        let mut lines = lock(&self.lines);
        if !is_there {
            lines.remove(&key);
        } else if lines.len() < MAX_LINES {
            lines.insert(key);
        }
    }

    /// Notes that a resource holds up a stage: others that need it can wait in its line without being tried.
    pub fn holds_up_stages(&self, key: ResourceKey) {
        lock(&self.joining).insert(key);
        self.has_joining.notify_one();
    }

    fn tell_waiters(&self, hub: &Hub, before: Option<&Arc<Resource>>, after: &Arc<Resource>) {
        let waited_elsewhere = before.is_some_and(|before| {
            let left = before.line.values().filter(|waiter| waiter.server != self.server);
            left.into_iter().any(|waiter| !after.line.contains_key(&waiter.place()))
        });
        if waited_elsewhere {
            hub.publish_grants();
        }
        if self.waits.is_empty() {
            return;
        }
        let is_new = |id: &Uuid| before.is_none_or(|before| !before.permits.contains_key(id));
        for permit in after.held_permits().filter(|permit| is_new(&permit.id)) {
            self.waits.granted(after, permit);
        }
        for (place, waiter) in before.into_iter().flat_map(|before| &before.line) {
            if !after.line.contains_key(place) && !after.permits.contains_key(&waiter.id) {
                self.waits.look(&waiter.id);
            }
        }
    }

    fn count(&self, before: Option<&Arc<Resource>>, after: &Arc<Resource>) {
        let granted = after.state.grants - before.map_or(0, |before| before.state.grants);
        let held = before.map_or(0, |before| before.held()) + usize::try_from(granted).unwrap_or(0);
        self.figures.granted.inc_by(granted.unsigned_abs());
        self.figures.ended.inc_by(held.saturating_sub(after.held()) as u64);
        let lost = |resource: &Arc<Resource>| resource.permits.len() - resource.held();
        let more = lost(after).saturating_sub(before.map_or(0, lost));
        self.figures.lost.inc_by(more as u64);
    }

    fn note_breaker(&self, before: Option<&Arc<Resource>>, after: &Arc<Resource>, now: Timestamp) {
        self.breakers.observe(after.key, Some(after), now);
        // As both were stored: that time alone makes a breaker half open is no change.
        let stored = |resource: &Arc<Resource>| breakers::phase(resource, resource.update_time);
        let Some(phase) =
            stored(after).filter(|phase| before.and_then(stored).unwrap_or(BreakerPhase::Closed) != *phase)
        else {
            return;
        };
        self.figures.breaker_entered(phase);
        if phase == BreakerPhase::Open
            && let Some(suppressed) = self.figures.opened.pass()
        {
            tracing::info!(resource = %after.name, suppressed, "a circuit breaker opened");
        }
    }

    /// Counts a denial.
    pub fn denied(&self, key: ResourceKey, reason: BlockReason) {
        let place = reason as usize - 1;
        self.figures.denied.at(place).inc();
        lock(&self.denials).get_or_insert_mut(key, Default::default)[place] += 1;
    }

    /// The denials of a resource by this server, in the order of [`BlockReason::ALL`].
    pub fn denials(&self, key: &ResourceKey) -> [u64; BlockReason::ALL.len()] {
        lock(&self.denials).peek(key).copied().unwrap_or_default()
    }

    fn take_wake_ups(&self) -> HashMap<ResourceKey, WakeUp> {
        std::mem::take(&mut *lock(&self.wake_ups))
    }

    fn take_joining(&self) -> Vec<ResourceKey> {
        std::mem::take(&mut *lock(&self.joining)).into_iter().collect()
    }
}

/// The wake-up that follows from a commit, if one does.
fn wake_up(was: Option<StagePlace>, after: &Resource, now: Timestamp) -> Option<WakeUp> {
    let stages = after.state.stages.filter(|stages| Some(*stages) != was)?;
    let room = || after.room(&after.claim_of_stages(&stages), now);
    let (count, every_queue) = match stages.wake {
        Wake::Woken { .. } => (room(), stages.every_queue_until.is_some_and(|until| until > now)),
        // Nobody took those that were woken.
        Wake::Idle => (room(), true),
        // Others wait behind the stages, which were not seen for a while.
        Wake::None if was == Some(StagePlace { seen: was?.seen, ..stages }) && !after.line.is_empty() => (0, false),
        Wake::None => return None,
    };
    Some(WakeUp { stages: count, largest: after.largest(), every_queue, arrival: Some(stages.arrival) })
}

impl Default for Permits {
    fn default() -> Self {
        Self::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
