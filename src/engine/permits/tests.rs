//! What commits of resources set off, without a database.

use std::time::Duration;

use super::waits::{Signal, Wait};
use super::*;
use crate::domain::id::{Name, NamespaceId};
use crate::domain::permit::PermitClaim;
use crate::domain::permit::resource::PermitTerms;
use crate::domain::permit::wait_queue::Waiter;

const NOW: Timestamp = Timestamp(1_000_000);

fn key(name: &str) -> ResourceKey {
    ResourceKey::of(NamespaceId(1), name)
}

fn resource(name: &str) -> Resource {
    next(&Resource::new(key(name), name.into(), 0, NOW))
}

/// The resource at its next version.
fn next(before: &Resource) -> Resource {
    let mut after = before.clone();
    after.version += 1;
    after
}

fn claim(name: &str) -> PermitClaim {
    PermitClaim { resource: name.into(), amount: 1, mode: None }
}

/// The resource after a grant that expires at a moment.
fn granted(before: &Resource, id: Uuid, expires_at: Timestamp) -> Resource {
    let mut after = next(before);
    let ttl = Duration::from_secs(10);
    let terms =
        PermitTerms { id, all: Vec::new(), holder: Name::from("h"), ttl, expires_at: Some(expires_at), lease: None };
    after.grant(&claim(&before.name), terms, NOW);
    after
}

/// The resource with one more waiter, of a server.
fn waiting(before: &Resource, id: Uuid, server: Uuid) -> Resource {
    let mut after = next(before);
    let waiter = Waiter {
        id,
        server,
        claims: vec![claim(&before.name)],
        priority: 0,
        arrival: NOW,
        until: NOW.after(Duration::from_secs(30)),
        holder: Name::from("w"),
        ttl: Duration::from_secs(10),
        lease: None,
    };
    after.enqueue(&Arc::new(waiter));
    after
}

impl Permits {
    fn committed(&self, before: &Resource, after: &Resource) {
        let (hub, before, after) = (Hub::default(), Arc::new(before.clone()), Arc::new(after.clone()));
        self.note(&hub, before.key, Some(&before), Some(&after), NOW);
    }
}

/// The signal that has come. None: none has.
async fn signal(wait: &mut Wait) -> Option<Signal> {
    tokio::time::timeout(Duration::ZERO, wait.signal()).await.ok()
}

#[tokio::test]
async fn caller_is_signalled_once_all_its_resources_have_granted() {
    let permits = Permits::new();
    let id = Uuid::new_v4();
    let mut wait = permits.waits.begin(id, vec![key("a"), key("b")]);
    let mut other = permits.waits.begin(Uuid::new_v4(), vec![key("a")]);
    assert_eq!((permits.waits.len(), permits.waits.all().len()), (2, 2));
    let (a, b) = (resource("a"), resource("b"));
    permits.committed(&a, &granted(&a, id, NOW.after(Duration::from_secs(10))));
    assert_eq!(signal(&mut wait).await, None, "one resource is not enough");
    permits.committed(&b, &granted(&b, id, NOW.after(Duration::from_secs(10))));
    let Some(Signal::Granted(grants)) = signal(&mut wait).await else { panic!("no grant") };
    assert_eq!(grants.iter().map(|granted| granted.key).collect::<Vec<_>>(), [key("a"), key("b")]);
    assert_eq!(signal(&mut other).await, None, "another permit");
    drop((wait, other));
    assert!(permits.waits.is_empty() && permits.waits.all().is_empty());
}

#[tokio::test]
async fn caller_that_left_the_wait_queue_without_a_grant_checks() {
    let permits = Permits::new();
    let id = Uuid::new_v4();
    let mut wait = permits.waits.begin(id, vec![key("a")]);
    let before = waiting(&resource("a"), id, permits.server);
    permits.committed(&resource("a"), &before);
    assert_eq!(signal(&mut wait).await, None, "it waits");
    permits.committed(&before, &next(&next(&resource("a"))));
    assert_eq!(signal(&mut wait).await, Some(Signal::Check));
}

#[tokio::test]
async fn signals_are_bounded_and_end_with_a_check() {
    let permits = Permits::new();
    let id = Uuid::new_v4();
    let mut wait = permits.waits.begin(id, vec![key("a")]);
    (0..5).for_each(|_| permits.waits.check(&id));
    for expected in [Some(Signal::Check), Some(Signal::Check), None] {
        assert_eq!(signal(&mut wait).await, expected);
    }
    permits.waits.check(&Uuid::new_v4());
    assert_eq!(signal(&mut wait).await, None, "a check of another caller");
}

#[tokio::test]
async fn timer_follows_the_waiters_of_a_resource() {
    let permits = Permits::new();
    let holder = Uuid::new_v4();
    let expires_at = NOW.after(Duration::from_secs(10));
    let held = granted(&resource("a"), holder, expires_at);
    permits.committed(&resource("a"), &held);
    let queued = waiting(&held, Uuid::new_v4(), permits.server);
    permits.committed(&held, &queued);
    let first = permits.timers.first().expect("a waiter needs the expiry");
    assert!(first >= expires_at, "{first:?}");
    permits.note(&Hub::default(), queued.key, Some(&Arc::new(queued)), None, NOW);
    assert_eq!(permits.timers.first(), None, "the resource is gone");
}

#[test]
fn denials_are_counted_by_resource_and_reason() {
    let permits = Permits::new();
    let reason = BlockReason::ALL[0];
    permits.denied(key("a"), reason);
    permits.denied(key("a"), reason);
    assert_eq!((permits.denials(&key("a"))[0], permits.denials(&key("b"))[0]), (2, 0));
}

#[test]
fn this_server_always_counts_as_living() {
    let permits = Permits::new();
    let other = Uuid::new_v4();
    assert!(!permits.has_others());
    permits.set_servers([other].into_iter().collect(), false, NOW);
    assert!(permits.has_others() && permits.servers().contains(&permits.server));
    permits.set_servers(HashSet::default(), false, NOW);
    assert!(!permits.has_others() && permits.servers().contains(&permits.server));
}
