//! Histories of permits by many clients on servers that are killed, checked for linearizability: of locks, and of limits.
//!
//! As in `histories`; besides, a permit that was not released may expire at any instant after it was granted. That the checker
//! would notice is shown on the same histories with one lie in each: a second grant of the newest number.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use interlock::proto;
use interlock::proto::acquire_permit_response::Result as Outcome;
use todc_utils::linearizability::history::Action;
use todc_utils::specifications::Specification;

use super::answers::Answer;
use super::fleet::{Fleet, once};
use super::histories::Verdicts;
use super::scale;
use crate::harness::*;

const CLIENTS: usize = 32;
/// Resources at a time, each with a history of its own.
const RESOURCES: usize = 36;
/// What each client does in a round.
const STEPS: usize = 12;
/// Kills in a round.
const KILLS: usize = 3;
/// Calls before a lie.
const LIED: usize = 14;
/// What a limit allows.
const CAPACITY: usize = 2;

/// Holders of a resource, by fencing token; a holder whose reply was lost is marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    holders: BTreeSet<(i64, bool)>,
    newest: i64,
}

/// A call with its outcome.
#[derive(Clone, Debug)]
enum Operation {
    Granted(i64),
    Denied,
    /// An acquire whose outcome is unknown.
    MaybeGranted,
    Released(i64),
    NotHeld(i64),
    /// A release whose outcome is unknown, or an expiry.
    MaybeEnded(i64),
    /// The expiry of a permit whose acquire has an unknown outcome.
    MaybeForgotten,
    Renewed(i64),
}

impl Operation {
    fn is_unknown(&self) -> bool {
        matches!(self, Self::MaybeGranted | Self::MaybeEnded(_) | Self::MaybeForgotten)
    }
}

/// A resource that so many may hold.
struct Limit<const MANY: usize>;

impl<const MANY: usize> Specification for Limit<MANY> {
    type State = State;
    type Operation = Operation;

    fn init() -> State {
        State::default()
    }

    fn apply(operation: &Operation, state: &State) -> (bool, State) {
        let mut next = state.clone();
        let has_room = state.holders.len() < MANY;
        let fits = match operation {
            Operation::Granted(token) => {
                next.newest = *token;
                next.holders.insert((*token, false));
                // Numbers in between were of grants that were not taken in time.
                has_room && *token > state.newest
            }
            Operation::Denied => !has_room,
            Operation::MaybeGranted => {
                if has_room {
                    next.newest = state.newest + 1;
                    next.holders.insert((next.newest, true));
                }
                true
            }
            Operation::Released(token) => next.holders.remove(&(*token, false)),
            Operation::NotHeld(token) => !state.holders.contains(&(*token, false)),
            Operation::Renewed(token) => state.holders.contains(&(*token, false)),
            Operation::MaybeEnded(token) => {
                next.holders.remove(&(*token, false));
                true
            }
            Operation::MaybeForgotten => {
                let unknown = state.holders.iter().find(|(_, unknown)| *unknown).copied();
                unknown.inspect(|unknown| {
                    next.holders.remove(unknown);
                });
                true
            }
        };
        (fits, next)
    }
}

/// What was seen of one resource: calls sent and answered, by their number.
#[derive(Default)]
struct Record {
    events: Vec<(usize, Option<Operation>)>,
    calls: usize,
}

impl Record {
    fn sent(&mut self) -> usize {
        self.calls += 1;
        self.events.push((self.calls - 1, None));
        self.calls - 1
    }

    fn answered(&mut self, number: usize, operation: Option<Operation>) {
        match operation {
            Some(operation) => self.events.push((number, Some(operation))),
            // It surely changed nothing and says nothing: as if it had not been sent.
            None => self.events.retain(|(sent, _)| *sent != number),
        }
    }

    /// As the checker wants it; answers of unknown outcome come after everything else. With a `lie`, a number that was granted is
    /// granted once more, after the beginning of the history: to find that something cannot be explained, the checker tries
    /// everything.
    fn history(&self, lie: bool) -> Vec<(usize, Action<Operation>)> {
        let (mut actions, mut late, mut newest) = (Vec::new(), Vec::new(), 0);
        for (number, answer) in self.events.iter().filter(|(number, _)| !lie || *number < LIED) {
            if let Some(Operation::Granted(token)) = answer {
                newest = newest.max(*token);
            }
            match answer {
                // The checker looks at the operation in the answer only.
                None => actions.push((*number, Action::Call(Operation::Denied))),
                Some(operation) if operation.is_unknown() => late.push((*number, Action::Response(operation.clone()))),
                Some(operation) => actions.push((*number, Action::Response(operation.clone()))),
            }
        }
        if lie {
            actions.push((self.calls, Action::Call(Operation::Denied)));
            actions.push((self.calls, Action::Response(Operation::Granted(newest))));
        }
        actions.extend(late);
        actions
    }
}

#[derive(Default)]
struct Counts {
    granted: AtomicUsize,
    denied: AtomicUsize,
    ended: AtomicUsize,
    lost: AtomicUsize,
    renewed: AtomicUsize,
    unknown: AtomicUsize,
}

impl Counts {
    fn all(&self) -> usize {
        let Counts { granted, denied, ended, lost, renewed, unknown } = self;
        [granted, denied, ended, lost, renewed, unknown].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

fn add(count: &AtomicUsize) {
    count.fetch_add(1, Ordering::Relaxed);
}

struct Scene {
    fleet: Fleet,
    resources: Vec<(String, Mutex<Record>)>,
    counts: Counts,
}

impl Scene {
    fn note(&self, at: usize, call: impl FnOnce(&mut Record)) {
        call(&mut self.resources[at].1.lock().expect("no panic"));
    }

    fn send(&self, at: usize) -> usize {
        self.resources[at].1.lock().expect("no panic").sent()
    }

    /// Permits that were not released may expire from now on.
    fn may_end(&self, at: usize, operation: Operation) {
        self.note(at, |record| {
            let number = record.sent();
            record.answered(number, Some(operation));
        });
    }

    /// One client acquires, uses and gives back, or does not.
    async fn step(&self, at: usize) {
        let name = self.resources[at].0.clone();
        let wait = if rand::random() { millis(rand::random_range(50..1_000)) } else { None };
        let request = proto::AcquirePermitRequest { ttl: seconds(1), wait, ..acquire_request(vec![claim(&name)]) };
        let number = self.send(at);
        let permit = match once(self.fleet.api().permits().acquire_permit(request)).await {
            Answer::Done(answer) => match answer.result.expect("an outcome") {
                Outcome::Permit(permit) => permit,
                Outcome::Denial(_) => {
                    add(&self.counts.denied);
                    return self.note(at, |record| record.answered(number, Some(Operation::Denied)));
                }
            },
            Answer::Refused(refusal) => panic!("{refusal:?}"),
            Answer::NotNow(_) => return self.note(at, |record| record.answered(number, None)),
            Answer::Unknown(_) => {
                add(&self.counts.unknown);
                self.note(at, |record| record.answered(number, Some(Operation::MaybeGranted)));
                return self.may_end(at, Operation::MaybeForgotten);
            }
        };
        add(&self.counts.granted);
        let token = permit.grants[0].fencing_token;
        self.note(at, |record| record.answered(number, Some(Operation::Granted(token))));
        // From now on it may end by itself, unless it is surely released.
        let end = self.send(at);
        if rand::random_range(0..3) == 0 {
            self.renew(at, &permit, token).await;
        }
        let is_released = match rand::random_range(0..20) {
            // Abandoned.
            0 => false,
            // Too late, perhaps: time that passes is what this is about.
            1 => {
                tokio::time::sleep(Duration::from_millis(1_100)).await;
                self.release(at, &permit, token).await
            }
            _ => self.release(at, &permit, token).await,
        };
        let end_of_it = (!is_released).then_some(Operation::MaybeEnded(token));
        self.note(at, |record| record.answered(end, end_of_it));
    }

    async fn renew(&self, at: usize, permit: &proto::Permit, token: i64) {
        let number = self.send(at);
        let permit_tokens = vec![permit.permit_token.clone()];
        let request = proto::RenewPermitsRequest { permit_tokens, ..Default::default() };
        let operation = match once(self.fleet.api().permits().renew_permits(request)).await {
            Answer::Done(answer) if answer.statuses[0].lost => Some(Operation::NotHeld(token)),
            Answer::Done(_) => Some(Operation::Renewed(token)),
            Answer::Refused(refusal) => panic!("{refusal:?}"),
            // Nothing follows from it.
            Answer::NotNow(_) | Answer::Unknown(_) => None,
        };
        add(if matches!(operation, Some(Operation::Renewed(_))) { &self.counts.renewed } else { &self.counts.lost });
        self.note(at, |record| record.answered(number, operation));
    }

    /// Returns whether it was surely released.
    async fn release(&self, at: usize, permit: &proto::Permit, token: i64) -> bool {
        let number = self.send(at);
        let operation = match once(self.fleet.api().permits().release_permit(release_of(permit))).await {
            Answer::Done(answer) if answer.applied => Operation::Released(token),
            Answer::Done(_) => Operation::NotHeld(token),
            Answer::Refused(refusal) => {
                assert_eq!(refusal.reason, "PERMIT_LOST", "{refusal:?}");
                Operation::NotHeld(token)
            }
            Answer::NotNow(_) | Answer::Unknown(_) => Operation::MaybeEnded(token),
        };
        let is_released = matches!(operation, Operation::Released(_));
        add(match operation {
            Operation::Released(_) => &self.counts.ended,
            Operation::NotHeld(_) => &self.counts.lost,
            _ => &self.counts.unknown,
        });
        self.note(at, |record| record.answered(number, Some(operation)));
        is_released
    }
}

/// One round: resources of one kind, and servers killed while the clients are at it.
async fn round(fleet: Fleet, kind: &str, capacity_of: Option<i64>) -> Scene {
    let names = (0..RESOURCES).map(|i| format!("{kind}-{i}"));
    let mut resources = Vec::new();
    for name in names {
        if let Some(limit) = capacity_of {
            fleet.api().set_policy(&name, capacity(limit)).await;
        }
        resources.push((name, Mutex::default()));
    }
    let scene = Scene { fleet, resources, counts: Counts::default() };
    let client = || async {
        for _ in 0..STEPS {
            scene.step(rand::random_range(0..RESOURCES)).await;
        }
    };
    let kills = async {
        for kill in 0..KILLS {
            let after = (kill + 1) * CLIENTS * STEPS / (KILLS + 1);
            eventually("enough calls", async || (scene.counts.all() >= after).then_some(())).await;
            let probe =
                async |api: &Api| api.permits().list_resources(proto::ListResourcesRequest::default()).await.is_ok();
            scene.fleet.kill(kill % 2, probe).await;
        }
    };
    futures::join!(join_all((0..CLIENTS).map(|_| client())), kills);
    scene
}

async fn check<const MANY: usize>(kind: &str, capacity: Option<i64>) {
    let database = Database::fresh().await;
    let (mut verdicts, mut longest) = (Verdicts::default(), 0);
    let mut counts = [0; 6];
    for i in 0..scale() {
        let scene = round(Fleet::start(database.clone(), 2).await, &format!("{kind}-{i}"), capacity).await;
        for (name, record) in &scene.resources {
            let (plain, lie) = {
                let record = record.lock().expect("no panic");
                longest = longest.max(record.calls);
                (record.history(false), record.history(true))
            };
            if !verdicts.add::<Limit<MANY>>(plain, lie).await {
                eprintln!("cannot be explained: {name}: {:?}", record.lock().expect("no panic").events);
            }
        }
        let Counts { granted, denied, ended, lost, renewed, unknown } = &scene.counts;
        for (sum, count) in counts.iter_mut().zip([granted, denied, ended, lost, renewed, unknown]) {
            *sum += count.load(Ordering::Relaxed);
        }
    }
    let [granted, denied, ended, lost, renewed, unknown] = counts;
    eprintln!(
        "{kind}: histories of at most {longest} calls by {CLIENTS} clients on 2 servers ({granted} granted, {denied} denied, \
         {renewed} renewed, {ended} released, {lost} lost), {} kills, {unknown} unknown outcomes; lies are planted double grants: \
         {verdicts:?}",
        KILLS * scale()
    );
    verdicts.check();
    assert!(granted >= CLIENTS * STEPS / 5 && denied >= 10 && ended >= granted / 2, "too little traffic");
    assert!(unknown >= 1, "too few kills in the middle");
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_locks_with_kills_are_linearizable() {
    check::<1>("lock", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_limits_with_kills_are_linearizable() {
    check::<CAPACITY>("limit", Some(2)).await;
}
