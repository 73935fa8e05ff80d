//! Serves alarms and calls as they come, and looks after waits that other servers may have served.

use std::time::Duration;

use foldhash::HashMap;
use futures::future::join_all;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Call;
use crate::domain::permit::ResourceKey;
use crate::engine::Engine;
use crate::engine::cache::Cached;
use crate::engine::world::Key;
use crate::operation::permits::wake::{ClearTurn, WakeResource};

/// Alarms that are served at once.
const AT_ONCE: usize = 256;
/// Waits that are looked after at once.
const LOOK_AT: usize = 1_000;
/// How often waits are looked after while other servers are there.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Without an alarm.
const IDLE: Duration = Duration::from_secs(60);
/// An alarm that was served and is due again at once waits so long.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Runs until `shutdown`.
pub async fn keep(engine: Engine, shutdown: CancellationToken) {
    let serve = async {
        tokio::join!(serve_alarms(&engine), serve_calls(&engine), look_after_waits(&engine));
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
                match engine.execute(WakeResource { key }, None).await {
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
    if let Some(Cached::Resource(resource)) = shared.cache.get(&Key::Resource(key)) {
        let now = engine.now();
        let at = resource.wakes_at(now).map(|at| at.max(now.after(AGAIN_AFTER)));
        shared.permits.alarms.set(key, at);
    }
}

/// Wakes stages whose turn it is. Where none waited, none is expected.
async fn serve_calls(engine: &Engine) {
    let shared = engine.shared();
    loop {
        let calls = shared.permits.take_calls();
        if calls.is_empty() {
            shared.permits.called.notified().await;
            continue;
        }
        let wanted: Vec<(ResourceKey, i64)> = calls.iter().map(|(key, call)| (*key, call.stages)).collect();
        match shared.store.wake_stages(&wanted).await {
            Ok(woken) => {
                let count: i64 = woken.by_resource.values().sum();
                shared.permits.figures.stages_called.inc_by(count.unsigned_abs());
                shared.hub.publish_ready(woken.queues.into_iter().collect());
                clear_turns(engine, &calls, &woken.by_resource).await;
            }
            // They are tried again by themselves after a while.
            Err(error) => tracing::debug!(%error, "stages that wait for permits were not woken"),
        }
    }
}

async fn clear_turns(engine: &Engine, calls: &HashMap<ResourceKey, Call>, woken: &HashMap<ResourceKey, i64>) {
    // Those that were woken have precedence until they have come; then the next call finds that there are no more.
    let all = calls.iter().filter(|(key, _)| !woken.contains_key(key));
    let clear =
        |(key, call): (&ResourceKey, &Call)| engine.execute(ClearTurn { key: *key, arrival: call.arrival }, None);
    for cleared in join_all(all.map(clear)).await {
        if let Err(error) = cleared {
            tracing::debug!(%error, "a turn of stages was not cleared");
        }
    }
}

/// Finds waits that other servers have served: one look for all.
async fn look_after_waits(engine: &Engine) {
    let shared = engine.shared();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shared.hub.grants_heard() => {}
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
