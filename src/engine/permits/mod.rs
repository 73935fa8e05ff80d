//! What follows from commits of resources on this server: waiting callers get their permits, timers are set, stages in wait queues are woken.
//!
//! Layout: `acquire` acquires a permit for a caller, which may wait; `waits` are those callers; `timers` are the moments at which something is due at a
//! resource by the clock alone; `breakers` are the circuit breakers that are not closed; `loops` serve all that in the background.
//!
//! **Invariants.** Lanes only note here and never wait. A timer or a note may be lost: a background job finds resources that are overdue, and a
//! caller checks at the end of its wait.

pub mod acquire;
pub mod breakers;
pub mod loops;
mod timers;
mod waits;

use std::num::NonZeroUsize;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain::permit::breaker::BreakerPhase;
use crate::domain::permit::resource::Resource;
use crate::domain::permit::wait_queue::{StageWaiters, StageWakeUp};
use crate::domain::permit::{BlockReason, ResourceKey};
use crate::domain::time::Timestamp;
use crate::feed::Hub;
use crate::feed::follow::FollowedResources;
use crate::figures::permits::PermitFigures;
use crate::operation::overlay::ClusterView;
use crate::operation::overlay::Spared;
use crate::store::permit::queries::WakeUp;
use breakers::Breakers;
use timers::Timers;
pub use waits::Waits;

/// Resources with waiting stages that are remembered. At others a lease of each new stage is tried before the stage waits.
const MAX_WITH_STAGES: usize = 100_000;
/// Resources whose denials are counted; the one without a denial for the longest time is forgotten.
const MAX_COUNTED: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is more than none");

/// What this server knows of permits beside their rows.
pub struct Permits {
    /// The id of this server.
    pub server: Uuid,
    /// Callers that wait here.
    pub waits: Arc<Waits>,
    pub figures: PermitFigures,
    /// Circuit breakers that are not closed.
    pub breakers: Breakers,
    timers: Timers,
    wake_ups: Mutex<HashMap<ResourceKey, WakeUp>>,
    has_wake_ups: Notify,
    joining: Mutex<HashSet<ResourceKey>>,
    has_joining: Notify,
    /// Resources that stages wait for, as far as commits of this server know.
    with_stages: Mutex<HashSet<ResourceKey>>,
    denials: Mutex<LruCache<ResourceKey, [u64; BlockReason::ALL.len()]>>,
    cluster: Mutex<ClusterView>,
}

impl Permits {
    /// For a server that knows no other server yet.
    pub fn new() -> Self {
        let server = Uuid::new_v4();
        let servers = Arc::new([server].into_iter().collect());
        Self {
            server,
            waits: Arc::default(),
            figures: PermitFigures::default(),
            breakers: Breakers::default(),
            timers: Timers::default(),
            wake_ups: Mutex::default(),
            has_wake_ups: Notify::new(),
            joining: Mutex::default(),
            has_joining: Notify::new(),
            with_stages: Mutex::default(),
            denials: Mutex::new(LruCache::new(MAX_COUNTED)),
            // Until the others are known they may be of any version.
            cluster: Mutex::new(ClusterView { server, servers, has_older_servers: true, ..ClusterView::default() }),
        }
    }

    /// What decisions may know beside the state that they stand on.
    pub fn cluster(&self, spared: Spared) -> ClusterView {
        ClusterView { spared, ..self.cluster.lock().clone() }
    }

    /// Sets the servers that live at a moment, and whether one of them is older than jobs in one row.
    pub fn set_servers(&self, mut servers: HashSet<Uuid>, has_older: bool, now: Timestamp) {
        servers.insert(self.server);
        let mut cluster = self.cluster.lock();
        cluster.as_of = Some(now);
        cluster.has_older_servers = has_older;
        if *cluster.servers != servers {
            cluster.servers = Arc::new(servers);
        }
    }

    /// The servers that live, this one among them.
    pub fn servers(&self) -> Arc<HashSet<Uuid>> {
        self.cluster.lock().servers.clone()
    }

    /// Whether other servers live.
    pub fn has_others(&self) -> bool {
        self.cluster.lock().servers.len() > 1
    }

    /// Notes the commit of a resource: its state before and after. None: it does not exist.
    pub fn note(
        &self,
        hub: &Hub,
        key: ResourceKey,
        before: Option<&Arc<Resource>>,
        after: Option<&Arc<Resource>>,
        now: Timestamp,
    ) {
        hub.publish_state::<FollowedResources>(&key, after);
        self.note_stages(key, after.is_some_and(|after| after.state.stages.is_some()));
        let Some(after) = after else {
            self.breakers.observe(key, None, now);
            return self.timers.set(key, None);
        };
        let at = |resource: &Arc<Resource>| (resource.version, resource.create_time);
        if before.is_some_and(|before| at(before) == at(after)) {
            return;
        }
        self.timers.set(key, after.wakes_at(now));
        self.signal_waits(hub, before, after);
        self.count(before, after);
        self.note_breaker(before, after, now);
        if let Some(wake_up) = wake_up(before.and_then(|before| before.state.stages), after, now) {
            self.wake_ups.lock().insert(key, wake_up);
            self.has_wake_ups.notify_one();
        }
    }

    /// Whether stages wait for a resource, as far as commits of this server know.
    pub fn has_stages(&self, key: &ResourceKey) -> bool {
        self.with_stages.lock().contains(key)
    }

    fn note_stages(&self, key: ResourceKey, has_stages: bool) {
        let mut with_stages = self.with_stages.lock();
        if !has_stages {
            with_stages.remove(&key);
        } else if with_stages.len() < MAX_WITH_STAGES {
            with_stages.insert(key);
        }
    }

    /// Notes that a stage waits for a resource: others that need it can join its wait queue before their lease is tried.
    pub fn note_blocked_stage(&self, key: ResourceKey) {
        self.joining.lock().insert(key);
        self.has_joining.notify_one();
    }

    fn signal_waits(&self, hub: &Hub, before: Option<&Arc<Resource>>, after: &Arc<Resource>) {
        let waited_elsewhere = before.is_some_and(|before| {
            let left = before.wait_queue.values().filter(|waiter| waiter.server != self.server);
            left.into_iter().any(|waiter| !after.wait_queue.contains_key(&waiter.position()))
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
        for (place, waiter) in before.into_iter().flat_map(|before| &before.wait_queue) {
            if !after.wait_queue.contains_key(place) && !after.permits.contains_key(&waiter.id) {
                self.waits.check(&waiter.id);
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
        // Both as they were stored: a breaker that becomes half open by time alone has not changed.
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

    /// Counts a denied AcquirePermit under its resource.
    pub fn denied(&self, key: ResourceKey, reason: BlockReason) {
        let place = reason as usize - 1;
        self.figures.denied.at(place).inc();
        self.denials.lock().get_or_insert_mut(key, Default::default)[place] += 1;
    }

    /// Denials of a resource by this server, in the order of [`BlockReason::ALL`].
    pub fn denials(&self, key: &ResourceKey) -> [u64; BlockReason::ALL.len()] {
        self.denials.lock().peek(key).copied().unwrap_or_default()
    }

    fn take_wake_ups(&self) -> HashMap<ResourceKey, WakeUp> {
        std::mem::take(&mut *self.wake_ups.lock())
    }

    fn take_joining(&self) -> Vec<ResourceKey> {
        std::mem::take(&mut *self.joining.lock()).into_iter().collect()
    }
}

/// The wake-up of stages that follows from a commit. None: there is none.
fn wake_up(was: Option<StageWaiters>, after: &Resource, now: Timestamp) -> Option<WakeUp> {
    let stages = after.state.stages.filter(|stages| Some(*stages) != was)?;
    let room = || after.headroom(&after.claim_of_stages(&stages), now);
    let (count, every_queue) = match stages.wake {
        StageWakeUp::Woken { .. } => (room(), stages.every_queue_until.is_some_and(|until| until > now)),
        // None of those that were woken was leased.
        StageWakeUp::Idle => (room(), true),
        // Others wait behind the stages, which were not seen for a while.
        StageWakeUp::None
            if was == Some(StageWaiters { seen: was?.seen, ..stages }) && !after.wait_queue.is_empty() =>
        {
            (0, false)
        }
        StageWakeUp::None => return None,
    };
    Some(WakeUp { stages: count, largest: after.largest(), every_queue, arrival: Some(stages.arrival) })
}

impl Default for Permits {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
