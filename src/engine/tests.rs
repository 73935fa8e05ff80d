//! The engine over a real database: a job from its submission to its end, and what two engines do to one job.

mod leases;
mod row_counts;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::dispatcher::{Dispatcher, Leased, Poll, PollEnd};
use super::{Engine, EngineSettings};
use crate::dev::TestDatabase;
use crate::domain::audit::Actor;
use crate::domain::field_op::{FieldChange, FieldOp};
use crate::domain::id::{JobKey, LeaseToken, Name, NamespaceId};
use crate::domain::job::{JobState, StageCredential};
use crate::domain::json::Document;
use crate::domain::record::RecordKey;
use crate::domain::refusal::Refusal;
use crate::domain::request::{RequestIdentity, RequestKey};
use crate::error::Error;
use crate::feed::Hub;
use crate::operation::Reply;
use crate::operation::commit::{Commit, Part};
use crate::operation::control_job::{Control, ControlJob};
use crate::operation::delete_job::DeleteJob;
use crate::operation::end_stage::{End, EndStage};
use crate::operation::heartbeat::RenewLeases;
use crate::operation::reap::Reap;
use crate::operation::submit_jobs::SubmitJobs;
use crate::operation::target::StageTarget;
use crate::operation::update_progress::UpdateProgress;
use crate::operation::update_records::{RecordUpdate, UpdateRecords};
use crate::proto;
use crate::rpc::convert::path::Path;
use crate::rpc::convert::submit;
use crate::store::Store;
use crate::store::connection::{Client, Target as Database};
use crate::store::pool::PoolSettings;
use crate::store::tests::database;

const DEFAULT: NamespaceId = NamespaceId(1);

struct Server {
    engine: Engine,
    dispatcher: Arc<Dispatcher>,
    shutdown: CancellationToken,
}

fn server(database: &TestDatabase) -> Server {
    let target = Database::parse(database.url()).expect("our own URL");
    let store = Store::new(target, PoolSettings::default()).expect("a pool");
    let engine = Engine::start(store, Arc::new(Hub::default()), EngineSettings::default());
    let dispatcher = Arc::new(Dispatcher::new(engine.clone()));
    let shutdown = CancellationToken::new();
    tokio::spawn(dispatcher.clone().run(shutdown.clone()));
    Server { engine, dispatcher, shutdown }
}

impl Server {
    async fn submit(&self, job_id: &str, stages: &[(&str, &[&str])], request: Option<Uuid>) -> Result<Reply, Error> {
        let stage = |(name, depends_on): &(&str, &[&str])| proto::StageSpec {
            name: (*name).to_owned(),
            depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        let request_body = proto::SubmitJobRequest {
            job_id: (!job_id.is_empty()).then(|| job_id.to_owned()),
            kind: "film".to_owned(),
            stages: stages.iter().map(stage).collect(),
            ..Default::default()
        };
        let job = submit::job(DEFAULT, request_body, &Path::Root)?;
        let key = |request_id| RequestKey { namespace: DEFAULT, request_id };
        let request = request.map(|id| RequestIdentity { key: key(id), digest: Uuid::nil() });
        self.engine.execute(SubmitJobs { jobs: vec![(job, "stages".to_owned())], request }, None).await
    }

    async fn lease(&self, wait: Duration) -> Vec<Leased> {
        self.lease_for(wait, None).await
    }

    async fn lease_for(&self, wait: Duration, lease_duration: Option<Duration>) -> Vec<Leased> {
        let poll = Poll {
            namespace: DEFAULT,
            worker_id: Name::from("worker"),
            queues: vec![Name::from("default")],
            max_stages: 1,
            wait,
            lease_duration,
            same_group: false,
            deadline: None,
            request: None,
        };
        let PollEnd::Leased(leases) = self.dispatcher.lease(poll).await.expect("a poll") else { return Vec::new() };
        leases.hand_over(usize::MAX)
    }

    async fn complete(&self, leased: &Leased) -> Result<Reply, Error> {
        let token = leased.job.stages[leased.stage_no].token(leased.job.key.uid).expect("a lease");
        let target =
            StageTarget { key: leased.job.key, job_id: Name::from(""), credential: StageCredential::Token(token) };
        let artifacts = Some(Document::from_checked(r#"{"url":"a"}"#));
        let end = End::Complete { artifacts, job_result: None, message: None, add_stages: Vec::new() };
        self.engine
            .execute(EndStage { target, end, digest: Uuid::nil(), expected_version: None, request: None }, None)
            .await
    }
}

#[tokio::test]
async fn a_job_goes_from_its_submission_to_its_end() {
    let database = database().await;
    let server = server(&database);
    let submitted = server.submit("", &[("voice", &[]), ("render", &["voice"])], None).await.expect("submitted");
    let key = submitted.jobs[0].key;
    for stage in 0..2 {
        let leased = server.lease(Duration::from_secs(20)).await;
        assert_eq!(leased.len(), 1);
        assert_eq!(leased[0].stage_no, stage);
        server.complete(&leased[0]).await.expect("completed");
    }
    let (job, documents) = server.engine.shared().store.job(key).await.expect("a read").expect("the job");
    assert_eq!(job.state, JobState::Succeeded);
    assert_eq!((job.revision, job.progress), (5, 1.0));
    assert_eq!(documents.artifacts.len(), 2);
    let events = server.engine.shared().store.list_events(&job, 0, 100).await.expect("history");
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(server.lease(Duration::ZERO).await.is_empty());
    server.shutdown.cancel();
    server.engine.drain().await;
}

#[tokio::test]
async fn a_repeated_request_is_answered_and_not_applied_again_on_any_server() {
    let database = database().await;
    let (a, b) = (server(&database), server(&database));
    let request = Some(Uuid::new_v4());
    let first = a.submit("", &[], request).await.expect("submitted");
    for server in [&a, &b] {
        let again = server.submit("", &[], request).await.expect("answered");
        let record = again.replayed.expect("from memory");
        assert_eq!(record.jobs, [first.jobs[0].key.uid]);
    }
    let taken = |outcome| matches!(outcome, Err(Error::Refused(Refusal::JobAlreadyExists { .. })));
    a.submit("film-1", &[], None).await.expect("submitted");
    assert!(taken(a.submit("film-1", &[], None).await));
    assert!(taken(b.submit("film-1", &[], None).await));
}

#[tokio::test]
async fn a_lease_that_another_server_renewed_is_not_reaped() {
    let database = database().await;
    let server = server(&database);
    let client = server.engine.shared().store.target.connect("").await.expect("a connection");
    for is_renewed in [false, true] {
        server.submit("", &[("voice", &[])], None).await.expect("submitted");
        let leased = server.lease_for(Duration::from_secs(20), Some(Duration::from_millis(50))).await.remove(0);
        let stage = &leased.job.stages[leased.stage_no];
        let (lease, token_secret) = (stage.lease().expect("a lease"), stage.token_secret.expect("a lease"));
        if is_renewed {
            // As another server does it: no revision tells of it.
            let renewal = "UPDATE leases SET expires_at = clock_timestamp() + interval '1 hour'";
            client.execute(renewal, &[]).await.expect("a lease");
        }
        while server.engine.now() <= lease.expires_at {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let reap = Reap { key: leased.job.key, stage_no: leased.stage_no, token_secret, jitter: 0.0 };
        let reaped = server.engine.execute(reap, None).await;
        assert_eq!(reaped.is_ok_and(|reply| reply.applied), !is_renewed);
        let holder = if is_renewed { leased } else { server.lease(Duration::from_secs(20)).await.remove(0) };
        server.complete(&holder).await.expect("who has it completes it");
    }
}

#[tokio::test]
async fn a_job_that_another_server_made_anew_has_all_its_stages() {
    let database = database().await;
    let (a, b) = (server(&database), server(&database));
    let key = JobKey::of(DEFAULT, "film-1");
    let note = |server: &Server, message: &str| {
        let hold = StageCredential::Name("voice".into());
        let (target, message) =
            (StageTarget { key, job_id: "film-1".into(), credential: hold }, Some(Name::from(message)));
        let update = UpdateProgress { target, progress: Some(0.5), message, expected_version: None, request: None };
        let engine = server.engine.clone();
        async move { engine.execute(update, None).await }
    };
    a.submit("film-1", &[("voice", &[])], None).await.expect("submitted");
    for message in ["one", "two", "three"] {
        note(&a, message).await.expect("noted");
    }
    let delete = DeleteJob { key, job_id: "film-1".into(), expected_revision: None, request: None };
    let cancel = Control::Cancel { grace: Duration::ZERO, reason: None };
    let cancel = ControlJob { key, job_id: "film-1".into(), control: cancel, expected_revision: None, request: None };
    b.engine.execute(cancel, None).await.expect("cancelled");
    b.engine.execute_for(Actor::Anonymous(None), delete, None).await.expect("deleted");
    b.submit("film-1", &[("voice", &[]), ("render", &[])], None).await.expect("submitted anew");
    let noted = note(&a, "four").await.expect("noted");
    assert_eq!((noted.jobs[0].revision, noted.jobs[0].stages.len()), (2, 2), "nothing of the old one");
}

#[tokio::test]
async fn what_is_known_of_a_job_is_not_read_again_but_its_leases_are() {
    let database = database().await;
    let server = server(&database);
    let submitted = server.submit("", &[("voice", &[]), ("render", &[])], None).await.expect("submitted");
    let leased = server.lease(Duration::from_secs(20)).await.remove(0);
    let (key, store) = (submitted.jobs[0].key, &server.engine.shared().store);
    let known = store.job_since(key, None).await.expect("a read").expect("the job");
    let again = store.job_since(key, Some(known.clone())).await.expect("a read").expect("the job");
    assert!(Arc::ptr_eq(&known, &again), "nothing is new");
    let client = store.target.connect("").await.expect("a connection");
    client.execute("UPDATE leases SET expires_at = expires_at + interval '1 hour'", &[]).await.expect("a lease");
    let expires = |job: &Arc<crate::domain::job::Job>| job.stages[leased.stage_no].lease().expect("held").expires_at;
    let renewed = store.job_since(key, Some(known.clone())).await.expect("a read").expect("the job");
    assert_eq!(expires(&renewed), expires(&known).after(Duration::from_secs(3_600)));
    assert_eq!(renewed.revision, known.revision);
    server.complete(&leased).await.expect("completed");
    let newer = store.job_since(key, Some(known.clone())).await.expect("a read").expect("the job");
    let whole = store.job_since(key, None).await.expect("a read").expect("the job");
    assert_eq!(format!("{:?}", newer.stages), format!("{:?}", whole.stages), "the same as if all of it were read");
    assert!(newer.revision > known.revision && newer.stages[leased.stage_no].lease().is_none());
}

#[tokio::test]
async fn two_servers_lose_no_update_of_one_job() {
    let database = database().await;
    let servers = [server(&database), server(&database)];
    let stages: Vec<String> = (0..8).map(|i| format!("s{i}")).collect();
    let specs: Vec<(&str, &[&str])> = stages.iter().map(|name| (name.as_str(), &[][..])).collect();
    servers[0].submit("hot", &specs, None).await.expect("submitted");
    let key = JobKey::of(DEFAULT, "hot");
    let writers = (0..64).map(|i| {
        let server = &servers[i % 2];
        let hold = StageCredential::Name(stages[i % 8].as_str().into());
        async move {
            let mut applied = 0;
            for step in 0..20 {
                let progress = Some(f64::from(step * 64 + i32::try_from(i).expect("small")) / 2_000.0);
                let target = StageTarget { key, job_id: "hot".into(), credential: hold.clone() };
                let message = Some(Name::from(format!("{i}-{step}")));
                let update = UpdateProgress { target, progress, message, expected_version: None, request: None };
                applied += i64::from(server.engine.execute(update, None).await.expect("no conflict shows").applied);
            }
            applied
        }
    });
    let applied: i64 = futures::future::join_all(writers).await.into_iter().sum();
    let (job, _) = servers[1].engine.shared().store.job(key).await.expect("a read").expect("the job");
    assert_eq!(job.revision, 1 + applied);
    assert_eq!(applied, 64 * 20);
    assert_eq!(job.stages.iter().map(|stage| stage.version - 1).sum::<i64>(), applied);
}

fn record(i: usize) -> RecordKey {
    RecordKey::new(DEFAULT, "films".into(), format!("r{i}").into())
}

impl Server {
    /// Adds 1 to some records, as one batch.
    async fn add(&self, records: impl Iterator<Item = usize>) -> Result<Reply, Error> {
        let one = || FieldOp { field: "n".into(), change: FieldChange::Increment(1.0), expected_version: None };
        let update =
            |i| RecordUpdate { key: record(i), operations: vec![one()], expected_version: None, allow_missing: true };
        let updates = records.map(update).collect();
        self.engine.execute(UpdateRecords { updates, list: Some("updates"), request: None }, None).await
    }
}

#[tokio::test]
async fn of_a_group_with_a_stale_record_nothing_is_written_before_it_is_decided_again() {
    let database = database().await;
    let (a, b) = (server(&database), server(&database));
    let about = || a.engine.shared().rivals.are_about();
    a.add(0..20).await.expect("made");
    assert!(!about(), "nobody else was seen, so that updates are their own proof");
    for round in 1..=3 {
        b.add(std::iter::once(3)).await.expect("added");
        // One batch that the other server got ahead of, and others that are in its group or are not.
        let (batch, others) = (a.add(0..10), (10..20).map(|i| a.add(std::iter::once(i))));
        let (batch, others) = futures::join!(batch, futures::future::join_all(others));
        let written: Vec<_> =
            others.into_iter().chain([batch]).flat_map(|reply| reply.expect("added").records).collect();
        for outcome in &written {
            let by_b = i64::from(outcome.record.key == record(3));
            assert_eq!(outcome.record.version, 1 + round * (1 + by_b), "{:?}", outcome.record.key);
        }
        assert_eq!(written.len(), 20);
        assert!(about(), "the other server was noticed");
    }
    let keys: Vec<RecordKey> = (0..20).map(record).collect();
    let stored = b.engine.shared().store.records(&keys).await.expect("a read");
    for (i, key) in keys.iter().enumerate() {
        let expected = if i == 3 { 7 } else { 4 };
        let found = &stored[key];
        let n = found.fields.get(&"n".into()).expect("a field").value.as_str().to_owned();
        assert_eq!((found.version, n), (expected, expected.to_string()), "{key:?}");
    }
}

fn token(leased: &Leased) -> LeaseToken {
    leased.job.stages[leased.stage_no].token(leased.job.key.uid).expect("a lease")
}

fn beat(leased: &Leased) -> RenewLeases {
    RenewLeases { namespace: DEFAULT, tokens: vec![token(leased)] }
}

/// A change of a record that is wanted only for who holds a lease.
fn fenced_update(leased: &Leased) -> Commit {
    let one = FieldOp { field: "n".into(), change: FieldChange::Increment(1.0), expected_version: None };
    let update = RecordUpdate { key: record(0), operations: vec![one], expected_version: None, allow_missing: true };
    let update = UpdateRecords { updates: vec![update], list: None, request: None };
    Commit {
        parts: vec![Part { operation: Box::new(update), path: "operations[0]".to_owned() }],
        lease_fence: Some((leased.job.key, StageCredential::Token(token(leased)))),
        permit_fence: None,
        namespace: DEFAULT,
        request: None,
    }
}

#[tokio::test]
async fn a_fence_holds_whoever_else_looks_at_the_job_in_the_same_group() {
    let database = database().await;
    let (a, b) = (server(&database), server(&database));
    // A heartbeat that only looks, and one that extends its lease, which is no revision either.
    for duration in [Duration::from_secs(3_600), Duration::from_millis(1)] {
        a.submit("", &[("voice", &[]), ("render", &[])], None).await.expect("submitted");
        let lost = a.lease(Duration::from_secs(20)).await.remove(0);
        let held = a.lease_for(Duration::from_secs(20), Some(duration)).await.remove(0);
        // This server still remembers the job with both leases.
        b.complete(&lost).await.expect("completed elsewhere");
        let beat = beat(&held);
        let commit = fenced_update(&lost);
        let (beat, commit) = futures::join!(a.engine.execute(beat, None), a.engine.execute(commit, None));
        beat.expect("its lease is there");
        assert!(matches!(commit, Err(Error::Refused(_))), "{commit:?}");
        assert!(a.engine.shared().store.records(&[record(0)]).await.expect("a read").is_empty());
        b.complete(&held).await.expect("completed");
    }
}

/// Somebody who is no server.
async fn session(database: &TestDatabase) -> Client {
    let target = Database::parse(database.url()).expect("our own URL");
    target.connect("").await.expect("Postgres listens")
}

impl Server {
    /// Waits until something was passed on to the contended lane.
    async fn passed_on(&self) {
        while self.engine.shared().figures.contended.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn what_is_passed_on_during_a_drain_is_still_done() {
    let database = database().await;
    let server = server(&database);
    // So many that they do not go by the main lane.
    server.add(0..1_200).await.expect("made");
    let other = session(&database).await;
    other.batch_execute("BEGIN; SELECT FROM records WHERE record_id = 'r7' FOR UPDATE").await.expect("held");
    let release = async {
        server.passed_on().await;
        other.batch_execute("COMMIT").await.expect("released");
    };
    let all = async { futures::join!(server.add(0..1_200), server.engine.drain(), release) };
    let (added, (), ()) = tokio::time::timeout(Duration::from_secs(20), all).await.expect("in time");
    assert!(added.expect("added").records.iter().all(|outcome| outcome.record.version == 2));
    assert!(matches!(server.add(0..1).await, Err(Error::Draining)));
}

#[tokio::test]
async fn a_fence_waits_for_who_is_about_to_end_the_lease_beside_a_renewal_too() {
    let database = database().await;
    let a = server(&database);
    a.submit("", &[("voice", &[]), ("render", &[])], None).await.expect("submitted");
    let fence = a.lease(Duration::from_secs(20)).await.remove(0);
    let renewed = a.lease_for(Duration::from_secs(20), Some(Duration::from_millis(1))).await.remove(0);
    let other = session(&database).await;
    let ending = "BEGIN; UPDATE jobs SET revision = revision + 1";
    other.batch_execute(ending).await.expect("somebody is about to write the job");

    let both =
        futures::future::join(a.engine.execute(beat(&renewed), None), a.engine.execute(fenced_update(&fence), None));
    let mut both = std::pin::pin!(tokio::time::timeout(Duration::from_secs(20), both));
    tokio::select! {
        _done = &mut both => panic!("the fence was read and not kept"),
        () = a.passed_on() => {}
    }
    assert!(a.engine.shared().store.records(&[record(0)]).await.expect("a read").is_empty());
    other.batch_execute("ROLLBACK").await.expect("it thought better of it");
    let (renewal, commit) = both.await.expect("in time");
    assert!(renewal.is_ok() && commit.expect("still fenced").applied);
}
