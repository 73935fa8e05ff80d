//! The engine over a real database: jobs from submission to end, and several engines that write the same rows.

mod contention;
mod leases;
mod many_queues;
mod row_counts;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Engine;
use super::dispatcher::{Dispatcher, Leased, Poll, PollEnd};
use crate::config::Config;
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
use crate::store::tests::database;

const DEFAULT: NamespaceId = NamespaceId(1);

struct Server {
    engine: Engine,
    dispatcher: Arc<Dispatcher>,
    shutdown: CancellationToken,
}

fn server(database: &TestDatabase) -> Server {
    let (target, config) = (Database::parse(database.url()).expect("our own URL"), &Config::default());
    let store = Store::new(target, config.into()).expect("a pool");
    let engine = Engine::start(store, Arc::new(Hub::new(config.into())), config.into());
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
async fn job_goes_from_submission_to_end() {
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
async fn repeated_request_is_answered_and_not_applied_again_on_any_server() {
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
async fn lease_that_another_server_renewed_is_not_reaped() {
    let database = database().await;
    let server = server(&database);
    let client = server.engine.shared().store.target.connect("").await.expect("a connection");
    for is_renewed in [false, true] {
        server.submit("", &[("voice", &[])], None).await.expect("submitted");
        let leased = server.lease_for(Duration::from_secs(20), Some(Duration::from_millis(50))).await.remove(0);
        let stage = &leased.job.stages[leased.stage_no];
        let (lease, token_secret) = (stage.lease().expect("a lease"), stage.token_secret.expect("a lease"));
        if is_renewed {
            // As another server does it: the revision stays the same.
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
async fn job_recreated_by_another_server_has_all_its_stages() {
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
    b.submit("film-1", &[("voice", &[]), ("render", &[])], None).await.expect("submitted again");
    let noted = note(&a, "four").await.expect("noted");
    assert_eq!((noted.jobs[0].revision, noted.jobs[0].stages.len()), (2, 2), "nothing of the old one");
}

#[tokio::test]
async fn read_of_a_cached_job_returns_only_leases_and_changes() {
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

fn token(leased: &Leased) -> LeaseToken {
    leased.job.stages[leased.stage_no].token(leased.job.key.uid).expect("a lease")
}

fn renewal(leased: &Leased) -> RenewLeases {
    RenewLeases { namespace: DEFAULT, tokens: vec![token(leased)] }
}

/// A change of a record that is refused unless a lease is held.
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
async fn fence_holds_beside_any_other_reader_of_the_job_in_its_group() {
    let database = database().await;
    let (a, b) = (server(&database), server(&database));
    // A heartbeat that only reads its lease, and one that extends it; neither changes the revision.
    for duration in [Duration::from_secs(3_600), Duration::from_millis(1)] {
        a.submit("", &[("voice", &[]), ("render", &[])], None).await.expect("submitted");
        let lost = a.lease(Duration::from_secs(20)).await.remove(0);
        let held = a.lease_for(Duration::from_secs(20), Some(duration)).await.remove(0);
        // Server a still has the job with both leases in its cache.
        b.complete(&lost).await.expect("completed elsewhere");
        let renewal = renewal(&held);
        let commit = fenced_update(&lost);
        let (renewal, commit) = futures::join!(a.engine.execute(renewal, None), a.engine.execute(commit, None));
        renewal.expect("its lease is there");
        assert!(matches!(commit, Err(Error::Refused(_))), "{commit:?}");
        assert!(a.engine.shared().store.records(&[record(0)]).await.expect("a read").is_empty());
        b.complete(&held).await.expect("completed");
    }
}

/// A session that is no server.
async fn session(database: &TestDatabase) -> Client {
    let target = Database::parse(database.url()).expect("our own URL");
    target.connect("").await.expect("Postgres listens")
}

impl Server {
    /// Waits until an operation was requeued before the locking lane.
    async fn requeued(&self) {
        while self.engine.shared().figures.contended.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn fence_waits_for_an_uncommitted_write_of_its_job_beside_a_renewal() {
    let database = database().await;
    let a = server(&database);
    a.submit("", &[("voice", &[]), ("render", &[])], None).await.expect("submitted");
    let fence = a.lease(Duration::from_secs(20)).await.remove(0);
    let renewed = a.lease_for(Duration::from_secs(20), Some(Duration::from_millis(1))).await.remove(0);
    let other = session(&database).await;
    let ending = "BEGIN; UPDATE jobs SET revision = revision + 1";
    other.batch_execute(ending).await.expect("an uncommitted write of the job");

    let both =
        futures::future::join(a.engine.execute(renewal(&renewed), None), a.engine.execute(fenced_update(&fence), None));
    let mut both = std::pin::pin!(tokio::time::timeout(Duration::from_secs(20), both));
    tokio::select! {
        _done = &mut both => panic!("the fence was read and not kept"),
        () = a.requeued() => {}
    }
    assert!(a.engine.shared().store.records(&[record(0)]).await.expect("a read").is_empty());
    other.batch_execute("ROLLBACK").await.expect("rolled back");
    let (renewed, commit) = both.await.expect("in time");
    assert!(renewed.is_ok() && commit.expect("still fenced").applied);
}
