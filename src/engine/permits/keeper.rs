//! Serves alarms as they come, wakes stages or lets them join a line, and looks after waits that other servers may have served.

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
use crate::store::permits::{StagesPicked, WakeUp};

/// Alarms that are served at once.
const AT_ONCE: usize = 256;
/// Waits that are looked after at once.
const LOOK_AT: usize = 1_000;
/// Lines that stages join at once.
const LINES_AT_ONCE: usize = 1_000;
/// Stages that join a line at once.
const JOIN_AT_ONCE: usize = 1_000;
/// How often waits are looked after while other servers are there.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Without an alarm.
const IDLE: Duration = Duration::from_secs(60);
/// An alarm that was served and is due again at once waits so long.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Runs until `shutdown`.
pub async fn keep(engine: Engine, shutdown: CancellationToken) {
    let serve = async {
        tokio::join!(serve_alarms(&engine), serve_wake_ups(&engine), serve_joining(&engine), look_after_waits(&engine));
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = serve => {}
    }
}

async fn serve_alarms(engine: &Engine) {
    let shared = engine.shared();
    let alarms = &shared.permits.alarms;
    loop {
        let due = alarms.take_due(engine.now(), AT_ONCE);
        if due.is_empty() {
            let wait = alarms.first().map_or(IDLE, |at| engine.now().until(at));
            tokio::select! {
                () = alarms.stirred() => {}
                // What is known of the clock is a lower bound, so an alarm is never early.
                () = sleep_until(Instant::now() + wait) => {}
            }
            continue;
        }
        shared.permits.figures.alarms.inc_by(due.len() as u64);
        for key in due {
            let engine = engine.clone();
            // Each for itself: one whose row somebody holds shall not hold up the others. It has no other alarm meanwhile.
            tokio::spawn(async move {
                match engine.execute(WakeResource { key, is_overdue: false }, None).await {
                    // Its commit has set the next alarm.
                    Ok(reply) if reply.applied => {}
                    Ok(_) | Err(_) => set_again(&engine, key),
                }
            });
        }
    }
}

/// The alarm of a resource at which nothing was to do yet.
fn set_again(engine: &Engine, key: ResourceKey) {
    let shared = engine.shared();
    if let Some(resource) = shared.cache.get::<Resource>(&Key::Resource(key)) {
        let now = engine.now();
        let at = resource.wakes_at(now).map(|at| at.max(now.after(AGAIN_AFTER)));
        shared.permits.alarms.set(key, at);
    }
}

/// Wakes stages that are the next in line. Where none is left, their place goes to others.
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
                        tracing::debug!(%error, "stages that are gone still have a place in a line");
                    }
                }
            }
            // The alarm at the end of their time comes back to them.
            Err(error) => tracing::debug!(%error, "stages that wait for permits were not woken"),
        }
    }
}

/// Lets stages be picked again, and tells the dispatchers of all servers.
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

/// Lets stages that need what is in use wait in its line, before each of them is tried.
async fn serve_joining(engine: &Engine) {
    let shared = engine.shared();
    loop {
        let mut joining = shared.permits.take_joining();
        if joining.is_empty() {
            shared.permits.has_joining.notified().await;
            continue;
        }
        // Stages of the others are held up one by one.
        joining.truncate(LINES_AT_ONCE);
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
                    // Those that are left are held up one by one.
                    tracing::debug!(%error, "stages did not join a line");
                    break;
                }
            }
        }
    }
}

/// Finds waits that other servers have served: one look for all.
async fn look_after_waits(engine: &Engine) {
    let shared = engine.shared();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shared.hub.granted() => {}
        }
        if shared.permits.waits.is_empty() || !shared.permits.has_others() {
            continue;
        }
        for waits in shared.permits.waits.all().chunks(LOOK_AT) {
            match shared.store.granted_permits(waits).await {
                Ok(granted) => granted.iter().for_each(|id| shared.permits.waits.look(id)),
                Err(error) => tracing::debug!(%error, "waits were not looked after"),
            }
        }
    }
}
