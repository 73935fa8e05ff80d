//! Calls through both charges: passes, refusals, and their errors.

use std::net::Ipv4Addr;
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use http_body_util::Full;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic_types::StatusExt;
use tower::{Service, ServiceBuilder, service_fn};

use super::*;
use crate::admission::arrival::{ArrivalLimits, arrival};
use crate::admission::{Authenticated, Methods, Peer};
use crate::domain::access::{Principal, RateLimits, Roles};
use crate::proto;

const SUBMIT: &str = "/interlock.v1.JobService/SubmitJob";
const BATCH: &str = "/interlock.v1.JobService/BatchSubmitJobs";
const HEARTBEAT: &str = "/interlock.v1.WorkerService/Heartbeat";
const GET: &str = "/interlock.v1.JobService/GetJob";
const WATCH: &str = "/interlock.v1.JobService/WatchJob";
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// A server that answers every call, with limits by a clock of the test.
struct Scene {
    limiter: Arc<RateLimiter<FakeRelativeClock>>,
    clock: FakeRelativeClock,
    methods: Methods,
}

impl Scene {
    fn new() -> Scene {
        let rate = |items| Some(ClassRate::per_second(items));
        Scene::with(ClientRates { read: rate(10), write: rate(5), watch: rate(1), essential: rate(10) })
    }

    fn with(rates: ClientRates) -> Scene {
        let clock = FakeRelativeClock::default();
        let limiter = Arc::new(RateLimiter::with_clock(rates, clock.clone()));
        let descriptors = [proto::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
        Scene { limiter, clock, methods: Methods::from_descriptors(&descriptors).expect("our own descriptors") }
    }

    fn request(&self, path: &str, message: &[u8]) -> Request<Full<Bytes>> {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        let mut request = Request::new(Full::new([&[0], &length[..], message].concat().into()));
        request.extensions_mut().insert(self.methods.find(path));
        request.extensions_mut().insert(Peer { address: Some(Ipv4Addr::LOCALHOST.into()), certificate: None });
        request
    }

    /// Sends a request through all layers that charge it.
    async fn send(&self, request: Request<Full<Bytes>>) -> Response {
        let limits = ArrivalLimits {
            message_bytes: 1 << 20,
            calls: 100,
            bytes: 1 << 20,
            time: Duration::from_secs(10),
            bytes_per_second: 1 << 20,
        };
        let served = service_fn(|_: Request<MessageBody<Full<Bytes>>>| {
            std::future::ready(Ok::<_, Infallible>(http::Response::new(tonic::body::Body::empty())))
        });
        let layers = ServiceBuilder::new()
            .layer(rate_limit(self.limiter.clone()))
            .layer(arrival(limits))
            .layer(rate_limit_items(self.limiter.clone()));
        layers.service(served).call(request).await.expect("infallible")
    }

    /// Tokens left after an accepted call, or the refusal.
    async fn call(&self, path: &str, message: &[u8]) -> Result<Option<u32>, Status> {
        outcome(&self.send(self.request(path, message)).await)
    }

    /// Number of `calls` calls that pass.
    async fn passes(&self, path: &str, calls: usize) -> usize {
        let mut passed = 0;
        for _ in 0..calls {
            passed += usize::from(self.call(path, &[]).await.is_ok());
        }
        passed
    }

    fn figures(&self, class: CallClass) -> (u64, u64) {
        let figures = self.limiter.classes()[class as usize];
        (figures.accepted, figures.refused)
    }
}

fn outcome(response: &Response) -> Result<Option<u32>, Status> {
    if let Some(status) = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok) {
        return Err(status);
    }
    Ok(response
        .headers()
        .get("ratelimit-remaining")
        .map(|left| left.to_str().expect("digits").parse().expect("digits")))
}

fn batch(jobs: usize) -> Vec<u8> {
    proto::BatchSubmitJobsRequest { jobs: vec![Default::default(); jobs], ..Default::default() }.encode_to_vec()
}

fn metadata(status: &Status) -> [String; 4] {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo").clone();
    assert_eq!((status.code(), info.reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    ["class", "limit", "burst", "remaining"].map(|key| info.metadata[key].clone())
}

fn wait(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info().and_then(|info| info.retry_delay)
}

#[tokio::test]
async fn each_class_has_a_bucket_of_its_own() {
    let scene = Scene::new();
    assert_eq!(scene.passes(SUBMIT, 30).await, 10);
    // A client that writes too much keeps its leases, and may still read.
    assert_eq!(scene.passes(HEARTBEAT, 30).await, 20);
    assert_eq!((scene.passes(GET, 30).await, scene.passes(WATCH, 30).await), (20, 2));
    assert_eq!(scene.passes(CHECK, 1_000).await, 1_000);
    assert_eq!(scene.figures(CallClass::Write), (10, 20));
    assert_eq!(scene.figures(CallClass::Essential), (20, 10));
    assert_eq!((scene.figures(CallClass::Read), scene.figures(CallClass::Watch)), ((20, 10), (2, 28)));
}

#[tokio::test]
async fn a_refusal_says_when_and_a_call_after_exactly_that_wait_passes() {
    let scene = Scene::new();
    for left in (0..10).rev() {
        assert_eq!(scene.call(SUBMIT, &[]).await.expect("accepted"), Some(left));
    }
    let status = scene.call(SUBMIT, &[]).await.expect_err("refused");
    assert_eq!(metadata(&status), ["write", "5/s", "10", "0"]);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").expect("a pushback"), "200");
    let wait = wait(&status).expect("a RetryInfo");
    assert_eq!(wait, Duration::from_millis(200));
    scene.clock.advance(wait - Duration::from_nanos(1));
    scene.call(SUBMIT, &[]).await.expect_err("too early");
    scene.clock.advance(Duration::from_nanos(1));
    assert_eq!(scene.call(SUBMIT, &[]).await.expect("in time"), Some(0));
}

#[tokio::test]
async fn a_batch_costs_its_items_and_is_refused_whole() {
    let scene = Scene::new();
    assert_eq!(scene.call(BATCH, &batch(7)).await.expect("accepted"), Some(3));
    let status = scene.call(BATCH, &batch(4)).await.expect_err("three are left");
    // One of the three was charged before the message was read.
    assert_eq!(metadata(&status), ["write", "5/s", "10", "2"]);
    assert_eq!(wait(&status), Some(Duration::from_millis(400)));
    scene.clock.advance(Duration::from_millis(400));
    assert_eq!(scene.call(BATCH, &batch(4)).await.expect("in time"), Some(0));
    assert_eq!(scene.figures(CallClass::Write), (2, 1));
}

#[tokio::test]
async fn a_batch_beyond_the_burst_is_refused_for_ever() {
    let scene = Scene::new();
    let status = scene.call(BATCH, &batch(11)).await.expect_err("more than the burst");
    assert_eq!(status.message(), "a batch of 11 exceeds the write burst of 10 of this client: send smaller batches");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").expect("a pushback"), "-1");
    assert_eq!(wait(&status), None);
    assert_eq!(scene.call(BATCH, &batch(9)).await.expect("accepted"), Some(0));
}

#[tokio::test]
async fn a_malformed_batch_is_left_to_its_decoder() {
    let scene = Scene::new();
    let bytes = batch(20);
    assert_eq!(scene.call(BATCH, &bytes[..1]).await.expect("passed on"), None.or(Some(9)));
    assert_eq!(scene.call(BATCH, &[0xff; 40]).await.expect("passed on"), Some(8));
}

#[tokio::test]
async fn a_credential_brings_its_own_rates_and_namespaces_do_not_matter() {
    let scene = Scene::new();
    let rates = RateLimits { write: Some(1), ..RateLimits::default() };
    let principal = Principal { name: "key:ada".into(), roles: Roles::NONE, namespaces: [].into(), rates };
    let principal = Arc::new(principal);
    let mut passed = 0;
    for i in 0..10 {
        let mut request = scene.request(SUBMIT, &[]);
        request.extensions_mut().insert(Authenticated(principal.clone(), CancellationToken::new()));
        let namespace = HeaderValue::from_str(&format!("team-{i}")).expect("ASCII");
        request.headers_mut().insert("interlock-namespace", namespace);
        passed += usize::from(outcome(&scene.send(request).await).is_ok());
    }
    assert_eq!(passed, 2);
    let figures = scene.limiter.figures();
    let refused: Vec<_> = figures.clients.iter().map(|client| (&*client.name, client.class, client.refused)).collect();
    assert_eq!(refused, [("key:ada", CallClass::Write, 8)]);
}

#[tokio::test]
async fn without_limits_nothing_is_counted_but_a_credential_may_still_have_some() {
    let scene = Scene::with(ClientRates::default());
    assert_eq!(scene.call(SUBMIT, &[]).await.expect("accepted"), None);
    assert_eq!(scene.passes(SUBMIT, 100).await, 100);
    let rates = RateLimits { write: Some(1), ..RateLimits::default() };
    let principal = Principal { name: "key:ada".into(), roles: Roles::NONE, namespaces: [].into(), rates };
    let mut request = scene.request(SUBMIT, &[]);
    request.extensions_mut().insert(Authenticated(Arc::new(principal), CancellationToken::new()));
    assert_eq!(outcome(&scene.send(request).await).expect("accepted"), Some(1));
}

#[tokio::test]
async fn the_clients_with_the_most_refusals_are_listed_first_and_at_most_a_hundred() {
    let scene = Scene::new();
    for i in 0..110_u32 {
        for _ in 0..10 + i {
            let mut request = scene.request(SUBMIT, &[]);
            let namespace = HeaderValue::from_str(&format!("team-{i}")).expect("ASCII");
            request.headers_mut().insert("interlock-namespace", namespace);
            scene.send(request).await;
        }
    }
    let clients = scene.limiter.figures().clients;
    assert_eq!(clients.len(), 100);
    assert_eq!((&*clients[0].name, clients[0].refused), ("team-109 127.0.0.1", 109));
    assert_eq!((&*clients[99].name, clients[99].refused), ("team-10 127.0.0.1", 10));
    assert_eq!(scene.figures(CallClass::Write).1, (0..110).sum::<u64>());
}
