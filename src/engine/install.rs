//! What follows from a commit on this server: the cache has the new state, and watchers, the dispatcher and permits hear of it.

use super::cache::Cacheable;
use super::shared::Shared;
use crate::domain::job::Job;
use crate::feed::follow::{FollowedRecords, FollowedSessions};
use crate::operation::overlay::{Change, Key, Keyed, Overlay, match_key};

/// Installs what was committed: those of the keys whose component `is_committed`.
pub fn install(shared: &Shared, overlay: &Overlay, keys: &[(Key, i32)], is_committed: impl Fn(&i32) -> bool) {
    let is_committed = &is_committed;
    let committed = || keys.iter().filter(move |(_, c)| is_committed(c)).map(|(key, _)| key);
    for key in committed() {
        match_key!(key, A, id => install_aggregate::<A>(shared, overlay, key, id), other => install_other(shared, overlay, other));
        publish(shared, overlay, key);
    }
    let jobs = committed().filter_map(|key| {
        let key = Job::of_key(key)?;
        let change = overlay.tables.jobs.change(key)?;
        let base = overlay.tables.jobs.base(key).map(|base| &**base);
        Some((base, change.after.as_deref(), &change.effects.changes))
    });
    shared.heads.note(jobs, overlay.now(), &|key| shared.permits.has_stages(&key));
}

fn install_aggregate<A: Keyed + Cacheable>(shared: &Shared, overlay: &Overlay, key: &Key, id: &A::Key) {
    match A::table(&overlay.tables).change(id) {
        Some(Change { after: Some(after), .. }) => shared.cache.put(key.clone(), after.clone()),
        Some(Change { after: None, .. }) => shared.cache.remove(key),
        None => {}
    }
}

fn install_other(shared: &Shared, overlay: &Overlay, key: &Key) {
    match key {
        Key::Request(request) => {
            if let Some(record) = overlay.remembered.get(request) {
                shared.cache.put(key.clone(), record.clone());
            }
        }
        // Changes are rare enough to load it again.
        Key::Namespace(id) if overlay.namespaces.contains_key(id) => shared.cache.remove(key),
        Key::Lease(lease) => {
            if let Some(renewed) = overlay.leases.get(lease) {
                shared.cache.renew(*lease, renewed);
            }
        }
        Key::Namespace(_) | Key::NamespaceName(_) | Key::AuditLog => {}
        root => debug_assert!(!root.is_root(), "aggregates are installed by their type"),
    }
}

/// Publishes a change of an aggregate that somebody can watch or wait for.
fn publish(shared: &Shared, overlay: &Overlay, key: &Key) {
    let (tables, now) = (&overlay.tables, overlay.now());
    match key {
        Key::Job(id) => match tables.jobs.change(id) {
            Some(Change { after: Some(job), effects }) => {
                let base = tables.jobs.base(id);
                shared.jobs.note(base.map(|base| &**base), job, &effects.changes);
                shared.hub.publish(base, job, &effects.changes, now);
            }
            Some(Change { after: None, .. }) => shared.hub.publish_deletion(*id),
            None => {}
        },
        Key::Record(id) => {
            if let Some(change) = tables.records.change(id) {
                shared.hub.publish_state::<FollowedRecords>(id, change.after.as_ref());
            }
        }
        Key::Session(id) => {
            if let Some(change) = tables.sessions.change(id) {
                // One that is being deleted does not exist for watches.
                let visible = change.after.as_ref().filter(|session| session.is_visible());
                shared.hub.publish_state::<FollowedSessions>(id, visible);
            }
        }
        Key::Resource(id) => {
            if let Some(change) = tables.resources.change(id) {
                shared.permits.note(&shared.hub, *id, tables.resources.base(id), change.after.as_ref(), now);
            }
        }
        _ => {}
    }
}
