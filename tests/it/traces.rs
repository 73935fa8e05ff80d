//! Traces, read from a collector: of calls, of the groups that they are committed in, and of nothing else.

use std::time::{Duration, Instant};

use interlock::proto::{self, Role};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tonic::Request;

use crate::front_door::credentials::scene::{Key, keyed};
use crate::harness::{
    Api, Collector, Database, Program, Server, attribute, eventually, new_job, new_stage, ok, token, unique,
};

/// A span of a caller.
struct Caller {
    trace_id: u128,
    span_id: u64,
}

impl Caller {
    fn new() -> Caller {
        Caller { trace_id: uuid::Uuid::new_v4().as_u128(), span_id: uuid::Uuid::new_v4().as_u64_pair().1 }
    }

    /// A request made within it.
    fn request<T>(&self, is_sampled: bool, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let parent = format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(is_sampled));
        request.metadata_mut().insert("traceparent", parent.parse().expect("ASCII"));
        request
    }

    fn is_parent_of(&self, span: &Span) -> bool {
        span.trace_id == self.trace_id.to_be_bytes() && span.parent_span_id == self.span_id.to_be_bytes()
    }
}

fn is_child(parent: &Span, name: &str) -> impl Fn(&Span) -> bool {
    move |span| span.name == name && span.trace_id == parent.trace_id && span.parent_span_id == parent.span_id
}

/// A server that sends traces, and traces nothing by itself.
async fn traced(database: &Database, url: &str) -> Program {
    Program::with_environment(database, &[("INTERLOCK_OTLP_ENDPOINT", url), ("INTERLOCK_OTLP_SAMPLE_RATIO", "0")]).await
}

#[tokio::test]
async fn a_call_is_in_its_callers_trace_and_its_group_links_to_it() {
    let (collector, url) = Collector::start().await;
    let database = Database::fresh().await;
    let program = traced(&database, &url).await;
    let (api, caller) = (&program.api, Caller::new());
    api.submit(new_job("", vec![new_stage("a")])).await;
    let poll = proto::LeaseStagesRequest {
        worker_id: "w".to_owned(),
        queues: vec!["default".to_owned()],
        wait: crate::harness::seconds(20),
        ..Default::default()
    };
    let lease = ok(api.workers().lease_stages(caller.request(true, poll)).await).leases.remove(0);
    let complete = proto::CompleteStageRequest { target: token(&lease), ..Default::default() };
    ok(api.workers().complete_stage(caller.request(true, complete)).await);

    for method in ["LeaseStages", "CompleteStage"] {
        let name = format!("interlock.v1.WorkerService/{method}");
        let call = collector.span(&name, |span| span.name == name).await;
        assert!(caller.is_parent_of(&call), "{call:?}");
        assert_eq!(call.kind(), SpanKind::Server);
        for (key, value) in [
            ("rpc.system", "grpc"),
            ("rpc.service", "interlock.v1.WorkerService"),
            ("rpc.method", method),
            ("rpc.grpc.status_code", "0"),
            ("network.peer.address", "127.0.0.1"),
        ] {
            assert_eq!(attribute(&call, key), value, "{key}");
        }
        let wait = collector.span("its wait", is_child(&call, "queue wait")).await;
        let commit = collector.span("its commit", is_child(&call, "commit")).await;
        assert!(wait.end_time_unix_nano <= commit.end_time_unix_nano);
        let group = collector
            .span("its group", |span| {
                span.name == "group commit" && span.links.iter().any(|link| link.span_id == call.span_id)
            })
            .await;
        assert_ne!(group.trace_id, call.trace_id, "a group has many causes and no parent");
        assert!(group.parent_span_id.is_empty());
        assert!(group.links.iter().all(|link| link.trace_id == call.trace_id));
        assert_eq!(attribute(&group, "interlock.group_id"), attribute(&commit, "interlock.group_id"));
        assert_eq!(attribute(&group, "interlock.outcome"), "applied");
        let write = collector.span("its statement", is_child(&group, "write")).await;
        assert!(group.start_time_unix_nano <= write.start_time_unix_nano);
        assert!(write.end_time_unix_nano <= group.end_time_unix_nano);
    }
    // SubmitJob had no caller that is traced, and the share of others is nothing.
    assert!(collector.spans().iter().all(|span| !span.name.contains("SubmitJob")));
}

#[tokio::test]
async fn a_refused_call_has_its_reason_and_an_untraced_one_no_span() {
    let (collector, url) = Collector::start().await;
    let database = Database::fresh().await;
    let program = traced(&database, &url).await;
    let (traced, untraced) = (Caller::new(), Caller::new());
    let missing = || proto::GetJobRequest { job_id: "no-such-job".to_owned(), ..Default::default() };
    for request in [untraced.request(false, missing()), traced.request(true, missing())] {
        program.api.jobs().get_job(request).await.expect_err("there is no such job");
    }
    let unknown_method = tonic::client::Grpc::new(program.api.channel.clone());
    let path = || "/interlock.v1.JobService/Nothing".parse().expect("a path");
    let codec = tonic_prost::ProstCodec::<proto::GetJobRequest, proto::GetJobResponse>::default();
    let mut unknown_method = unknown_method;
    unknown_method.ready().await.expect("a connection");
    unknown_method.unary(traced.request(true, missing()), path(), codec).await.expect_err("there is no such method");
    program.terminate();
    assert_eq!(program.ended().await, Some(0));

    // What waits to be sent is sent at the end.
    let spans = collector.spans();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["interlock.v1.JobService/GetJob", "unknown"]);
    assert!(spans.iter().all(|span| traced.is_parent_of(span)));
    assert_eq!(attribute(&spans[0], "rpc.grpc.status_code"), "5");
    assert_eq!(attribute(&spans[0], "interlock.reason"), "JOB_NOT_FOUND");
    // The caller's mistake is no fault of the server; a method that is not there counts as one.
    assert_eq!(spans[0].status.as_ref().map_or(StatusCode::Unset, |status| status.code()), StatusCode::Unset);
    assert_eq!(spans[1].status.as_ref().map_or(StatusCode::Unset, |status| status.code()), StatusCode::Error);
}

#[tokio::test]
async fn all_calls_of_one_group_are_its_links() {
    let (collector, url) = Collector::start().await;
    let database = Database::fresh().await;
    let program = traced(&database, &url).await;
    let (api, caller) = (&program.api, Caller::new());
    let submits = (0..200).map(|_| {
        let (mut jobs, request) = (api.jobs(), caller.request(true, new_job(&unique(), vec![new_stage("a")])));
        async move { jobs.submit_job(request).await }
    });
    futures::future::join_all(submits).await.into_iter().for_each(|answer| drop(ok(answer)));
    program.terminate();
    assert_eq!(program.ended().await, Some(0));

    let spans = collector.spans();
    let named = |name: &'static str| spans.iter().filter(move |span| span.name == name);
    let calls: Vec<&Span> = named("interlock.v1.JobService/SubmitJob").collect();
    assert_eq!(calls.len(), 200);
    let links: Vec<&[u8]> =
        named("group commit").flat_map(|group| &group.links).map(|link| link.span_id.as_slice()).collect();
    assert!(calls.iter().all(|call| links.contains(&call.span_id.as_slice())));
    assert!(named("group commit").count() < 200, "some were committed together");
    assert!(named("group commit").all(|group| group.dropped_links_count == 0));
}

#[tokio::test]
async fn absent_collector_costs_a_log_line_and_no_call() {
    let database = Database::fresh().await;
    // A port that was free a moment ago.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let url = format!("http://{nowhere}");
    let environment = [("INTERLOCK_OTLP_ENDPOINT", &*url), ("INTERLOCK_OTLP_SAMPLE_RATIO", "1")];
    let (program, log) = Program::logged_with(&database, "info", &[], &environment).await;
    let line = "the collector of traces takes no spans";
    for _ in 0..20 {
        program.api.submit(new_job("", vec![new_stage("a")])).await;
    }
    eventually("the line", async || log.text().contains(line).then_some(())).await;
    program.api.submit(new_job("", vec![new_stage("a")])).await;
    let stopping = Instant::now();
    program.terminate();
    assert_eq!(program.ended().await, Some(0));
    assert!(stopping.elapsed() < Duration::from_secs(10), "the drain does not wait for the collector");
    assert_eq!(log.text().matches(line).count(), 1, "{}", log.text());
    assert!(!log.text().contains("group commit"), "spans are no log lines: {}", log.text());
}

/// Calls that ask for a trace, 50 at a time, and the most that may get one: 400 at once, and 200 a second.
async fn flood(api: &Api, calls: usize) -> usize {
    let began = Instant::now();
    let caller = Caller::new();
    for _ in 0..calls / 50 {
        let missing = (0..50).map(|_| {
            let request =
                caller.request(true, proto::GetJobRequest { job_id: "no-such-job".to_owned(), ..Default::default() });
            let mut jobs = api.jobs();
            async move { jobs.get_job(request).await }
        });
        futures::future::join_all(missing).await.into_iter().for_each(|answer| drop(answer.expect_err("no such job")));
    }
    400 + 200 * (began.elapsed().as_secs() as usize + 1)
}

async fn calls_of(collector: &Collector, name: &str) -> usize {
    collector.spans().iter().filter(|span| span.name == name).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_credential_get_a_bounded_number_of_traces() {
    let (collector, url) = Collector::start().await;
    let database = Database::fresh().await;
    let program = traced(&database, &url).await;
    let most = flood(&program.api, 3_000).await;
    program.terminate();
    assert_eq!(program.ended().await, Some(0));
    let traced = calls_of(&collector, "interlock.v1.JobService/GetJob").await;
    assert!((400..=most).contains(&traced), "{traced} of at most {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_credential_do_not_use_up_the_traces_of_others() {
    let (collector, url) = Collector::start().await;
    let open = Server::start().await;
    let settings = [
        ("INTERLOCK_OTLP_ENDPOINT", &*url),
        // All calls are to be traced, those of strangers not.
        ("INTERLOCK_OTLP_SAMPLE_RATIO", "1"),
        ("INTERLOCK_AUTH", "required"),
    ];
    let program = Program::with_environment(&open.database, &settings).await;
    let key = key(&open).await;
    // A key counts once the server knows it.
    ok(program.api.admin().get_server_info(keyed(&key, proto::GetServerInfoRequest {})).await);
    let most = flood(&program.api, 3_000).await;
    let caller = Caller::new();
    for is_sampled in [true, false] {
        let request = keyed(&key, proto::ListJobsRequest::default());
        let (metadata, extensions, message) = request.into_parts();
        let mut request = caller.request(is_sampled, message);
        request.metadata_mut().insert("authorization", metadata.get("authorization").expect("a key").clone());
        drop(extensions);
        ok(program.api.jobs().list_jobs(request).await);
    }
    ok(program.api.jobs().list_jobs(keyed(&key, proto::ListJobsRequest::default())).await);
    program.terminate();
    assert_eq!(program.ended().await, Some(0));
    let of_strangers = calls_of(&collector, "interlock.v1.JobService/GetJob").await;
    assert!((1..=most).contains(&of_strangers), "{of_strangers} of at most {most}");
    // The one that asks for it, and the one that says nothing.
    assert_eq!(calls_of(&collector, "interlock.v1.JobService/ListJobs").await, 2);
}

async fn key(open: &Server) -> Key {
    let request = proto::CreateKeyRequest {
        label: "test".to_owned(),
        roles: vec![Role::Read.into()],
        namespaces: vec!["*".to_owned()],
        ..Default::default()
    };
    let created = ok(open.api.admin().create_key(request).await);
    Key { id: created.key.expect("a key").key_id, token: created.bearer_token }
}
