//! A deterministic simulation of engines: servers with their queues, lanes, caches and contention over one database in memory, clients, sessions that
//! are no server, lost connections, and a clock. Each seed is one history of interleaved steps.
//!
//! A failure prints its seed; `INTERLOCK_SEED` runs that one alone.

mod database;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;

use super::*;
use crate::config::Config;
use crate::domain::audit::Actor;
use crate::domain::field_op::{FieldChange, FieldOp};
use crate::domain::id::NamespaceId;
use crate::domain::namespace::Namespace;
use crate::domain::record::{Record, RecordKey};
use crate::domain::time::Timestamp;
use crate::engine::contention::ContentionLevel;
use crate::engine::loading::Basis;
use crate::engine::loading::Wanted;
use crate::engine::queue::Ticket;
use crate::engine::traced::GroupSpan;
use crate::error::Result;
use crate::feed::Hub;
use crate::operation::Reply;
use crate::operation::overlay::{AggregateTables, ClusterView, Key, Loaded};
use crate::operation::update_records::{RecordUpdate, UpdateRecords};
use crate::store::Store;
use crate::store::commit::CommitMode;
use crate::store::connection::Target;
use database::{Database, Session};

const SEEDS: u64 = 150;
const STEPS: usize = 300;
const SERVERS: usize = 3;
const RECORDS: usize = 90;
/// Records that most operations are about.
const HOT_RECORDS: usize = 3;
const NAMESPACE: NamespaceId = NamespaceId(1);

struct Sim {
    rng: StdRng,
    database: Database,
    servers: Vec<Server>,
    calls: Vec<Call>,
    clock: i64,
}

struct Server {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    lanes: Vec<Simulated>,
}

/// A lane, and where it is in its loop.
struct Simulated {
    lane: Lane,
    todo: Vec<Work>,
    sent: Option<Sent>,
}

/// A group between its decision and its installation.
struct Sent {
    round: Round,
    group_id: Uuid,
    mode: CommitMode,
    /// None: the database has not committed it yet.
    outcome: Option<CommitOutcome>,
}

/// An operation of a client: adds 1 to some records.
struct Call {
    records: Vec<usize>,
    /// Of the only record.
    expected_version: Option<i64>,
    /// The version of the first record when it was called.
    version_before: i64,
    ticket: Ticket,
    answer: oneshot::Receiver<Result<Reply>>,
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    /// With the version that it made of each record.
    Applied(Vec<i64>),
    NotApplied,
}

fn key(record: usize) -> RecordKey {
    RecordKey::new(NAMESPACE, "c".into(), record.to_string().into())
}

impl Server {
    fn new() -> Self {
        let target = Target::parse("postgres://nowhere.invalid/none").expect("an address");
        let store = Store::new(target, (&Config::default()).into()).expect("a pool");
        let shared = Arc::new(Shared::new(store, Arc::new(Hub::default()), (&Config::default()).into()));
        let queue = Arc::new(Queue::new(1_000, 64 << 20));
        let lane = |id| Simulated { lane: Lane::new(id, shared.clone(), queue.clone()), todo: Vec::new(), sent: None };
        let lanes = LaneId::ALL.into_iter().map(lane).collect();
        Self { shared, queue, lanes }
    }
}

impl Sim {
    fn new(seed: u64) -> Self {
        let servers = (0..SERVERS).map(|_| Server::new()).collect();
        let (rng, database) = (StdRng::seed_from_u64(seed), Database::default());
        Self { rng, database, servers, calls: Vec::new(), clock: 1_000_000 }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// One step of somebody.
    fn step(&mut self) {
        self.clock += 1;
        match self.rng.random_range(0..100) {
            0..22 => self.call(),
            22..24 => {
                let key = key(self.rng.random_range(0..HOT_RECORDS));
                self.database.lock(Session::Foreign, [&key].into_iter());
            }
            24..27 => self.database.unlock(Session::Foreign),
            27..29 => self.write_elsewhere(),
            29..31 => {
                let by = Duration::from_millis(self.rng.random_range(0..4_000));
                self.servers.iter().for_each(|server| server.shared.contention.advance(by));
            }
            31 if !self.calls.is_empty() => {
                let call = self.rng.random_range(0..self.calls.len());
                if self.calls[call].end.is_none() && self.calls[call].ticket.abandon() {
                    self.calls[call].end = Some(End::NotApplied);
                }
            }
            _ => {
                let (server, lane) = (self.rng.random_range(0..SERVERS), self.rng.random_range(0..LaneId::ALL.len()));
                self.run(server, lane);
            }
        }
    }

    fn call(&mut self) {
        let count = match self.rng.random_range(0..10) {
            0 => 55,
            1..3 => 2,
            _ => 1,
        };
        let all = if self.chance(80) { HOT_RECORDS.max(count) } else { RECORDS };
        let mut records: Vec<usize> = (0..all).collect();
        while records.len() > count {
            records.swap_remove(self.rng.random_range(0..records.len()));
        }
        let version_before = self.database.version(&key(records[0]));
        let is_old = i64::from(self.chance(30));
        let expected_version = (count == 1 && self.chance(30)).then(|| (version_before - is_old).max(0));
        let add = || FieldOp { field: "n".into(), change: FieldChange::Increment(1.0), expected_version: None };
        let update =
            |i: &usize| RecordUpdate { key: key(*i), operations: vec![add()], expected_version, allow_missing: true };
        let updates = records.iter().map(update).collect();
        let operation = UpdateRecords { updates, list: Some("updates"), request: None };
        let (pending, answer) = Pending::new(Box::new(operation), Actor::Server);
        let ticket = pending.ticket();
        let server = self.rng.random_range(0..SERVERS);
        if self.servers[server].queue.push(pending).is_ok() {
            self.calls.push(Call { records, expected_version, version_before, ticket, answer, end: None });
        }
    }

    /// A write of a session that is no server.
    fn write_elsewhere(&mut self) {
        let key = key(self.rng.random_range(0..HOT_RECORDS));
        if let Some(record) = self.database.records.get(&key).cloned()
            && self.database.lock(Session::Foreign, [&key].into_iter())
        {
            let record = Record { version: record.version + 1, ..Record::clone(&record) };
            self.database.records.insert(key, Arc::new(record));
            self.database.unlock(Session::Foreign);
        }
    }

    /// One step of a lane: it takes and decides a group, the database commits it, or it is installed and answered.
    fn run(&mut self, server: usize, lane: usize) {
        match self.servers[server].lanes[lane].sent.take() {
            None => self.decide(server, lane),
            Some(sent) if sent.outcome.is_none() => self.commit(server, lane, sent),
            Some(sent) => self.install(server, lane, sent),
        }
        self.hear();
    }

    fn decide(&mut self, server: usize, at: usize) {
        let Server { shared, queue, lanes } = &mut self.servers[server];
        let Simulated { lane, todo, sent } = &mut lanes[at];
        let Some(mut work) = todo.pop() else {
            let group = lane.without_hot(queue.take(lane.id));
            todo.extend((!group.is_empty()).then(|| Work { group, ..Work::default() }));
            return;
        };
        let is_locking = lane.id.kind == LaneKind::Locking;
        if is_locking {
            let blocked;
            (work, blocked) = match lane.apart(work) {
                Ok(together) => together,
                Err(parts) => return todo.extend(parts),
            };
            let wanted = Wanted::by(&work.group);
            let records =
                wanted.keys.iter().filter_map(|key| if let Key::Record(key) = key { Some(key) } else { None });
            if !self.database.lock(Session::Server(server), records) {
                let work = vec![work];
                if blocked.has_rows() {
                    lane.keep_blocked(&work);
                    lane.requeue_blocked(work);
                } else {
                    lane.mark_blocked(&work);
                    todo.extend(work);
                }
                return;
            }
            shared.contention.unblock(wanted.keys.iter().copied());
        }
        let group_id = Uuid::from_u128(self.rng.random());
        let span = GroupSpan::begin(&mut work.group, "simulated", group_id);
        let basis = load(shared, &self.database, &work, !is_locking, Timestamp(self.clock));
        let mode = if is_locking { CommitMode::PerComponent } else { shared.contention.commit_mode() };
        let round = Round::decide(work.group, basis, mode, span);
        *sent = Some(Sent { round, group_id, mode, outcome: None });
    }

    fn commit(&mut self, server: usize, lane: usize, sent: Sent) {
        let Sent { round, group_id, mode, .. } = sent;
        let session = Session::Server(server);
        let writer = if lane == LOCKING { session } else { Session::Server(SERVERS + server) };
        let outcome = match self.rng.random_range(0..100) {
            // Lost before it arrived.
            0..2 => self.lost(&round, group_id),
            2 => CommitOutcome::InvalidData("simulated".to_owned()),
            3 => CommitOutcome::Failed(Error::StoreUnavailable),
            fault => {
                let outcome = self.database.commit(writer, group_id, mode, &round);
                // Lost on the way back.
                if fault < 7 { self.lost(&round, group_id) } else { outcome }
            }
        };
        if lane == LOCKING {
            self.database.unlock(session);
        }
        self.servers[server].lanes[lane].sent = Some(Sent { round, group_id, mode, outcome: Some(outcome) });
    }

    fn lost(&mut self, round: &Round, group_id: Uuid) -> CommitOutcome {
        if round.writes() { self.database.resolve(group_id) } else { CommitOutcome::Indeterminate }
    }

    fn install(&mut self, server: usize, at: usize, sent: Sent) {
        let Server { shared, lanes, .. } = &mut self.servers[server];
        let Simulated { lane, todo, .. } = &mut lanes[at];
        let requeue = |pending| lane.requeue_locking(pending);
        let outcome = sent.outcome.expect("it was committed");
        todo.extend(sent.round.finish((&*shared, &lane.figures), outcome, lane.requeues().then_some(&requeue)));
    }

    /// Takes the answers that have come, and checks them.
    fn hear(&mut self) {
        for call in self.calls.iter_mut().filter(|call| call.end.is_none()) {
            let Ok(answer) = call.answer.try_recv() else { continue };
            let version = self.database.version(&key(call.records[0]));
            call.end = Some(match answer {
                Ok(reply) => {
                    let versions: Vec<i64> = reply.records.iter().map(|outcome| outcome.record.version).collect();
                    assert_eq!(versions.len(), call.records.len());
                    if let Some(expected) = call.expected_version {
                        assert_eq!(versions[0], expected + 1, "applied on the expected version");
                    }
                    End::Applied(versions)
                }
                Err(Error::Refused(refusal)) => {
                    let expected = call.expected_version.expect("only a version can be refused");
                    let was_true = call.version_before != expected || version != expected;
                    assert!(was_true, "{refusal:?}, and the version has been {expected} all the time");
                    End::NotApplied
                }
                Err(Error::Conflict | Error::StoreUnavailable | Error::Bug { .. }) => End::NotApplied,
                Err(error) => panic!("{error:?}"),
            });
        }
    }

    /// Lets all lanes run until nothing is left to do.
    fn finish(&mut self) {
        self.database.unlock(Session::Foreign);
        for _ in 0..5_000 {
            let is_idle = |one: &Simulated| one.todo.is_empty() && one.sent.is_none();
            let waiting = |server: &Server| LaneKind::ALL.iter().map(|kind| server.queue.len(*kind)).sum::<usize>();
            if self.servers.iter().all(|server| waiting(server) == 0 && server.lanes.iter().all(is_idle)) {
                return;
            }
            for (server, lane) in (0..SERVERS).flat_map(|server| (0..LaneId::ALL.len()).map(move |lane| (server, lane)))
            {
                self.run(server, lane);
            }
        }
        panic!("the lanes do not come to an end");
    }

    /// Each operation that was answered as applied was applied once, and no other was.
    fn check(&self) {
        let mut counts = [0; RECORDS];
        let mut made: HashSet<(usize, i64)> = HashSet::default();
        for call in &self.calls {
            let end = call.end.as_ref().expect("each call is answered");
            let End::Applied(versions) = end else { continue };
            for (record, version) in call.records.iter().zip(versions) {
                counts[*record] += 1;
                assert!(made.insert((*record, *version)), "two operations made version {version} of record {record}");
            }
        }
        for (record, count) in counts.into_iter().enumerate() {
            let stored = self.database.records.get(&key(record));
            let n = stored.and_then(|stored| stored.fields.get(&"n".into())).map_or("0", |field| field.value.as_str());
            assert_eq!(n, count.to_string(), "record {record}");
        }
    }
}

/// The place of the locking lane in [`LaneId::ALL`].
const LOCKING: usize = LaneId::ALL.len() - 1;

/// As [`crate::engine::loading::load`] does it.
fn load(shared: &Shared, database: &Database, work: &Work, trust: bool, now: Timestamp) -> Basis {
    let (mut tables, mut loaded, mut fresh) = (AggregateTables::default(), Loaded::default(), HashSet::default());
    for key in Wanted::by(&work.group).keys {
        let is_foreign = || shared.contention.is_at(ContentionLevel::Foreign, [key]);
        match key {
            Key::Record(record) => {
                let trust = trust && !work.stale.contains(key) && !is_foreign();
                let cached = shared.cache.get::<Record>(key).filter(|_| trust);
                let found = if let Some(cached) = cached {
                    Some(cached)
                } else {
                    fresh.insert(key.clone());
                    let found = database.records.get(record).cloned();
                    match &found {
                        Some(found) => shared.cache.put(key.clone(), found.clone()),
                        None => shared.cache.remove(key),
                    }
                    found
                };
                tables.records.load(record.clone(), found);
            }
            Key::Namespace(id) => {
                let namespace = Namespace {
                    id: *id,
                    name: "default".into(),
                    version: 1,
                    fencing_floor: 0,
                    holds_anything: true,
                    create_time: Timestamp(0),
                };
                loaded.namespaces.insert(*id, Some(Arc::new(namespace)));
            }
            key => panic!("{key:?} is no key of an update of records"),
        }
    }
    Basis { tables, loaded, fresh, now, cluster: ClusterView::default(), lexemes: Arc::default() }
}

#[tokio::test]
async fn each_write_is_applied_once_and_answered_truly_whatever_the_lanes_run_into() {
    let one = std::env::var("INTERLOCK_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in one.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let ran = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut sim = Sim::new(seed);
            (0..STEPS).for_each(|_| sim.step());
            sim.finish();
            sim.check();
            sim.calls.iter().filter(|call| matches!(call.end, Some(End::Applied(_)))).count()
        }));
        let applied = ran.unwrap_or_else(|_| panic!("INTERLOCK_SEED={seed}"));
        assert!(applied > 10, "INTERLOCK_SEED={seed}: only {applied} operations were applied");
    }
}
