//! The rpcs over a real database, called as the transport calls them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Full;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use tower::{Layer, ServiceExt};
use uuid::Uuid;

use super::admin_service::AdminRpcs;
use super::job_service::JobRpcs;
use super::record_service::RecordRpcs;
use super::timeline::gate::TimelineGate;
use super::worker_service::WorkerRpcs;
use super::{Namespaces, Services};
use crate::admission::UntilSent;
use crate::admission::{ClientRates, Methods, RateLimiter, Statistics, protocol_errors};
use crate::config::Config;
use crate::dev::TestDatabase;
use crate::domain::id::NamespaceId;
use crate::domain::record::{Record, RecordKey};
use crate::engine::Engine;
use crate::engine::dispatcher::Dispatcher;
use crate::feed::{Feed, FeedSettings, Hub};
use crate::operation::overlay::Key;
use crate::proto::admin_service_server::AdminService as _;
use crate::proto::job_service_server::{JobService as _, JobServiceServer};
use crate::proto::record_service_server::RecordService as _;
use crate::proto::worker_service_server::WorkerService as _;
use crate::proto::*;
use crate::store::Store;
use crate::store::connection::Target;
use crate::store::tests::database;
use crate::task::BackgroundJobs;

struct Server {
    services: Arc<Services>,
    jobs: JobRpcs,
    workers: WorkerRpcs,
    admin: AdminRpcs,
    /// Wakes calls that wait for a commit.
    _feed: Feed,
    _database: TestDatabase,
}

async fn server() -> Server {
    server_with((&Config::default()).into()).await
}

async fn server_with(settings: FeedSettings) -> Server {
    let database = database().await;
    let store = Store::new(Target::parse(database.url()).expect("our own URL"), (&Config::default()).into());
    let store = store.expect("a pool");
    let hub = Arc::new(Hub::new(settings));
    let feed = Feed::start(&hub, &store);
    let engine = Engine::start(store.clone(), hub.clone(), (&Config::default()).into());
    let dispatcher = Arc::new(Dispatcher::new(engine.clone()));
    let shutdown = CancellationToken::new();
    tokio::spawn(dispatcher.clone().run(shutdown.clone()));
    let methods = Methods::from_descriptors(&[FILE_DESCRIPTOR_SET]).expect("our own descriptors");
    let services = Arc::new(Services {
        loops: Arc::new(BackgroundJobs::start(&engine, (&Config::default()).into(), &shutdown)),
        namespaces: Arc::new(Namespaces::new(store.clone())),
        statistics: Arc::new(Statistics::new(methods)),
        rate_limiter: Arc::new(RateLimiter::new(ClientRates::default())),
        worker_instances: Arc::default(),
        timeline_gate: Arc::new(TimelineGate::new((&Config::default()).into())),
        started: SystemTime::now(),
        engine,
        watch_store: store.for_watches(),
        replica: None,
        primary: None,
        store,
        hub,
        dispatcher,
        shutdown,
    });
    let (jobs, workers) = (JobRpcs(services.clone()), WorkerRpcs(services.clone()));
    Server { jobs, workers, admin: AdminRpcs(services.clone()), services, _feed: feed, _database: database }
}

fn object(key: &str, text: &str) -> Option<Struct> {
    let value = Value { kind: Some(Kind::StringValue(text.to_owned())) };
    Some(Struct { fields: [(key.to_owned(), value)].into() })
}

fn spec(name: &str, depends_on: &[&str]) -> StageSpec {
    let depends_on = depends_on.iter().map(|name| (*name).to_owned()).collect();
    StageSpec { name: name.to_owned(), depends_on, input: object("of", name), ..Default::default() }
}

/// A job; an empty text stands for an id that is not given.
fn film(job_id: &str, request_id: &str) -> SubmitJobRequest {
    let given = |id: &str| (!id.is_empty()).then(|| id.to_owned());
    SubmitJobRequest {
        job_id: given(job_id),
        request_id: given(request_id),
        kind: "film".to_owned(),
        payload: object("title", "Metropolis"),
        stages: vec![spec("cut", &[]), spec("mix", &["cut"])],
        retry_policy: Some(RetryPolicy { max_attempts: 7, ..Default::default() }),
        ..Default::default()
    }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().expect("ErrorInfo").reason.clone()
}

impl Server {
    async fn submit(&self, request: SubmitJobRequest) -> Result<SubmitJobResponse, Status> {
        self.jobs.submit_job(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    async fn lease(&self) -> Lease {
        let wait = Some(prost_types::Duration { seconds: 20, nanos: 0 });
        let request = LeaseStagesRequest { worker_id: "w".into(), wait, ..Default::default() };
        let reply = self.workers.lease_stages(Request::new(request)).await.expect("leased");
        // As the outermost layer does when the answer has gone out.
        reply.extensions().get::<UntilSent>().expect("leases on their way").sent();
        reply.into_inner().leases.into_iter().next().expect("a lease")
    }

    async fn complete(&self, request: CompleteStageRequest) -> Result<CompleteStageResponse, Status> {
        self.workers.complete_stage(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    async fn job(&self, job_id: &str) -> Result<Job, Status> {
        let request = GetJobRequest { job_id: job_id.to_owned(), ..Default::default() };
        Ok(self.jobs.get_job(Request::new(request)).await?.into_inner().job.expect("a job"))
    }
}

fn done(lease: &Lease, add_stages: Vec<StageSpec>) -> CompleteStageRequest {
    CompleteStageRequest {
        target: Some(StageTarget::leased(lease.lease_token.clone())),
        artifacts: object("file", "a"),
        job_result: object("made", "yes"),
        add_stages,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_job_is_submitted_done_and_waited_for() {
    let server = server().await;
    let submitted = server.submit(film("film-1", "")).await.expect("submitted");
    let job = submitted.job.expect("a job");
    assert_eq!(
        (job.payload.clone(), job.stages.len(), submitted.applied_version),
        (object("title", "Metropolis"), 2, 1)
    );
    assert_eq!(server.job("film-1").await.expect("a job"), job, "an answer from memory is that of the database");

    let lease = server.lease().await;
    assert_eq!(
        (&*lease.stage_name, lease.input.clone(), lease.payload.clone()),
        ("cut", object("of", "cut"), job.payload)
    );
    let first = server.complete(done(&lease, vec![spec("extra", &["cut"])])).await.expect("completed");
    let stage = first.stage.clone().expect("a stage");
    assert_eq!((stage.state(), stage.artifacts, first.applied), (StageState::Succeeded, object("file", "a"), true));
    let again = server.complete(done(&lease, vec![spec("extra", &["cut"])])).await.expect("a repeat");
    assert_eq!(
        (again.stage, again.replayed, again.applied_job_version),
        (first.stage, true, first.applied_job_version)
    );

    let waiting = server.jobs.wait_job(Request::new(WaitJobRequest { job_id: "film-1".into(), wait: None }));
    let working = async {
        for _ in 0..2 {
            let lease = server.lease().await;
            assert_eq!(lease.max_attempts, 7, "an added stage has its job's policy too");
            assert_eq!(lease.dependencies[0].artifacts, object("file", "a"));
            server.complete(done(&lease, vec![])).await.expect("completed");
        }
    };
    let (waited, ()) = tokio::join!(waiting, working);
    let waited = waited.expect("an answer").into_inner();
    let job = waited.job.expect("a job");
    assert!(waited.terminal && job.state() == JobState::Succeeded && job.result == object("made", "yes"));
    let request = ListJobEventsRequest { job_id: "film-1".into(), page_size: 2, ..Default::default() };
    let page = server.jobs.list_job_events(Request::new(request.clone())).await.expect("history").into_inner();
    let next = ListJobEventsRequest { page_token: page.next_page_token, ..request };
    let page = server.jobs.list_job_events(Request::new(next)).await.expect("history").into_inner();
    assert_eq!(page.events.iter().map(|event| event.version).collect::<Vec<_>>(), [3, 4]);
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_says_so() {
    let server = server().await;
    let id = Uuid::new_v4().to_string();
    let first = server.submit(film("", &id)).await.expect("submitted");
    let again = server.submit(film("", &id)).await.expect("replayed");
    assert_eq!((again.job, again.replayed, again.applied_version), (first.job.clone(), true, 1));
    let reused = server.submit(film("other", &id)).await.expect_err("another content");
    assert_eq!(reason(&reused), "REQUEST_ID_REUSED");

    let stage_ref = Some(StageRef { job_id: first.job.expect("a job").job_id, stage_name: "cut".into() });
    let lease_duration = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let request_id = Some(Uuid::new_v4().to_string());
    let start =
        StartStageRequest { stage_ref, worker_id: "o".into(), lease_duration, request_id, ..Default::default() };
    let started = server.workers.start_stage(Request::new(start.clone())).await.expect("started").into_inner();
    let again = server.workers.start_stage(Request::new(start.clone())).await.expect("replayed").into_inner();
    let token = |started: &StartStageResponse| started.lease.as_ref().map(|lease| lease.lease_token.clone());
    assert!(again.replayed && token(&again).is_some() && token(&again) == token(&started));
    server.complete(done(&started.lease.expect("a lease"), vec![])).await.expect("completed");
    let again = server.workers.start_stage(Request::new(start)).await.expect("replayed").into_inner();
    assert_eq!((again.lease, again.stage.map(|stage| stage.state())), (None, Some(StageState::Succeeded)));
}

#[tokio::test]
async fn what_is_only_validated_is_not_there() {
    let server = server().await;
    let only = |job_id: &str| SubmitJobRequest { validate_only: true, ..film(job_id, "") };
    let job = server.submit(only("film-1")).await.expect("valid").job.expect("a job");
    assert_eq!((job.version, job.stages.len(), &*job.job_id), (0, 2, "film-1"));
    assert!(job.create_time.is_some_and(|at| at.seconds > 1_700_000_000), "by the database's clock");
    assert_eq!(server.job("film-1").await.expect_err("not stored").code(), Code::NotFound);
    server.submit(film("film-1", "")).await.expect("submitted");
    assert_eq!(reason(&server.submit(only("film-1")).await.expect_err("taken")), "JOB_ALREADY_EXISTS");
    assert!(server.submit(only("")).await.expect("valid").job.is_some_and(|job| job.job_id.is_empty()));
}

#[tokio::test]
async fn lists_go_on_where_they_ended() {
    let server = server().await;
    let jobs = (0..5).map(|i| film(&format!("film-{i}"), "")).collect();
    let batch = BatchSubmitJobsRequest { jobs, request_id: Some(Uuid::new_v4().to_string()) };
    let made = server.jobs.batch_submit_jobs(Request::new(batch.clone())).await.expect("made").into_inner();
    let again = server.jobs.batch_submit_jobs(Request::new(batch)).await.expect("replayed").into_inner();
    assert_eq!((again.jobs, again.replayed), (made.jobs, true));
    let mut request = ListJobsRequest { page_size: 2, order_by: "priority".into(), ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let page = server.jobs.list_jobs(Request::new(request.clone())).await.expect("a page").into_inner();
        seen.extend(page.jobs.into_iter().map(|job| (job.job_id, job.payload.is_some())));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..5).map(|i| (format!("film-{i}"), true)).collect::<Vec<_>>());
    let mut request = ListStagesRequest { job_id: "film-0".into(), page_size: 1, ..Default::default() };
    let page = server.jobs.list_stages(Request::new(request.clone())).await.expect("a page").into_inner();
    request.page_token = page.next_page_token;
    let page = server.jobs.list_stages(Request::new(request)).await.expect("a page").into_inner();
    assert_eq!((&*page.stages[0].name, &*page.next_page_token), ("mix", ""));
}

#[tokio::test]
async fn a_wait_is_over_before_its_deadline_and_a_lost_lease_is_a_status() {
    let server = server().await;
    server.submit(film("film-1", "")).await.expect("submitted");
    let mut request = Request::new(WaitJobRequest { job_id: "film-1".into(), wait: None });
    let deadline = tokio::time::Instant::now() + Duration::from_millis(300);
    request.extensions_mut().insert(crate::admission::Deadline(deadline));
    let waited = server.jobs.wait_job(request).await.expect("an answer").into_inner();
    assert!(!waited.terminal && tokio::time::Instant::now() < deadline);

    let lease = server.lease().await;
    let renewal = |lease_token: &str| LeaseRenewal { lease_token: lease_token.to_owned(), ..Default::default() };
    let stranger = crate::domain::id::LeaseToken {
        job_uid: Uuid::new_v4(),
        stage_no: 0,
        fencing_token: 1,
        secret: Uuid::new_v4(),
    };
    let renewals = vec![renewal(&stranger.to_string()), renewal(&lease.lease_token)];
    let statuses =
        server.workers.heartbeat(Request::new(HeartbeatRequest { renewals })).await.expect("statuses").into_inner();
    let directives: Vec<_> = statuses.statuses.iter().map(LeaseStatus::directive).collect();
    assert_eq!(directives, [LeaseDirective::Lost, LeaseDirective::Continue]);

    let add = |name: &str, required_by: &[&str]| {
        let required_by = required_by.iter().map(|name| (*name).to_owned()).collect();
        let target = Some(StageTarget::leased(lease.lease_token.clone()));
        let stages = vec![StageSpec { required_by, ..spec(name, &[]) }];
        Request::new(AddStagesRequest { target, stages, ..Default::default() })
    };
    let taken = server.workers.add_stages(add("mix", &[])).await.expect_err("the name is taken");
    assert_eq!((taken.code(), &*reason(&taken)), (Code::AlreadyExists, "STAGE_ALREADY_EXISTS"));
    let late = server.workers.add_stages(add("new", &["cut"])).await.expect_err("cut runs already");
    assert_eq!((late.code(), &*reason(&late)), (Code::FailedPrecondition, "INVALID_TRANSITION"));
    let added = server.workers.add_stages(add("new", &["mix"])).await.expect("added").into_inner();
    assert_eq!(added.stages.len(), 1);
}

#[tokio::test]
async fn namespaces_come_and_go() {
    let server = server().await;
    let request_id = Some(Uuid::new_v4().to_string());
    let delete = |name: &str| DeleteNamespaceRequest { name: name.to_owned(), request_id: request_id.clone() };
    let inside = || {
        let mut request = Request::new(ListJobsRequest::default());
        request.metadata_mut().insert("interlock-namespace", "team-a".parse().expect("a value"));
        server.jobs.list_jobs(request)
    };
    assert_eq!(reason(&inside().await.expect_err("not there yet")), "NAMESPACE_NOT_FOUND");
    let create = CreateNamespaceRequest { name: "team-a".into(), ..Default::default() };
    let created = server.admin.create_namespace(Request::new(create)).await.expect("created").into_inner();
    assert_eq!(created.namespace.map(|namespace| namespace.name).as_deref(), Some("team-a"));
    inside().await.expect("a list");
    let all = server
        .admin
        .list_namespaces(Request::new(ListNamespacesRequest::default()))
        .await
        .expect("a list")
        .into_inner();
    assert_eq!(all.namespaces.iter().map(|namespace| &*namespace.name).collect::<Vec<_>>(), ["default", "team-a"]);
    let refused = server.admin.delete_namespace(Request::new(delete("default"))).await.expect_err("it stays");
    assert_eq!(reason(&refused), "INVALID_FIELD");
    for replayed in [false, true] {
        let deleted = server.admin.delete_namespace(Request::new(delete("team-a"))).await.expect("deleted");
        assert_eq!(deleted.into_inner().replayed, replayed);
    }
    assert_eq!(reason(&inside().await.expect_err("gone")), "NAMESPACE_NOT_FOUND");
}

#[tokio::test]
async fn a_message_that_is_nested_too_deep_is_the_callers_mistake() {
    let server = server().await;
    let mut value = Value { kind: Some(Kind::NullValue(0)) };
    for _ in 0..200 {
        value = Value { kind: Some(Kind::ListValue(ListValue { values: vec![value] })) };
    }
    let payload = Some(Struct { fields: [("deep".to_owned(), value)].into() });
    let message = SubmitJobRequest { payload, ..film("", "") }.encode_to_vec();
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).expect("small"));
    body.extend_from_slice(&message);
    let request = http::Request::post("/interlock.v1.JobService/SubmitJob")
        .header("content-type", "application/grpc")
        .body(Full::<Bytes>::new(body.freeze()))
        .expect("a request");
    let service = protocol_errors().layer(JobServiceServer::new(server.jobs));
    let response = service.oneshot(request).await.expect("an answer");
    let status = Status::from_header_map(response.headers()).expect("a status");
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "INVALID_FIELD"));
}

#[tokio::test]
async fn a_watch_sends_a_deletion_even_if_the_cache_gets_the_deleted_record_back() {
    // Watchers look into memory this long after they were woken.
    let tick = Duration::from_millis(50);
    let server = server_with(FeedSettings { tick, ..FeedSettings::from(&Config::default()) }).await;
    let records = RecordRpcs(server.services.clone());
    let (collection, record_id) = (String::from("films"), String::from("metropolis"));
    let update = UpdateRecordRequest {
        collection: collection.clone(),
        record_id: record_id.clone(),
        allow_missing: true,
        operations: vec![FieldOperation {
            field: "takes".to_owned(),
            operation: Some(field_operation::Operation::Increment(1.0)),
            ..Default::default()
        }],
        ..Default::default()
    };
    records.update_record(Request::new(update)).await.expect("made");
    let watched = WatchedRecord { collection: collection.clone(), record_id: record_id.clone(), ..Default::default() };
    let request = WatchRecordsRequest { records: vec![watched] };
    let mut stream = records.watch_records(Request::new(request)).await.expect("a stream").into_inner();
    let mut next = async || {
        let next = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.expect("in time");
        next.expect("a message").expect("no error").update.expect("an update")
    };
    assert!(matches!(next().await, watch_records_response::Update::Record(_)));

    let key = Key::Record(RecordKey::new(NamespaceId(1), (&*collection).into(), (&*record_id).into()));
    let cache = &server.services.engine.shared().cache;
    let before = cache.get::<Record>(&key).expect("what was written");
    let delete = DeleteRecordRequest { collection, record_id, ..Default::default() };
    records.delete_record(Request::new(delete)).await.expect("deleted");
    // As a lane does that read it before.
    cache.put(key, before);
    assert!(matches!(next().await, watch_records_response::Update::Removal(_)));
}
