//! Background loops of permits: timers that are due, stages to wake, stages that join a wait queue, and callers whose permit another server has
//! granted.

use std::time::Duration;

use foldhash::HashMap;
use futures::future::join_all;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::engine::Engine;
use crate::error::Result;
use crate::failpoint;
use crate::operation::overlay::Key;
use crate::operation::permits::wake::{ClearStages, WakeResource};
use crate::store::permit::queries::{StagesPicked, WakeUp};

/// Timers that are taken at once.
const TIMERS_AT_ONCE: usize = 256;
/// Waiting callers that one query checks.
const CHECKED_AT_ONCE: usize = 1_000;
/// Resources whose wait queues stages join with one query.
const QUEUES_AT_ONCE: usize = 1_000;
/// Stages that join wait queues with one query.
const JOIN_AT_ONCE: usize = 1_000;
/// Pause between checks of waiting callers while there are other servers.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// Pause of the timers' loop while there is no timer.
const IDLE: Duration = Duration::from_secs(60);
/// Time after which a timer at which nothing was due yet is due again, at the earliest.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Runs the loops until `shutdown`.
pub async fn run(engine: Engine, shutdown: CancellationToken) {
    let serve = async {
        tokio::join!(serve_timers(&engine), serve_wake_ups(&engine), serve_joining(&engine), check_waits(&engine));
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = serve => {}
    }
}

async fn serve_timers(engine: &Engine) {
    let shared = engine.shared();
    let timers = &shared.permits.timers;
    loop {
        let due = timers.take_due(engine.now(), TIMERS_AT_ONCE);
        if due.is_empty() {
            let wait = timers.first().map_or(IDLE, |at| engine.now().until(at));
            tokio::select! {
                () = timers.first_changed() => {}
                // The known time is a lower bound, so a timer is never early.
                () = sleep_until(Instant::now() + wait) => {}
            }
            continue;
        }
        shared.permits.figures.alarms.inc_by(due.len() as u64);
        for key in due {
            let engine = engine.clone();
            // A task for each, so that a blocked row delays no other. Meanwhile the resource has no timer.
            tokio::spawn(async move {
                match engine.execute(WakeResource { key, is_overdue: false }, None).await {
                    // Its commit has set the next timer.
                    Ok(reply) if reply.applied => {}
                    Ok(_) | Err(_) => reset_timer(&engine, key),
                }
            });
        }
    }
}

/// Sets the timer of a resource again at which nothing was due yet.
fn reset_timer(engine: &Engine, key: ResourceKey) {
    let shared = engine.shared();
    if let Some(resource) = shared.cache.get::<Resource>(&Key::Resource(key)) {
        let now = engine.now();
        let at = resource.wakes_at(now).map(|at| at.max(now.after(AGAIN_AFTER)));
        shared.permits.timers.set(key, at);
    }
}

/// Wakes stages at the head of wait queues. Where none is left, their place in the queue is cleared.
async fn serve_wake_ups(engine: &Engine) {
    let shared = engine.shared();
    loop {
        let wake_ups = shared.permits.take_wake_ups();
        if wake_ups.is_empty() {
            shared.permits.has_wake_ups.notified().await;
            continue;
        }
        match wake(engine, &wake_ups).await {
            Ok(found) => {
                let is_gone = |key: &ResourceKey, wake_up: &WakeUp| {
                    let is_none =
                        |found: &StagesPicked| found.pickable == 0 && (wake_up.stages > 0 || !found.any_waits);
                    found.get(key).is_some_and(is_none)
                };
                let gone = wake_ups.iter().filter(|(key, wake_up)| is_gone(key, wake_up));
                let clear = |(key, wake_up): (&ResourceKey, &WakeUp)| {
                    let arrival = wake_up.arrival?;
                    Some(engine.execute(ClearStages { key: *key, arrival }, None))
                };
                for cleared in join_all(gone.filter_map(clear)).await {
                    if let Err(error) = cleared {
                        tracing::debug!(%error, "stages that are gone still have a place in a wait queue");
                    }
                }
            }
            // The timer at the end of their time wakes them.
            Err(error) => tracing::debug!(%error, "stages that wait for permits were not woken"),
        }
    }
}

/// Makes stages leasable again, and notifies the dispatchers of all servers. Returns what was found for each resource.
pub async fn wake(
    engine: &Engine,
    wake_ups: &HashMap<ResourceKey, WakeUp>,
) -> Result<HashMap<ResourceKey, StagesPicked>> {
    let shared = engine.shared();
    failpoint::hit("before_wake");
    let (found, woken) = shared.store.wake_stages(wake_ups).await?;
    shared.permits.figures.stages_called.inc_by(woken.len() as u64);
    shared.hub.publish_woken(&woken);
    shared.heads.woken(woken);
    Ok(found)
}

/// Lets stages that need a resource in use join its wait queue, before a lease of each is tried.
async fn serve_joining(engine: &Engine) {
    let shared = engine.shared();
    loop {
        let mut joining = shared.permits.take_joining();
        if joining.is_empty() {
            shared.permits.has_joining.notified().await;
            continue;
        }
        // Stages of the other resources join when their lease is tried.
        joining.truncate(QUEUES_AT_ONCE);
        loop {
            match shared.store.join_lines(&joining, JOIN_AT_ONCE).await {
                Ok(joined) => {
                    let is_last = joined.len() < JOIN_AT_ONCE;
                    shared.heads.joined(joined);
                    if is_last {
                        break;
                    }
                }
                Err(error) => {
                    // They join when their lease is tried.
                    tracing::debug!(%error, "stages did not join a wait queue");
                    break;
                }
            }
        }
    }
}

/// Finds callers here whose permits other servers have granted, with one query for many.
async fn check_waits(engine: &Engine) {
    let shared = engine.shared();
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK_EVERY) => {}
            () = shared.hub.granted() => {}
        }
        if shared.permits.waits.is_empty() || !shared.permits.has_others() {
            continue;
        }
        for waits in shared.permits.waits.all().chunks(CHECKED_AT_ONCE) {
            match shared.store.granted_permits(waits).await {
                Ok(granted) => granted.iter().for_each(|id| shared.permits.waits.check(id)),
                Err(error) => tracing::debug!(%error, "waiting callers were not checked"),
            }
        }
    }
}
